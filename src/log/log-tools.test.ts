import assert from 'node:assert/strict'
import test from 'node:test'
import { systemClock } from '../os/clock.ts'
import {
  clearLog,
  extractTransaction,
  moveLogStart,
  readLog,
  showTransactions,
  verifyLog,
} from './log-tools.ts'
import {
  append,
  memory,
  openTestLog,
  roomy,
  seededRandom,
  storeA,
  storeB,
  toTransactions,
} from './testing/log-harness.ts'
import { readTransactions } from './txlog-file.ts'

const options = { segmentBytes: 900, stream: 's', limits: { ...roomy, keepBytes: 1e9 } }

async function made() {
  const storage = memory()
  const { log } = await openTestLog(storage, options)
  await log.subscribe('one', 0)
  await log.subscribe('two', 0)
  for (let i = 1; i <= 20; i++) await append(log, i % 2 === 0 ? storeA : storeB, i)
  await log.sync()
  log.acknowledge('two', 15)
  return { storage, log, place: { storage, directory: '/log', clock: systemClock, random: seededRandom(9) } }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

test('a log is shown and verified while a server has it open, and nothing is changed by it', async () => {
  const { storage, log, place } = await made()
  const changes = () => storage.steps.filter(({ reads }) => !reads).length
  const before = changes()
  const { overview, transactions, findings } = await verifyLog(place)
  assert.deepEqual([transactions, findings, overview.first, overview.next], [20, [], 1, 21])
  const shown = await all(showTransactions(readLog(place, 7), { previewBytes: 4 }))
  assert.equal(changes(), before)
  assert.equal(shown.length, 14)
  assert.deepEqual(
    { ...shown[0], chain: undefined, bytes: undefined },
    {
      number: 7,
      epoch: { number: 0, by: '' },
      store: storeB,
      position: '7',
      timeMs: 7,
      consistent: true,
      chain: undefined,
      bytes: undefined,
      entryCount: 2,
      entries: [
        {
          type: 'write',
          text: "write 100 bytes at 7 of 'file'",
          preview: { hex: '37373737', text: '7777', bytes: 100 },
        },
        { type: 'commit', text: 'commit 7' },
      ],
    },
  )
  assert.equal(shown[0]?.chain, await log.chainAfter(7))
})

test('verify names what is damaged, and leaves it', async () => {
  const { storage, log, place } = await made()
  await log.close()
  const name = (await storage.list('/log')).filter(one => one.endsWith('.seg')).sort()[1]
  const file = await storage.open(`/log/${name}`, 'write')
  await file.write(Buffer.from([0xff]), 500)
  const before = storage.steps.filter(({ reads }) => !reads).length
  const { findings } = await verifyLog(place)
  assert.equal(findings[0]?.file, `/log/${name}`)
  assert.ok((findings[0]?.offset as number) <= 500)
  assert.equal(storage.steps.filter(({ reads }) => !reads).length, before)
})

test('one transaction is taken out to a file that says what it is, and is read again', async () => {
  const { storage, log, place } = await made()
  assert.deepEqual(await extractTransaction(place, '/first.txlog'), { number: 1 })
  assert.deepEqual(await extractTransaction(place, '/nine.txlog', 9), { number: 9 })
  const nine = await all(readTransactions(storage, '/nine.txlog'))
  assert.deepEqual(
    toTransactions(nine).map(({ number, position }) => [number, position]),
    [[9, '9']],
  )
  assert.deepEqual((nine.at(-1) as { chain: string }).chain, await log.chainAfter(9))
  await assert.rejects(extractTransaction(place, '/x.txlog', 21), { code: 'log-removed' })
  const file = await storage.open('/nine.txlog', 'write')
  await file.write(Buffer.from([0xff]), 150)
  await assert.rejects(all(readTransactions(storage, '/nine.txlog')), { code: 'log-damaged' })
})

test('what changes a log is refused while a server has it', async () => {
  const { log, place } = await made()
  await assert.rejects(clearLog(place), { code: 'log-busy' })
  await assert.rejects(moveLogStart(place, 10), { code: 'log-busy' })
  assert.equal(log.first, 1)
})

test('a cleared log goes on with the next number, and nothing follows on what was dropped', async () => {
  const { storage, log, place } = await made()
  const chain = await log.chainAfter(20)
  await log.close()
  assert.deepEqual(await clearLog(place), { transactions: 20 })
  const again = await openTestLog(storage, options)
  assert.deepEqual([again.log.first, again.log.next, again.log.damage], [21, 21, []])
  assert.notEqual(await again.log.chainAfter(20), chain)
  assert.deepEqual(again.log.subscribers(), [])
  assert.equal(
    await again.log.sink(storeA).position(storeA),
    '20',
    'the stores are read on from where they stood',
  )
})

test('when the start is moved, whoever needed what was before it is named and no longer kept for', async () => {
  const { storage, log, place } = await made()
  await log.close()
  const moved = await moveLogStart(place, 10)
  assert.deepEqual(moved.dropped, ['one'])
  assert.ok(moved.first <= 10 && moved.first > 1)
  const again = await openTestLog(storage, options)
  assert.deepEqual([again.log.first, again.log.next, again.log.damage], [moved.first, 21, []])
  assert.deepEqual(
    again.log.subscribers().map(({ name, kept }) => [name, kept]),
    [
      ['one', false],
      ['two', true],
    ],
  )
  await again.log.close()
  await assert.rejects(moveLogStart(place, 1), { code: 'log-removed' })
  await assert.rejects(moveLogStart(place, 22), { code: 'log-removed' })
})
