/**
 * What a primary and a standby cannot do without, and nothing else, a process each: bytes of a database's log are read,
 * written durably and sent over TLS, and there they are written durably and acknowledged. Nothing is checked or applied.
 *
 *     bare-chain.ts standby DIRECTORY PAGES               prints its address
 *     bare-chain.ts primary DIRECTORY PAGES LOG ADDRESS   prints its address; answers who asks there as soon as all that
 *                                                         it read after the question is durable at the standby
 *
 * PAGES pages are moved at once.
 */
import { once } from 'node:events'
import { constants, fstatSync, openSync, readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect, createServer as createTlsServer } from 'node:tls'
import { makeCertificate } from '../../src/link/certificate.ts'
import { parseTcpAddress } from '../../src/os/tcp-transport.ts'

/** As often as the servers do under the writer's full speed. */
const groupMs = 20
const pageBytes = 4096
const frameBytes = pageBytes + 24

const [, , role, directory = '', pagesAtOnce, log = '', address = ''] = process.argv
const groupPages = Number(pagesAtOnce)
const groupBytes = groupPages * pageBytes

/** Each write is durable when it has ended: one step where a write and a sync are two. */
function openDurable(name: string): Promise<FileHandle> {
  const { O_CREAT, O_DSYNC, O_WRONLY } = constants
  return open(join(directory, name), O_WRONLY | O_CREAT | O_DSYNC, 0o600)
}

function tellAddress(server: { address(): unknown }): void {
  process.stdout.write(`127.0.0.1:${(server.address() as AddressInfo).port}\n`)
}

async function standby(): Promise<void> {
  const file = await openDurable('standby')
  const { key, certificate } = makeCertificate('beta')
  const server = createTlsServer({ key, cert: certificate, minVersion: 'TLSv1.3' }, async socket => {
    socket.setNoDelay()
    let pieces: Buffer[] = []
    let pendingBytes = 0
    let end = 0
    for await (const piece of socket as AsyncIterable<Buffer>) {
      pieces.push(piece)
      pendingBytes += piece.length
      const bytes = pendingBytes - (pendingBytes % groupBytes)
      if (bytes === 0) continue
      const all = Buffer.concat(pieces, pendingBytes)
      pieces = [all.subarray(bytes)]
      pendingBytes -= bytes
      await file.write(all, 0, bytes, end)
      end += bytes
      socket.write(Buffer.alloc(bytes / groupBytes))
    }
  })
  server.listen(0, '127.0.0.1', () => tellAddress(server))
}

async function primary(): Promise<void> {
  const file = await openDurable('primary')
  const logFd = openSync(log, 'r')
  const link = connect({ ...parseTcpAddress(address), rejectUnauthorized: false })
  await once(link, 'secureConnect')
  link.setNoDelay()
  let asked: Socket[] = []
  let wake = () => {}
  const server = createServer(socket => {
    socket.setNoDelay().on('data', (questions: Buffer) => {
      for (const _ of questions) asked.push(socket)
      wake()
    })
  })
  server.listen(0, '127.0.0.1', () => tellAddress(server))
  let sent = 0
  let acknowledged = 0
  const waiting: { readonly group: number; readonly socket: Socket }[] = []
  link.on('data', (answer: Buffer) => {
    acknowledged += answer.length
    while (waiting[0] !== undefined && waiting[0].group <= acknowledged) waiting.shift()?.socket.write('k')
  })
  for (;;) {
    const now = asked
    asked = []
    const group = Buffer.allocUnsafe(groupBytes)
    const frames = Math.max(1, Math.floor(fstatSync(logFd).size / frameBytes))
    for (let i = 0; i < groupPages; i++)
      readSync(logFd, group, i * pageBytes, pageBytes, ((sent * groupPages + i) % frames) * frameBytes)
    await file.write(group, 0, groupBytes, sent * groupBytes)
    link.write(group)
    sent++
    for (const socket of now) waiting.push({ group: sent, socket })
    if (asked.length > 0) continue
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, groupMs)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

await (role === 'standby' ? standby() : primary())
