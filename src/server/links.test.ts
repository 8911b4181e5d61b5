import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { secretBytes } from '../link/trust.ts'
import { systemClock } from '../os/clock.ts'
import { systemRandom } from '../os/random.ts'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { MemoryTransport } from '../os/testing/memory-transport.ts'
import type { Transport } from '../os/transport.ts'
import { Links } from './links.ts'
import type { Link } from './peer-link.ts'
import type { PeerSettings } from './server.ts'
import { ScriptDriver } from './testing/script-driver.ts'

class Node {
  links: Links | undefined
  readonly now = new Set<Link>()
  readonly said: string[] = []
  stream = 'first'
  #begun = 0

  get begun(): number {
    return this.#begun
  }

  async open(
    t: TestContext,
    transport: Transport,
    name: string,
    peers: readonly PeerSettings[],
  ): Promise<this> {
    this.links = await Links.open({
      settings: {
        set: 'set',
        name,
        stateDirectory: '/state',
        role: 'primary',
        stores: [],
        peers,
        listen: `memory:${name}`,
        limits: { bytesMax: 1024 * 1024, whenFull: 'block', keepMs: 0, keepBytes: 0 },
        logStandbyUpdates: true,
        bandwidthBytesPerSecond: 0,
      },
      machine: {
        storage: new FaultyStorage(new MemoryDisk()),
        clock: systemClock,
        random: systemRandom,
        transport,
        driverNamed: () => new ScriptDriver(),
      },
      trust: { peer: async () => ({ secret: Buffer.alloc(secretBytes, 7) }), pin: async () => {} },
      hello: () => ({
        version: 1,
        set: 'set',
        server: name,
        stream: this.stream,
        epoch: { number: 1, by: 'a' },
        role: 'primary',
        path: [name],
      }),
      onLink: async link => {
        this.#begun++
        this.now.add(link)
        await link.session.over
        this.now.delete(link)
      },
      tell: (_level, code) => this.said.push(code),
    })
    t.after(() => this.links?.close())
    return this
  }
}

const calls = (name: string): PeerSettings => ({ name, subscriber: true, address: `memory:${name}` })

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 20_000
  while (!condition()) {
    assert.ok(performance.now() < endMs, `not ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

test('two servers that call each other have one session, the same on both sides', async t => {
  const transport = new MemoryTransport()
  const [a, b] = [new Node(), new Node()]
  await Promise.all([a.open(t, transport, 'a', [calls('b')]), b.open(t, transport, 'b', [calls('a')])])
  await until(() => a.now.size === 1 && b.now.size === 1, 'connected')
  // whatever was under way has come, and was decided
  await new Promise(resolve => setTimeout(resolve, 500))
  assert.deepEqual([a.now.size, b.now.size], [1, 1])
  const [ofA] = a.now
  const [ofB] = b.now
  const { promise, resolve } = Promise.withResolvers<string>()
  ofB?.control.on('refused', ({ message }) => resolve(message))
  await ofA?.control.send({ type: 'refused', code: 'usage', message: 'heard' })
  assert.equal(await promise, 'heard')
})

test('a session that is made anew says what the server is by then', async t => {
  const transport = new MemoryTransport()
  const a = await new Node().open(t, transport, 'a', [{ name: 'b', subscriber: true }])
  const b = await new Node().open(t, transport, 'b', [calls('a')])
  await until(() => a.now.size === 1, 'connected')
  b.stream = 'second'
  await b.links?.renew('something has changed')
  await until(() => [...a.now][0]?.session.peer.stream === 'second', 'told anew')
  assert.equal(a.now.size, 1)
})

test('who is paired and not configured is let in by nobody, and is told of', async t => {
  const transport = new MemoryTransport()
  const a = await new Node().open(t, transport, 'a', [])
  const b = await new Node().open(t, transport, 'b', [calls('a')])
  await until(() => a.said.includes('peer-unknown'), 'told')
  assert.equal(a.begun, 0)
  assert.throws(() => a.links?.peer('b'), { code: 'peer-unknown' })
  assert.ok(b.links?.peer('a').status().state !== 'stopped')
})

test('a server that stops has no session left, and its status says so', async t => {
  const transport = new MemoryTransport()
  const a = await new Node().open(t, transport, 'a', [{ name: 'b', subscriber: true }])
  const b = await new Node().open(t, transport, 'b', [calls('a')])
  await until(() => a.now.size === 1 && b.now.size === 1, 'connected')
  await b.links?.close()
  assert.equal(b.now.size, 0)
  assert.equal(b.links?.peer('a').status().state, 'stopped')
  await until(() => a.now.size === 0, 'told of the end')
  await until(() => a.links?.peer('b').status().state === 'waiting-for-call', 'waiting')
})
