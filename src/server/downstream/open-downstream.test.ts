import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../../os/errors.ts'
import { FaultyStorage } from '../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { VirtualClock } from '../../os/testing/virtual-clock.ts'
import { storeName } from '../../stream/entry.ts'
import { contentOf, Standby, until } from './testing/standby.ts'
import { UpstreamScript } from './testing/upstream-script.ts'

const a = storeName('a')
const b = storeName('b')
const epoch = { number: 1, by: 'a' }

async function pair(stores = [a, b]) {
  const clock = new VirtualClock()
  const storage = new FaultyStorage(new MemoryDisk())
  const upstream = await UpstreamScript.open(clock, stores, epoch)
  const open = () => Standby.open({ storage, clock, stores })
  return { clock, storage, upstream, open, standby: await open() }
}

/** Three transactions were received, and one applied: the copy rests. Nobody is connected. */
async function restingPair() {
  const made = await pair([a])
  const { upstream, standby } = made
  standby.connect(upstream)
  await upstream.commit(a)
  await until(() => standby.downstream.applied === 1, 'applied')
  await standby.downstream.setApplying(false)
  for (let i = 0; i < 2; i++) await upstream.commit(a)
  await until(() => upstream.acknowledged.received === 3, 'received')
  await standby.disconnect()
  return made
}

test('a new standby gets each store beside the log, and then what the log brings', async () => {
  const { upstream, standby } = await pair()
  for (let i = 0; i < 3; i++) await upstream.commit(a)
  await upstream.commit(b)
  standby.connect(upstream)
  await until(() => standby.numberOf(a) === 4 && standby.numberOf(b) === 4, 'synchronised')
  assert.equal(await standby.contentOf(a), 3)
  for (let i = 0; i < 5; i++) await upstream.commit(i % 2 === 0 ? a : b)
  await until(() => standby.downstream.applied === 9, 'applied')
  assert.equal(await standby.contentOf(a), 6)
  assert.equal(await standby.contentOf(b), 3)
  await until(() => upstream.acknowledged.applied === 9, 'acknowledged')
  assert.equal(upstream.acknowledged.received, 9)
  await standby.close()
})

test('after a break and after a restart it goes on where it stood: nothing comes twice beside the log', async () => {
  const { upstream, standby, open } = await pair()
  standby.connect(upstream)
  await upstream.commit(a)
  await upstream.commit(b)
  await until(() => standby.downstream.applied === 2, 'applied')
  await standby.disconnect()
  for (let i = 0; i < 4; i++) await upstream.commit(a)
  const { syncs } = upstream
  standby.connect(upstream)
  await until(() => standby.downstream.applied === 6, 'applied after the break')
  await standby.close()
  for (let i = 0; i < 4; i++) await upstream.commit(b)
  const again = await open()
  again.connect(upstream)
  await until(() => again.downstream.applied === 10, 'applied after the restart')
  assert.deepEqual([await again.contentOf(a), await again.contentOf(b)], [5, 5])
  assert.equal(upstream.syncs, syncs)
  await again.close()
})

test('apply off: copies rest at a consistent commit while the log goes on; on applies the rest', async () => {
  const { upstream, standby, open, storage } = await pair()
  standby.connect(upstream)
  for (let i = 0; i < 3; i++) await upstream.commit(a)
  await until(() => standby.downstream.applied === 3, 'applied')
  await standby.downstream.setApplying(false)
  for (let i = 0; i < 3; i++) await upstream.commit(a)
  await until(() => upstream.acknowledged.received === 6, 'received')
  assert.equal(await standby.contentOf(a), 3)
  assert.equal(standby.downstream.stores()[0]?.state, 'paused')
  await standby.close()
  const again = await open()
  again.connect(upstream)
  await upstream.commit(b)
  await until(() => upstream.acknowledged.received === 7, 'received after a restart')
  assert.equal(await contentOf(storage, a), 3)
  assert.equal(await contentOf(storage, b), 0)
  await again.downstream.setApplying(true)
  await until(() => again.downstream.applied === 7, 'applied')
  assert.deepEqual([await again.contentOf(a), await again.contentOf(b)], [6, 1])
  await again.close()
})

test('run dry: all that the log has is in the copies, though applying is off, and they are closed', async () => {
  const { upstream, standby } = await pair()
  standby.connect(upstream)
  await upstream.commit(a)
  await until(() => standby.downstream.applied === 1, 'applied')
  await standby.downstream.setApplying(false)
  await upstream.commit(a)
  await upstream.commit(b)
  await until(() => upstream.acknowledged.received === 3, 'received')
  const dry = await standby.downstream.runDry(new AbortController().signal)
  assert.deepEqual(dry, { number: 3, timeMs: 1001 })
  const stands = await standby.downstream.closeCopies()
  assert.deepEqual(
    stands.map(({ store, number, consistent }) => [store, number, consistent?.number, consistent?.position]),
    [
      [a, 2, 2, '{"count":2}'],
      [b, 3, 3, '{"count":1}'],
    ],
  )
  await standby.downstream.resume()
  await standby.close()
})

test('a store that is to be synchronised while it rests keeps what was acknowledged, and what comes after is not applied to it', async () => {
  const { upstream, standby, open } = await restingPair()
  // as after a crash of the primary: what it logs next follows on another state
  upstream.toSync.add(a)
  standby.connect(upstream)
  await until(() => standby.messages.some(({ code }) => code === 'store-out-of-step'), 'declined')
  await upstream.commit(a)
  await until(() => upstream.acknowledged.received === 4, 'received after that')
  assert.equal(await standby.contentOf(a), 1)
  await standby.close()
  const again = await open()
  await again.downstream.runDry(new AbortController().signal)
  const [stand] = await again.downstream.closeCopies()
  assert.equal(stand?.number, 3)
  assert.equal(stand?.consistent?.number, 3)
  assert.match(stand?.fault ?? '', /has to be synchronised/)
  assert.equal(await again.contentOf(a), 3)
  await again.downstream.resume()
  await again.downstream.setApplying(true)
  await until(() => again.numberOf(a) === undefined, 'nothing of the log is applied any more')
  again.connect(upstream)
  await until(() => again.numberOf(a) === 4, 'synchronised')
  assert.equal(await again.contentOf(a), 4)
  await upstream.commit(a)
  await until(() => again.downstream.applied === 5, 'goes on by the log')
  await again.close()
})

test('a transaction that a copy refuses is put aside with a report, and holds nobody else up, after a restart neither', async () => {
  const { upstream, standby, open, storage } = await pair()
  standby.connect(upstream)
  await upstream.commit(a)
  await until(() => standby.downstream.applied === 1, 'applied')
  // what a copy of files cannot take
  const refused = await upstream.commit(a, entry =>
    entry.type === 'write' && entry.path === 'value'
      ? { type: 'record', store: a, path: entry.path, key: Buffer.from('k') }
      : entry,
  )
  for (let i = 0; i < 3; i++) await upstream.commit(b)
  await until(() => standby.downstream.stores()[0]?.state === 'quarantined', 'quarantined')
  await until(() => standby.numberOf(b) === 5, 'the other store')
  assert.equal(await standby.contentOf(a), 1)
  assert.equal(standby.downstream.applied, 1)
  const { quarantine } = standby.state.value.stores[a] ?? {}
  assert.equal(quarantine?.number, refused)
  assert.equal(quarantine?.code, 'unsupported')
  assert.equal(quarantine?.file, '/state/quarantine/a-2.txlog')
  assert.deepEqual((await storage.list('/state/quarantine')).sort(), ['a-2.json', 'a-2.txlog'])
  await standby.close()
  const again = await open()
  again.connect(upstream)
  await upstream.commit(b)
  await until(() => again.numberOf(b) === 6, 'the other store after a restart')
  assert.equal(again.downstream.stores()[0]?.state, 'quarantined')
  await again.downstream.release(a, 'retry')
  await until(() => again.downstream.stores()[0]?.state === 'quarantined', 'quarantined again')
  await again.downstream.release(a, 'synchronise')
  // which ends the session, so that the upstream hears of it
  await again.over
  again.connect(upstream)
  await until(() => again.downstream.applied === 6, 'all')
  assert.equal(await again.contentOf(a), 2)
  await again.close()
})

test('what a standby has received is acknowledged while what follows waits for room in its log', async () => {
  const clock = new VirtualClock()
  const upstream = await UpstreamScript.open(clock, [a], epoch)
  const standby = await Standby.open({
    storage: new FaultyStorage(new MemoryDisk()),
    clock,
    stores: [a],
    limits: { bytesMax: 100_000, whenFull: 'block', keepMs: 0, keepBytes: 0 },
  })
  for (let i = 0; i < 2000; i++) await upstream.commit(a)
  standby.connect(upstream)
  await until(() => standby.numberOf(a) === 2000, 'synchronised')
  await standby.downstream.setApplying(false)
  await standby.disconnect()
  for (let i = 0; i < 2000; i++) await upstream.commit(a)
  upstream.piecesMax = 3000
  standby.connect(upstream)
  await until(() => standby.log.fullSinceMs !== undefined, 'full')
  assert.ok(standby.log.durable > 2000 && standby.log.durable < 3000)
  await until(() => upstream.acknowledged.received === standby.log.durable, 'acknowledged')
  await standby.downstream.setApplying(true)
  await until(() => upstream.acknowledged.applied === 4000, 'applied')
  await standby.close()
})

test('a log that begins anew takes transactions of epochs that are older than the newest: all that the upstream has', async () => {
  const { upstream, standby } = await pair()
  const newer = { number: 3, by: 'c' }
  await upstream.commit(a)
  await upstream.log.beginEpoch(newer)
  await upstream.commit(b)
  await standby.state.update(value => ({ ...value, epoch: newer }))
  upstream.restartsAt = 1
  standby.connect(upstream)
  await until(() => standby.downstream.applied === 2, 'applied')
  assert.deepEqual(standby.log.epoch, newer)
  await standby.close()
})

test('a store that is just being brought comes to its end before a session is made anew', async () => {
  const { upstream, standby } = await pair()
  await upstream.commit(a)
  const gate = Promise.withResolvers<void>()
  upstream.mayEnd = gate.promise
  const taking = standby.connect(upstream)
  await until(() => taking.state === 'synchronising', 'synchronising')
  await standby.downstream.setApplying(true)
  let over = false
  void standby.over.then(() => {
    over = true
  })
  for (let turn = 0; turn < 100; turn++) await new Promise(resolve => setImmediate(resolve))
  assert.ok(!over)
  gate.resolve()
  const { error } = await standby.over
  assert.match(String(error), /may be synchronised/)
  assert.deepEqual([standby.numberOf(a), standby.numberOf(b)], [1, 1])
  assert.equal(await standby.contentOf(a), 1)
  await standby.close()
})

test('a log that begins anew is not let go of before the copies have what was acknowledged', async () => {
  const { clock, standby } = await restingPair()
  const other = await UpstreamScript.open(clock, [a], { number: 2, by: 'c' })
  for (let i = 0; i < 5; i++) await other.commit(a)
  standby.connect(other)
  const { error } = await standby.over
  assert.ok(error instanceof HotspareError && error.code === 'log-gap', String(error))
  assert.match(error.message, /hotspare apply on/)
  assert.equal(standby.log.durable, 3)
  assert.equal(await standby.contentOf(a), 1)
  await standby.downstream.setApplying(true)
  await standby.disconnect()
  standby.connect(other)
  const had: (number | undefined)[] = []
  standby.onMessage = ({ code }) => void (code === 'log-restarted' && had.push(standby.numberOf(a)))
  await until(() => standby.numberOf(a) === 5, 'synchronised')
  assert.deepEqual(had, [3])
  assert.equal(await standby.contentOf(a), 5)
  await standby.close()
})

test('run dry: whatever is said of applying meanwhile, the copies take all there is and are closed', async () => {
  const clock = new VirtualClock()
  let full = false
  const storage = new FaultyStorage(new MemoryDisk(), step =>
    full && step.grows ? { kind: 'fail', code: 'ENOSPC', done: 'nothing' } : { kind: 'go' },
  )
  const upstream = await UpstreamScript.open(clock, [a], epoch)
  const standby = await Standby.open({ storage, clock, stores: [a] })
  standby.connect(upstream)
  await upstream.commit(a)
  await until(() => standby.downstream.applied === 1, 'applied')
  await standby.downstream.setApplying(false)
  await upstream.commit(a)
  await until(() => upstream.acknowledged.received === 2, 'received')
  full = true
  let dry: unknown
  void standby.downstream.runDry(new AbortController().signal).then(told => {
    dry = told
  })
  await until(() => standby.messages.some(({ code }) => code === 'disk-full'), 'hindered')
  full = false
  await standby.downstream.setApplying(true)
  await until(() => dry !== undefined, 'dry')
  assert.deepEqual(dry, { number: 2, timeMs: 1002 })
  await standby.downstream.resume()
  await standby.close()
})
