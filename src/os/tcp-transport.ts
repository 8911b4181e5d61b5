/**
 * TCP with TLS 1.3, and nothing less. Each side shows a certificate that it made itself; who that is, is for the link to
 * say, which knows its fingerprint and binds its own proof to this very connection.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import { CallerPlaces } from './caller-places.ts'
import { SocketStream } from './socket-stream.ts'
import type { ByteStream, Listener, Transport } from './transport.ts'

export const portDefault = 2000
/** Connections that have not come through the TLS handshake. */
const halfOpenMax = 32
const handshakeMs = 10_000
/** What both ends derive from the connection's keys (RFC 9266). */
const bindingLabel = 'EXPORTER-Channel-Binding'
const bindingBytes = 32

export interface TlsIdentity {
  /** PEM. */
  readonly key: string
  readonly certificate: string
}

export class TcpTransport implements Transport {
  readonly #identity: TlsIdentity
  #context: SecureContext | undefined

  constructor(identity: TlsIdentity) {
    this.#identity = identity
  }

  async connect(address: string, signal: AbortSignal): Promise<ByteStream> {
    signal.throwIfAborted()
    const { host, port } = parseTcpAddress(address)
    const socket = connectTls({
      host,
      port,
      secureContext: this.#secureContext(),
      minVersion: 'TLSv1.3',
      // no authority has signed it; the link checks whose it is
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    })
    socket.setNoDelay(true)
    await secured(socket, 'secureConnect', signal)
    return securedStream(socket, `${host}:${port}`)
  }

  async listen(address: string, onConnection: (stream: ByteStream) => void): Promise<Listener> {
    const { host, port } = parseTcpAddress(address)
    const open = new Set<Socket>()
    const places = new CallerPlaces(halfOpenMax)
    const server = createServer(socket => {
      socket.on('error', () => socket.destroy())
      open.add(socket)
      socket.once('close', () => open.delete(socket))
      const leave = places.take(socket.remoteAddress ?? '', () => socket.destroy())
      if (leave === undefined) {
        socket.destroy()
        return
      }
      this.#accept(socket)
        .then(onConnection)
        // a stranger's; there is nobody to be told
        .catch(() => socket.destroy())
        .finally(leave)
    })
    await listening(server, host, port)
    const at = server.address()
    const taken = at === null || typeof at === 'string' ? port : at.port
    return {
      address: `${host.includes(':') ? `[${host}]` : host}:${taken}`,
      close() {
        const closed = new Promise<void>(resolve => server.close(() => resolve()))
        for (const socket of open) socket.destroy()
        return closed
      },
    }
  }

  async #accept(socket: Socket): Promise<ByteStream> {
    const from = `${socket.remoteAddress}:${socket.remotePort}`
    socket.setNoDelay(true)
    const secure = new TLSSocket(socket, {
      isServer: true,
      secureContext: this.#secureContext(),
      requestCert: true,
      rejectUnauthorized: false,
    })
    await secured(secure, 'secure', AbortSignal.timeout(handshakeMs))
    return securedStream(secure, from)
  }

  #secureContext(): SecureContext {
    const { key, certificate } = this.#identity
    this.#context ??= createSecureContext({ key, cert: certificate, minVersion: 'TLSv1.3' })
    return this.#context
  }
}

/** `tcp://HOST:PORT` or `HOST:PORT`, an IPv6 address in brackets; without a port it is `portDefault`. */
export function parseTcpAddress(address: string): { host: string; port: number } {
  const match = /^(?:tcp:\/\/)?(?:\[([0-9a-fA-F:.%]+)\]|([^:/[\]\s]+))(?::(\d{1,5}))?\/?$/.exec(address)
  const host = match?.[1] ?? match?.[2]
  const port = match?.[3] === undefined ? portDefault : Number(match[3])
  if (host === undefined || port > 65535)
    throw new Error(`'${address}' is no address: tcp://HOST:PORT is expected`)
  return { host, port }
}

function secured(socket: TLSSocket, event: 'secure' | 'secureConnect', signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => finish(signal.reason)
    const finish = (error?: Error) => {
      signal.removeEventListener('abort', stop)
      socket.off('error', finish)
      socket.off('close', closed)
      if (error === undefined) return resolve()
      socket.on('error', () => {
        // it is given up; what else befalls it is of no interest
      })
      socket.destroy()
      reject(error)
    }
    const closed = () => finish(new Error('the connection ended within the TLS handshake'))
    socket.once('error', finish)
    socket.once('close', closed)
    socket.once(event, () => finish())
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
  })
}

function securedStream(socket: TLSSocket, peer: string): ByteStream {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined || socket.getProtocol() !== 'TLSv1.3') {
    socket.destroy()
    throw new Error('the other side shows no certificate')
  }
  const binding = socket.exportKeyingMaterial(bindingBytes, bindingLabel, Buffer.alloc(0))
  return new SocketStream(socket, socket, {
    peer,
    binding,
    certificate: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    close: () => socket.destroySoon(),
  })
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port }, () => {
      server.off('error', reject)
      server.on('error', () => {
        // an accept that failed (out of descriptors, say): the caller calls again
      })
      resolve()
    })
  })
}
