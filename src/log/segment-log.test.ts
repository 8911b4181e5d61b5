import assert from 'node:assert/strict'
import test from 'node:test'
import { entryPath, position } from '../stream/entry.ts'
import {
  append,
  memory,
  openTestLog,
  pieces,
  receiveAll,
  storeA,
  storeB,
  transaction,
  transactions,
} from './testing/log-harness.ts'

test('what was appended and synced is read, in order, with numbers without gaps, over segments and openings', async () => {
  const storage = memory()
  const first = await openTestLog(storage)
  await first.log.subscribe('keeper', 0)
  for (let i = 1; i <= 60; i++) await append(first.log, i % 3 === 0 ? storeB : storeA, i)
  assert.equal(first.log.durable < 60, true)
  await first.log.sync()
  assert.equal(first.log.durable, 60)
  const expected = Array.from({ length: 60 }, (_, i) => [
    i + 1,
    (i + 1) % 3 === 0 ? storeB : storeA,
    String(i + 1),
  ])
  const seen = async (log: typeof first.log) =>
    (await transactions(log, 1)).map(({ number, store, position }) => [number, store, position])
  assert.deepEqual(await seen(first.log), expected)
  const chain = await first.log.chainAfter(30)
  await first.log.close()
  const again = await openTestLog(storage)
  assert.equal(again.log.next, 61)
  assert.equal(again.log.stream, first.log.stream)
  assert.deepEqual(await seen(again.log), expected)
  assert.equal(await again.log.chainAfter(30), chain)
  assert.deepEqual(again.log.mark(storeA), { number: 59, position: '59', timeMs: 59, consistent: true })
  assert.deepEqual(again.log.damage, [])
  assert.equal((await storage.list('/log')).filter(name => name.endsWith('.seg')).length > 3, true)
  await again.log.close()
})

test('another log that receives the pieces is the same, piece by piece', async () => {
  const one = await openTestLog(memory())
  await one.log.subscribe('keeper', 0)
  for (let i = 1; i <= 30; i++) await append(one.log, storeA, i, i * 20)
  await one.log.sync()
  const given = await pieces(one.log, 1)
  const two = await openTestLog(memory(), { stream: '' })
  await two.log.restart({ next: 1, chain: (await one.log.chainAfter(0)) as string, stream: one.log.stream })
  await two.log.subscribe('keeper', 0)
  await receiveAll(two.log, given)
  await two.log.sync()
  assert.deepEqual(await pieces(two.log, 1), given)
  assert.equal(two.log.stream, one.log.stream)
  assert.equal(await two.log.chainAfter(17), await one.log.chainAfter(17))
})

test('a transaction in large pieces or spooled to a file is appended as a whole', async () => {
  const storage = memory()
  const { log } = await openTestLog(storage)
  const a = log.sink(storeA)
  const b = log.sink(storeB)
  const path = entryPath('large')
  for (let i = 0; i < 6; i++)
    await a.write({
      type: 'write',
      store: storeA,
      path,
      offset: i,
      data: Buffer.alloc(1_000_000, i),
    })
  for (const entry of transaction(storeB, 7)) await b.write(entry)
  await a.write({ type: 'commit', store: storeA, position: position('big'), consistent: true, timeMs: 1 })
  await log.sync()
  const read = await transactions(log, 1)
  assert.deepEqual(
    read.map(({ number, store, position, entries }) => [number, store, position, entries.length]),
    [
      [1, storeB, '7', 2],
      [2, storeA, 'big', 7],
    ],
  )
  await a.close()
  await b.close()
  await log.close()
  assert.equal(
    (await storage.list('/log')).some(name => name.startsWith('spool')),
    false,
  )
})

test('a rebase says what the next transaction follows on, and its transaction supersedes it', async () => {
  const storage = memory()
  const first = await openTestLog(storage)
  await append(first.log, storeA, 5)
  await first.log.rebase(storeA, position('100'))
  await first.log.rebase(storeB, undefined)
  await first.log.close()
  const { log } = await openTestLog(storage)
  const sink = log.sink(storeA)
  assert.equal(await sink.position(storeA), '100')
  assert.equal(log.mark(storeA)?.position, '5')
  for (const entry of transaction(storeA, 101)) await sink.write(entry)
  assert.equal(await sink.position(storeA), '101')
  await sink.close()
  await log.close()
  const again = await openTestLog(storage)
  assert.equal(await again.log.sink(storeA).position(storeA), '101')
})
