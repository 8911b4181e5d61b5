/**
 * The two ends of a bulk copy, a process each.
 *
 *     link-ends.ts link|raw send MEGABYTES               prints its address, and the seconds when all has arrived
 *     link-ends.ts link|raw receive MEGABYTES ADDRESS
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { makeCertificate } from '../../src/link/certificate.ts'
import { openSession } from '../../src/link/open-session.ts'
import { sessionOptions } from '../../src/link/testing/session-pair.ts'
import { parseTcpAddress, TcpTransport } from '../../src/os/tcp-transport.ts'
import type { ByteStream } from '../../src/os/transport.ts'
import { zstdCompressor } from '../../src/os/zstd.ts'
import { pieceBytesMax } from '../../src/stream/log-piece.ts'

const [, , kind, role, megabytesText = '', address = ''] = process.argv
const megabytes = Number(megabytesText)
const mebibyte = 1024 * 1024

async function sendLink(): Promise<void> {
  const accepted = Promise.withResolvers<ByteStream>()
  const listener = await new TcpTransport(makeCertificate('alpha')).listen('127.0.0.1:0', accepted.resolve)
  process.stdout.write(`${listener.address}\n`)
  // as a server has it, compression on offer
  const session = await openSession(
    await accepted.promise,
    sessionOptions('alpha', { compressor: zstdCompressor }),
  )
  const channel = session.channel('log')
  // nothing is saved by compressing it
  const data = randomBytes(mebibyte)
  const pieces = Array.from({ length: mebibyte / pieceBytesMax }, (_, i) => ({
    type: 'entries' as const,
    data: data.subarray(i * pieceBytesMax, (i + 1) * pieceBytesMax),
  }))
  const startMs = performance.now()
  for (let i = 0; i < megabytes; i++) await channel.send({ type: 'log', pieces })
  for await (const _answer of channel.messages()) break
  process.stdout.write(`${(performance.now() - startMs) / 1000}\n`)
  await session.close()
}

async function receiveLink(): Promise<void> {
  const transport = new TcpTransport(makeCertificate('beta'))
  const stream = await transport.connect(address, AbortSignal.timeout(5000))
  const session = await openSession(stream, sessionOptions('beta', { compressor: zstdCompressor }))
  const channel = session.channel('log')
  let bytes = 0
  for await (const message of channel.messages()) {
    if (message.type !== 'log') throw new Error(message.type)
    for (const piece of message.pieces) if (piece.type === 'entries') bytes += piece.data.length
    if (bytes === megabytes * mebibyte) break
  }
  await channel.send({ type: 'sync-ended' })
  await session.over
}

async function sendRaw(): Promise<void> {
  const { key, certificate } = makeCertificate('alpha')
  const server = createServer({ key, cert: certificate, minVersion: 'TLSv1.3' }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.stdout.write(`127.0.0.1:${(server.address() as { port: number }).port}\n`)
  const [socket] = (await once(server, 'secureConnection')) as [TLSSocket]
  // nothing is saved by compressing it
  const data = randomBytes(mebibyte)
  const startMs = performance.now()
  for (let i = 0; i < megabytes; i++) if (!socket.write(data)) await once(socket, 'drain')
  await once(socket, 'data')
  process.stdout.write(`${(performance.now() - startMs) / 1000}\n`)
  socket.resume().end()
  await once(socket, 'close')
}

async function receiveRaw(): Promise<void> {
  const socket = connect({ ...parseTcpAddress(address), rejectUnauthorized: false })
  let bytes = 0
  socket.on('data', (piece: Buffer) => {
    bytes += piece.length
    if (bytes === megabytes * mebibyte) socket.end('x')
  })
  await once(socket, 'close')
}

if (kind === 'link') await (role === 'send' ? sendLink() : receiveLink())
else await (role === 'send' ? sendRaw() : receiveRaw())
process.exit(0)
