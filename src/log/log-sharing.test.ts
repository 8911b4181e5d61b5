/** Syncs that are shared, readers that wait, acknowledgements, epochs, and beginning anew. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { FaultyStorage, noFaults } from '../os/testing/faulty-storage.ts'
import { Random } from '../os/testing/random.ts'
import { position } from '../stream/entry.ts'
import type { LogPiece } from '../stream/log-piece.ts'
import {
  append,
  memory,
  openTestLog,
  pieces,
  receiveAll,
  roomy,
  storeA,
  storeB,
  toTransactions,
  transaction,
  transactions,
} from './testing/log-harness.ts'
import { readTransactions } from './txlog-file.ts'

type Piece<T extends LogPiece['type']> = Extract<LogPiece, { type: T }>
const never = new AbortController().signal
const isSync = (call: string) => call === 'fdatasync' || call === 'write-dsync'

test('concurrent syncs share one sync of the file', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage, { segmentBytes: 1 << 20 })
  const syncs = () => storage.steps.filter(({ call, path }) => isSync(call) && path.endsWith('.seg')).length
  const before = syncs()
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const sink = log.sink(`s${i}` as typeof storeA)
      for (const entry of transaction(`s${i}` as typeof storeA, i)) await sink.write(entry)
      await sink.sync()
    }),
  )
  assert.equal(log.durable, 50)
  assert.ok(syncs() - before <= 5, `${syncs() - before} syncs`)
  const after = syncs()
  await log.sync()
  assert.equal(syncs(), after, 'nothing is synced again')
})

test('readers see only what is durable, and are woken by it', async () => {
  const { log } = await openTestLog(memory())
  await append(log, storeA, 1)
  assert.deepEqual(await pieces(log, 1), [])
  let woken = false
  const waiting = log.wait(0, never).then(() => {
    woken = true
  })
  await turn()
  assert.equal(woken, false)
  await log.sync()
  await waiting
  assert.equal((await transactions(log, 1)).length, 1)
  const aborting = new AbortController()
  const aborted = log.wait(5, aborting.signal)
  aborting.abort()
  await aborted
  const closing = assert.rejects(log.wait(5, never), { code: 'log-closed' })
  await log.close()
  await closing
})

test('what was not synced when its pump begins anew is not read from the source a second time', async () => {
  const { log } = await openTestLog(memory())
  await append(log, storeA, 1)
  assert.equal(await log.sink(storeA).position(storeA), '1')
  assert.equal(log.durable, 1)
})

for (const call of ['fdatasync', 'write-dsync'] as const) {
  test(`after a ${call} that failed nothing is taken until the log is opened anew, and nothing durable is lost`, () =>
    afterFailedSync(call))
}

async function afterFailedSync(failing: 'fdatasync' | 'write-dsync'): Promise<void> {
  const storage = memory()
  // what does not fit into so little memory is written before the sync, which is a call of its own then
  const { log } = await openTestLog(storage, failing === 'fdatasync' ? { bufferBytes: 1 } : {})
  await append(log, storeA, 1)
  await log.sync()
  await append(log, storeA, 2)
  storage.replan(({ call }) =>
    call === failing ? { kind: 'fail', code: 'EIO', done: 'part' } : { kind: 'go' },
  )
  await assert.rejects(log.sync(), { code: 'io-error' })
  storage.replan(noFaults)
  await assert.rejects(log.sync(), { code: 'log-closed' })
  await assert.rejects(append(log, storeA, 3), { code: 'log-closed' })
  assert.equal(log.durable, 1)
  await log.close().catch(() => undefined)
  const again = await openTestLog(storage)
  assert.equal(again.log.durable, 2)
  // the system forgot what it should have written; so it was written again
  const after = await openTestLog(new FaultyStorage(storage.disk.crash(new Random(3))))
  assert.deepEqual([after.log.next, after.log.damage], [3, []])
}

test('when the disk was full, the same sync is tried again and nothing is missing', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage)
  await log.subscribe('keeper', 0)
  storage.replan(({ call, path }) =>
    call.startsWith('write') && path.endsWith('.seg')
      ? { kind: 'fail', code: 'ENOSPC', done: 'part' }
      : { kind: 'go' },
  )
  for (let i = 1; i <= 5; i++) await append(log, storeA, i)
  await assert.rejects(log.sync(), { code: 'disk-full' })
  await append(log, storeA, 6)
  await assert.rejects(log.sync(), { code: 'disk-full' })
  storage.replan(noFaults)
  await log.sync()
  assert.equal(log.durable, 6)
  assert.equal((await transactions(log, 1)).length, 6)
  await log.close()
  assert.equal((await openTestLog(storage)).log.next, 7)
})

test('acknowledgements are written at most once a second and at close, and never move back', async () => {
  const storage = memory()
  const { log, clock } = await openTestLog(storage)
  await log.subscribe('one', 0)
  for (let i = 1; i <= 10; i++) await append(log, storeA, i)
  await log.sync()
  const renames = () => storage.steps.filter(({ call }) => call === 'rename').length
  const before = renames()
  for (let i = 1; i <= 8; i++) log.acknowledge('one', i)
  log.acknowledge('one', 3)
  log.acknowledge('stranger', 3)
  await turn()
  assert.equal(renames(), before)
  await clock.pass(1000)
  for (let i = 0; i < 20; i++) await turn()
  assert.equal(renames(), before + 1)
  log.acknowledge('one', 1000)
  await log.close()
  const again = await openTestLog(storage)
  assert.deepEqual(again.log.subscribers(), [{ name: 'one', acknowledged: 10, kept: true }])
})

test('one log cannot be opened twice', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage)
  await assert.rejects(openTestLog(storage), { code: 'log-busy' })
  await log.close()
  await openTestLog(storage)
})

test('pieces that do not follow on, are older, malformed or of another chain are refused, and leave nothing', async () => {
  const one = await openTestLog(memory(), { stream: 's', epoch: { number: 2, by: 'x' } })
  await one.log.subscribe('keeper', 0)
  for (let i = 1; i <= 4; i++) await append(one.log, storeA, i)
  await one.log.sync()
  const given = await pieces(one.log, 1)
  const [begin, entries, end] = given as [Piece<'begin'>, Piece<'entries'>, Piece<'end'>]
  const flipped = Buffer.from(entries.data)
  flipped[40] = (flipped[40] as number) ^ 1
  const { log } = await openTestLog(memory(), { stream: 's', epoch: { number: 2, by: 'a' } })
  const cases: readonly [string, readonly LogPiece[]][] = [
    ['log-gap', given.slice(3)],
    ['log-gap', [entries]],
    ['log-gap', [begin, begin]],
    ['epoch-old', [{ ...begin, epoch: { number: 1, by: 'z' } }]],
    ['entry-invalid', [begin, { type: 'entries', data: flipped }]],
    ['entry-invalid', [begin, { type: 'entries', data: entries.data.subarray(0, -1) }]],
    ['entry-invalid', [begin, end]],
    ['entry-invalid', [{ ...begin, store: storeB }, entries]],
    ['entry-invalid', [begin, entries, entries]],
    ['entry-invalid', [begin, entries, { ...end, position: position('9') }]],
    ['digest-mismatch', [begin, entries, { ...end, chain: '0123456789abcdef' }]],
    ['digest-mismatch', [{ ...begin, epoch: { number: 3, by: 'x' } }, entries, end]],
  ]
  for (const [code, wrong] of cases) {
    await assert.rejects(receiveAll(log, wrong), { code })
    assert.equal(log.next, 1)
  }
  assert.equal(log.epoch.by, 'a')
  await receiveAll(log, given)
  await log.sync()
  assert.deepEqual([log.durable, log.epoch], [4, { number: 2, by: 'x' }])
})

test('an epoch that is begun is durable and never falls', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage, { epoch: { number: 1, by: 'a' } })
  await log.beginEpoch({ number: 2, by: 'b' })
  await assert.rejects(log.beginEpoch({ number: 2, by: 'a' }), { code: 'epoch-old' })
  await append(log, storeA, 1)
  await log.close()
  const again = await openTestLog(storage, { epoch: { number: 1, by: 'a' } })
  assert.deepEqual(again.log.epoch, { number: 2, by: 'b' })
  assert.deepEqual((await pieces(again.log, 1))[0], {
    type: 'begin',
    number: 1,
    epoch: { number: 2, by: 'b' },
    store: storeA,
  })
})

test('a log that is begun anew has nothing of before, and whoever reads is told', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage)
  await log.subscribe('one', 0)
  for (let i = 1; i <= 20; i++) await append(log, storeA, i)
  await log.sync()
  const reading = log.read(1, never)[Symbol.asyncIterator]()
  await reading.next()
  await log.restart({ next: 500, chain: '00000000000000aa', stream: 'other', epoch: { number: 7, by: 'c' } })
  await assert.rejects(reading.next(), { code: 'log-removed' })
  assert.deepEqual(
    [log.first, log.next, log.durable, log.stream, log.epoch.number, log.subscribers(), log.mark(storeA)],
    [500, 500, 499, 'other', 7, [], undefined],
  )
  assert.equal(await log.chainAfter(499), '00000000000000aa')
  await append(log, storeA, 5)
  await log.close()
  const again = await openTestLog(storage)
  assert.deepEqual(
    [again.log.first, again.log.next, again.log.stream, again.log.damage],
    [500, 501, 'other', []],
  )
})

test('what is taken back stands in a file, at any crash: it is in the log, or in the file and no longer in the log', async () => {
  const keeping = { segmentBytes: 900, stream: 's', limits: { ...roomy, keepBytes: 1e9 } }
  const prepare = async () => {
    const storage = memory()
    const { log } = await openTestLog(storage, keeping)
    await log.subscribe('one', 0)
    for (let i = 1; i <= 20; i++) await append(log, storeA, i)
    await log.sync()
    log.acknowledge('one', 15)
    return { storage, log }
  }
  const whole = await prepare()
  const from = whole.storage.steps.length
  assert.deepEqual(await whole.log.cutAfter(8, '/log/aside.txlog'), { transactions: 12 })
  const steps = whole.storage.steps.length
  assert.deepEqual(await whole.log.cutAfter(8, '/log/aside.txlog'), { transactions: 0 })
  assert.deepEqual([whole.log.next, whole.log.mark(storeA)?.position], [9, '8'])
  assert.equal(await whole.log.sink(storeA).position(storeA), '8')
  assert.deepEqual(whole.log.subscribers(), [{ name: 'one', acknowledged: 8, kept: true }])
  for (let step = from; step < steps; step++) {
    const { storage, log } = await prepare()
    storage.replan(at => (at.number === step ? { kind: 'crash', done: 'part' } : { kind: 'go' }))
    await assert.rejects(log.cutAfter(8, '/log/aside.txlog'))
    const after = new FaultyStorage(storage.disk.crash(new Random(step)))
    const again = await openTestLog(after, keeping)
    assert.deepEqual(again.log.damage, [], `step ${step}`)
    const wasCut = again.log.next === 9
    assert.ok(wasCut || again.log.next === 21, `step ${step}: ${again.log.next}`)
    assert.deepEqual(await again.log.cutAfter(8, '/log/aside.txlog'), { transactions: wasCut ? 0 : 12 })
    const aside: LogPiece[] = []
    for await (const piece of readTransactions(after, '/log/aside.txlog')) aside.push(piece)
    assert.deepEqual(
      toTransactions(aside).map(({ number }) => number),
      [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
      `step ${step}`,
    )
    await again.log.close()
  }
})

test('all of a log can be taken back, and its stores stand where they stood before', async () => {
  const { log } = await openTestLog(memory())
  for (let i = 1; i <= 20; i++) await append(log, storeA, i)
  await log.sync()
  await log.subscribe('one', log.next - 1)
  const { first } = log
  await log.cutAfter(first - 1, '/log/aside.txlog')
  assert.equal(log.next, first)
  assert.equal(log.mark(storeA)?.position, String(first - 1))
})

test('an epoch that was begun and is given up keeps no older transactions out', async () => {
  const one = await openTestLog(memory(), { stream: 's' })
  for (let i = 1; i <= 2; i++) await append(one.log, storeA, i)
  await one.log.sync()
  const two = await openTestLog(memory(), { stream: 's' })
  await two.log.subscribe('#apply', 0)
  const { number, by } = one.log.epoch
  await two.log.beginEpoch({ number: number + 1, by })
  const all = await pieces(one.log, 1)
  await assert.rejects(two.log.receive(all[0] as LogPiece), { code: 'epoch-old' })
  await two.log.giveUpEpoch()
  for (const piece of all) await two.log.receive(piece)
  await two.log.sync()
  assert.equal(two.log.durable, 2)
  assert.deepEqual(two.log.epoch, { number, by })
})
