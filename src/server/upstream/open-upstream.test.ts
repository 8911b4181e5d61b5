import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storeName } from '../../stream/entry.ts'
import { ScriptDriver } from '../testing/script-driver.ts'
import { newClock, TestServer, until } from './testing/test-server.ts'

const one = storeName('one')
const two = storeName('two')
const write = (path: string, data: string, offset = 0) => ({ type: 'write', path, offset, data }) as const

test('a new standby gets every store beside the log, and from there on what is committed', async () => {
  const clock = newClock()
  const driver = new ScriptDriver()
  const stores = [one, two]
  const a = await TestServer.open({ name: 'a', stores, clock, driver })
  const apps = await Promise.all(stores.map(store => a.application(store)))
  for (const app of apps) await app.commit([write('x', 'first'), write('y', 'more')])
  const b = await TestServer.open({ name: 'b', upstream: 'a', stores, clock, driver: new ScriptDriver() })
  const { serving } = b.connect(a)
  await until(() => serving.state === 'shipping' && serving.caughtUp, 'synchronised')
  assert.equal(a.log.next, 1, 'nothing of the first copy went through the log')
  for (const store of stores) assert.equal(await b.assertPrefix(store, a), (await a.journal(store)).length)
  const ends = [await apps[0]?.commit([write('x', 'second')]), await apps[1]?.commit([write('z', 'third')])]
  const number = await a.upstream.waitFor('b', AbortSignal.timeout(5000))
  assert.equal(number, 2)
  await until(async () => (await b.assertPrefix(one, a)) === ends[0], 'applied')
  await until(async () => (await b.assertPrefix(two, a)) === ends[1], 'applied')
  assert.equal(a.failed ?? b.failed, undefined)
  await b.stop()
  await a.stop()
})

/** A primary with one application, and standbys that have its store. */
async function family(...names: string[]) {
  const clock = newClock()
  const a = await TestServer.open({ name: 'a', stores: [one], clock, driver: new ScriptDriver() })
  const app = await a.application(one)
  await app.commit([write('x', 'first')])
  const below = []
  for (const name of names) {
    const server = await TestServer.open({
      name,
      upstream: 'a',
      stores: [one],
      clock,
      driver: new ScriptDriver(),
    })
    const link = server.connect(a)
    await until(() => link.serving.state === 'shipping', 'synchronised')
    below.push({ server, link })
  }
  return { a, app, clock, below: below as [(typeof below)[0], ...typeof below] }
}

async function parted({ link }: { readonly link: ReturnType<TestServer['connect']> }): Promise<void> {
  link.break()
  await Promise.all([link.serving.over, link.taking.over])
}

const soon = () => AbortSignal.timeout(10_000)
const equal = async (server: TestServer, a: TestServer) =>
  (await server.journal(one)).equals(await a.journal(one))

test('when a store is moved beside the log, a subscriber that is away owes a comparison, and makes it when it comes', async () => {
  const { a, app, below } = await family('b', 'c')
  const [b, c] = below as [(typeof below)[0], (typeof below)[0]]
  await parted(b)
  await parted(c)
  await app.commit([write('x', 'while nobody looks')])
  // the primary begins anew, and cannot prove that the store follows on its log
  await a.stop()
  await a.start()
  await app.commit([write('y', 'moved beside the log')])
  const again = b.server.connect(a)
  await until(() => again.serving.state === 'shipping', 'b is synchronised without c')
  await app.commit([write('z', 'by the log')])
  const number = await a.upstream.waitFor('b', soon())
  assert.deepEqual(
    await c.server.log.chainAfter(c.server.log.next - 1),
    await a.log.chainAfter(c.server.log.next - 1),
  )
  const back = c.server.connect(a)
  await until(() => (back.serving.received ?? 0) >= number && back.serving.state === 'shipping', 'c is back')
  assert(c.server.messages.filter(({ code }) => code === 'store-synchronised').length > 1, 'it has compared')
  await until(() => equal(c.server, a), 'c is equal')
  await until(() => equal(b.server, a), 'b is equal')
  for (const { server } of below) await server.stop()
  await a.stop()
})

test('while enqueuing is off nothing is put into the log; when it is on again, all of it follows', async () => {
  const { a, app, below } = await family('b')
  const [b] = below
  await a.state.update(value => ({ ...value, enqueuing: false }))
  await a.upstream.setEnqueuing(false)
  const { next } = a.log
  await app.commit([write('x', 'unseen')])
  await a.clock.sleep(60_000)
  assert.equal(a.log.next, next)
  assert.equal(await equal(b.server, a), false)
  await assert.rejects(a.upstream.waitFor('b', soon()), { code: 'usage' })
  await a.state.update(value => ({ ...value, enqueuing: true }))
  await a.upstream.setEnqueuing(true)
  await a.upstream.waitFor('b', soon())
  await until(() => equal(b.server, a), 'equal')
  await b.server.stop()
  await a.stop()
})

test('a primary that is fenced ships nothing, and still reads to its end what it was reading', async () => {
  const { a, app, below } = await family('b')
  const [b] = below
  await app.commit([write('x', 'before')])
  const before = await a.upstream.waitFor('b', soon())
  await a.state.update(value => ({ ...value, fencedBy: { number: 2, by: 'b' } }))
  await a.upstream.become({ kind: 'fenced' })
  await app.commit([write('x', 'too late')])
  assert.equal(await a.upstream.drain(soon()), before + 1)
  const { serving, taking } = b.server.connect(a)
  const end = await serving.over
  await taking.over
  assert.equal(end.refused, true)
  assert.equal((end.error as { code?: string }).code, 'fenced')
  assert.equal(b.server.log.durable, before)
  await b.server.stop()
  await a.stop()
})

test('a primary whose log is full brings a store to the very standby that the log waits for', async () => {
  const clock = newClock()
  const common = { stores: [one], clock }
  const a = await TestServer.open({ ...common, name: 'a', driver: new ScriptDriver(), logBytesMax: 300_000 })
  const app = await a.application(one)
  await app.commit([write('x', 'first')])
  const server = await TestServer.open({
    ...common,
    name: 'b',
    upstream: 'a',
    driver: new ScriptDriver(),
    logBytesMax: 100_000,
  })
  const b = { server, link: server.connect(a) }
  await until(() => b.link.serving.state === 'shipping', 'synchronised')
  await parted(b)
  const committing = (async () => {
    for (let i = 0; i < 80; i++) await app.commit([write('x', String(i).repeat(4000))])
  })()
  await until(() => a.log.fullSinceMs !== undefined, 'full')
  // its copy counts for nothing, and its log has no place for all that the primary's has
  await server.state.updateStore(one, ({ base: _, ...rest }) => rest)
  await server.stop()
  await server.start()
  const { serving } = server.connect(a)
  await until(() => serving.state === 'shipping', 'given the store')
  await committing
  await a.upstream.waitFor('b', soon())
  await until(() => equal(server, a), 'equal')
  await server.stop()
  await a.stop()
})

test('a log is not shipped in a circle', async () => {
  const { a, below } = await family('b')
  const [b] = below
  await parted(b)
  a.path = ['b', 'a']
  const { serving, taking } = b.server.connect(a)
  assert.equal(((await serving.over).error as { code?: string }).code, 'loop')
  assert.equal((await taking.over).refused, true)
  await b.server.stop()
  await a.stop()
})

test('what is waited for is durable at the peer, and a peer that is away is waited for until the caller gives up', async () => {
  const { a, app, below } = await family('b')
  const [b] = below
  for (let i = 0; i < 20; i++) {
    await app.commit([write('x', String(i))])
    const number = await a.upstream.waitFor('b', soon())
    assert.equal(b.server.log.durable, number)
    assert.equal(number, i + 1)
  }
  await parted(b)
  await app.commit([write('x', 'away')])
  await assert.rejects(a.upstream.waitFor('b', AbortSignal.timeout(50)), { name: 'TimeoutError' })
  await b.server.stop()
  await a.stop()
})
