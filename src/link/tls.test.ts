import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { nodeStorage } from '../os/node-storage.ts'
import { parseTcpAddress, TcpTransport } from '../os/tcp-transport.ts'
import type { ByteStream } from '../os/transport.ts'
import { makeCertificate, ownCertificate } from './certificate.ts'
import { openSession } from './open-session.ts'
import { sessionOptions, TestTrust } from './testing/session-pair.ts'

const alpha = makeCertificate('alpha')
const beta = makeCertificate('beta')

async function listening(t: TestContext, onConnection: (stream: ByteStream) => void) {
  const listener = await new TcpTransport(alpha).listen('127.0.0.1:0', onConnection)
  t.after(() => listener.close())
  return listener
}

test("a session over TLS: both sides see the other's certificate, and one binding that is of this connection", async t => {
  const accepted: ByteStream[] = []
  const opened: ReturnType<typeof openSession>[] = []
  const trust = new TestTrust()
  const listener = await listening(t, stream => {
    accepted.push(stream)
    opened.push(openSession(stream, sessionOptions('alpha', { trust })))
  })
  const transport = new TcpTransport(beta)
  const streams = [
    await transport.connect(`tcp://${listener.address}`, AbortSignal.timeout(5000)),
    await transport.connect(`tcp://${listener.address}`, AbortSignal.timeout(5000)),
  ]
  const callerTrust = new TestTrust()
  callerTrust.pinned.set('alpha', alpha.fingerprint)
  const session = await openSession(
    streams[0]!,
    sessionOptions('beta', { trust: callerTrust, expected: 'alpha' }),
  )
  const called = await opened[0]!
  assert.equal(trust.pinned.get('beta'), beta.fingerprint)
  assert.ok(streams[0]!.binding!.equals(accepted[0]!.binding!))
  assert.ok(!streams[0]!.binding!.equals(streams[1]!.binding!))
  streams[1]!.close()
  await assert.rejects(opened[1]!)
  const sent = Buffer.alloc(900_000, 3)
  const channel = session.channel('log')
  const reading = (async () => {
    let count = 0
    for await (const message of called.channel('log').messages()) {
      assert.ok(message.type === 'sync-entries' && message.data.equals(sent))
      count++
    }
    return count
  })()
  for (let i = 0; i < 40; i++) await channel.send({ type: 'sync-entries', data: sent })
  channel.close()
  assert.equal(await reading, 40)
  await called.close('done')
  assert.match(String(await session.over), /closed the link: done/)
})

test('who speaks no TLS, an old TLS, or shows no certificate is not let in, and the next is', async t => {
  let accepted = 0
  const listener = await listening(t, stream => {
    accepted++
    stream.close()
  })
  const { host, port } = parseTcpAddress(listener.address)
  const plain = connectTcp(port, host)
  plain.on('error', () => {})
  plain.write('GET / HTTP/1.0\r\n\r\n'.repeat(100))
  await once(plain.resume(), 'close')
  const old = connectTls({ host, port, maxVersion: 'TLSv1.2', rejectUnauthorized: false })
  assert.match(String(await once(old, 'error')), /alert|protocol/i)
  const bare = connectTls({ host, port, rejectUnauthorized: false })
  bare.on('error', () => {})
  await once(bare.resume(), 'close')
  assert.equal(accepted, 0)
  const stream = await new TcpTransport(beta).connect(listener.address, AbortSignal.timeout(5000))
  for await (const _ of stream.read()) assert.fail('nothing was sent')
  assert.equal(accepted, 1)
})

test('connections that do not come through the TLS handshake are few, and those beyond are closed at once', async t => {
  const listener = await listening(t, stream => stream.close())
  const { host, port } = parseTcpAddress(listener.address)
  const silent = Array.from({ length: 40 }, () => connectTcp(port, host))
  t.after(() => {
    for (const socket of silent) socket.destroy()
  })
  let closed = 0
  const eight = Promise.withResolvers<void>()
  for (const socket of silent) {
    socket.on('error', () => {})
    socket.resume().once('close', () => {
      if (++closed === 8) eight.resolve()
    })
  }
  await eight.promise
  assert.equal(closed, 8)
})

test('a call that nobody answers, or that is given up, is an error', async () => {
  const transport = new TcpTransport(beta)
  await assert.rejects(transport.connect('tcp://127.0.0.1:1', AbortSignal.timeout(5000)), /ECONNREFUSED/)
  await assert.rejects(
    transport.connect('tcp://127.0.0.1:1', AbortSignal.abort(new Error('enough'))),
    /enough/,
  )
  await assert.rejects(transport.connect('http://x', AbortSignal.timeout(5000)), /is no address/)
})

test('addresses: with and without a port, IPv6 in brackets', () => {
  assert.deepEqual(parseTcpAddress('tcp://host.example:2345'), { host: 'host.example', port: 2345 })
  assert.deepEqual(parseTcpAddress('host'), { host: 'host', port: 2000 })
  assert.deepEqual(parseTcpAddress('tcp://[::1]:7'), { host: '::1', port: 7 })
  for (const wrong of ['tcp://', '::1', 'a b', 'tcp://a:99999', 'ssh://a'])
    assert.throws(() => parseTcpAddress(wrong))
})

test('a server makes its certificate once, keeps it where only it can read, and names the file when it is damaged', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-link-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const state = join(directory, 'state')
  const made = await ownCertificate(nodeStorage, state, 'alpha')
  assert.deepEqual(await ownCertificate(nodeStorage, state, 'alpha'), made)
  const file = join(state, 'link.pem')
  assert.equal(statSync(file).mode & 0o777, 0o600)
  const parsed = new X509Certificate(made.certificate)
  assert.ok(parsed.verify(parsed.publicKey))
  assert.equal(parsed.subject, 'CN=alpha')
  writeFileSync(file, made.key + beta.certificate)
  await assert.rejects(ownCertificate(nodeStorage, state, 'alpha'), { code: 'state-damaged' })
})
