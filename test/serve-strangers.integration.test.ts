/** Strangers at the port of a running server: whatever they send, and however many they are, it goes on serving its peer. */
import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { makeCertificate } from '../src/link/certificate.ts'
import { openSession } from '../src/link/open-session.ts'
import { sessionOptions, TestTrust } from '../src/link/testing/session-pair.ts'
import { TcpTransport } from '../src/os/tcp-transport.ts'
import { Random } from '../src/os/testing/random.ts'
import type { ByteStream } from '../src/os/transport.ts'
import { encodeFrame } from '../src/stream/frame.ts'
import { Application, database } from './serve/application.ts'
import { configureSet, isComplete, type ServeProcess } from './serve/server-set.ts'

const certificate = makeCertificate('stranger')
const seed = Number(process.env.SEED ?? 1)
const waitMs = 30_000

/** A primary that calls nobody, so that its standby has to come through, under a writer. */
async function pair(t: TestContext): Promise<{ alpha: ServeProcess; beta: ServeProcess }> {
  const root = await fs.mkdtemp(join(tmpdir(), 'hotspare-strangers-'))
  const application = new Application(new Random(seed), join(root, 'writers'), [database])
  const stores = [database.plan]
  const [alpha, beta] = await configureSet(root, [
    { name: 'alpha', stores, calls: [] },
    { name: 'beta', upstream: 'alpha', stores },
  ])
  assert.ok(alpha && beta)
  t.after(async () => {
    await application.end()
    for (const server of [alpha, beta]) await server.end('SIGKILL')
    await fs.rm(root, { recursive: true })
  })
  await application.start(kind => alpha.path(kind.plan.name))
  await alpha.start()
  await beta.start()
  await beta.until('complete', isComplete)
  return { alpha, beta }
}

/** What a process has of memory and descriptors. */
async function held(pid: number): Promise<{ bytes: number; peakBytes: number; descriptors: number }> {
  const status = await fs.readFile(`/proc/${pid}/status`, 'utf8')
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
  const descriptors = (await fs.readdir(`/proc/${pid}/fd`)).length
  return { bytes: kilobytes('VmRSS') * 1024, peakBytes: kilobytes('VmHWM') * 1024, descriptors }
}

/** Until the other side has closed. */
async function drained(stream: ByteStream): Promise<void> {
  for await (const _ of stream.read());
}

const prefixes = [
  'GET / HTTP/1.1\r\nHost: alpha\r\n\r\n',
  'SSH-2.0-OpenSSH_9.2\r\n',
  '\x16\x03\x01\x02\x00\x01',
]

/** Each is one call. They end, or reject, when the server has closed. */
const attacks: readonly ((address: string, random: Random) => Promise<unknown>)[] = [
  // no TLS
  async (address, random) => {
    const [host, port] = address.split(':')
    const socket = connect({ host: host ?? '', port: Number(port) })
    socket.write(random.pick(prefixes))
    socket.end(random.bytes(random.below(2000)))
    for await (const _ of socket);
  },
  // bytes
  async (address, random) => {
    const stream = await call(address)
    await stream.write(random.bytes(1 + random.below(200_000)))
    await drained(stream)
  },
  // frames of ours with anything in them, and one that says it is huge, or is damaged
  async (address, random) => {
    const stream = await call(address)
    for (let i = 0; i < 20; i++) {
      const frame = encodeFrame(random.bytes(1 + random.below(10_000)))
      if (random.below(2) === 0) frame[random.below(12)] = random.below(256)
      await stream.write(frame)
    }
    await drained(stream)
  },
  // a handshake as it should be, of who does not know the secret
  async address => {
    const trust = new TestTrust()
    await openSession(await call(address), sessionOptions('beta', { trust }))
  },
  // the same, with bytes that are changed, left out or doubled on the way
  async (address, random) => {
    const stream = await call(address)
    const damaged: ByteStream = {
      ...stream,
      read: () => stream.read(),
      close: () => stream.close(),
      async write(data) {
        const bytes = Buffer.from(data)
        bytes[random.below(bytes.length)] = random.below(256)
        const cut = random.below(bytes.length)
        await stream.write(bytes.subarray(0, cut))
        await stream.write(bytes.subarray(random.pick([0, cut, bytes.length])))
      },
    }
    await openSession(damaged, sessionOptions('beta'))
  },
  // goes away in the middle
  async (address, random) => {
    const stream = await call(address)
    await stream.write(encodeFrame(random.bytes(500)).subarray(0, random.below(500)))
    stream.close()
  },
]

function call(address: string): Promise<ByteStream> {
  return new TcpTransport(certificate).connect(address, AbortSignal.timeout(10_000))
}

/** Far fewer than the calls. */
const ownFiles = 16

test('whatever is sent to the port of a server, it goes on serving its peer, in bounded memory', async t => {
  const { alpha, beta } = await pair(t)
  const address = `127.0.0.1:${alpha.port}`
  const broken = () => [...alpha.messages(), ...beta.messages()].filter(({ level }) => level === 'error')
  const before = await held(alpha.pid)
  const { sinceMs } = linkOf(await beta.status(), 'alpha')
  const endMs = Date.now() + 12_000
  let calls = 0
  const strangers = Array.from({ length: 6 }, async (_, i) => {
    const random = new Random(seed * 1000 + i)
    while (Date.now() < endMs) {
      calls++
      // refused, reset, or closed: it is all the same to a stranger
      await Promise.race([
        random
          .pick(attacks)(address, random)
          .catch(() => {}),
        sleep(3000),
      ])
    }
  })
  let waits = 0
  while (Date.now() < endMs) {
    await alpha.ask({ request: 'wait', peer: 'beta' }, waitMs)
    await alpha.ask({ request: 'probe', peer: 'beta', bytes: 1024 }, waitMs)
    waits++
  }
  await Promise.all(strangers)
  assert.ok(calls > 50 && waits > 2, `${calls} calls, ${waits} waits`)
  // it is the session of before
  assert.equal(linkOf(await beta.status(), 'alpha').sinceMs, sinceMs, `${alpha.tail()}\n${beta.tail()}`)
  assert.deepEqual(broken(), [])
  const after = await held(alpha.pid)
  assert.ok(after.peakBytes - before.bytes < 200 * 1024 * 1024, JSON.stringify({ before, after }))
  // those that were left in their handshakes are gone after its time; some files of its own it opens later
  for (const lastMs = Date.now() + waitMs; ; await sleep(200)) {
    const { descriptors } = await held(alpha.pid)
    if (descriptors <= before.descriptors + ownFiles) break
    assert.ok(Date.now() < lastMs, `${descriptors} descriptors, and ${before.descriptors} before`)
  }
  t.diagnostic(`${calls} calls, ${waits} waits, ${JSON.stringify({ before, after })}`)
})

function linkOf(status: Awaited<ReturnType<ServeProcess['status']>>, peer: string) {
  const link = status.links.find(one => one.peer === peer)
  assert.ok(link)
  return link
}

test('a stranger who holds all it can get open does not keep the peer out', async t => {
  const { alpha, beta } = await pair(t)
  await beta.end('SIGKILL')
  const where = { host: '127.0.0.1', port: alpha.port, localAddress: '127.0.0.2' }
  let going = true
  let open = 0
  /** Says nothing, for as long as it is let; calls again then. */
  const hold = async (secured: boolean) => {
    while (going) {
      const socket = secured
        ? connectTls({
            ...where,
            key: certificate.key,
            cert: certificate.certificate,
            rejectUnauthorized: false,
          })
        : connect(where)
      socket.on('error', () => {})
      socket.resume()
      open++
      await new Promise<void>(resolve => socket.once('close', () => resolve()))
      open--
      await sleep(50)
    }
  }
  const holding = Array.from({ length: 80 }, (_, i) => hold(i % 2 === 0))
  await sleep(1500)
  assert.ok(open > 40, `${open} are open`)
  const startedMs = Date.now()
  await beta.start()
  await alpha.ask({ request: 'wait', peer: 'beta' }, waitMs)
  assert.ok(open > 40, `${open} are open`)
  t.diagnostic(`the peer was served after ${Date.now() - startedMs} ms`)
  going = false
  await alpha.end('SIGTERM')
  await Promise.all(holding)
})
