import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { StoreName } from '../stream/entry.ts'
import type { LogLimits } from './log.ts'
import { removableCount } from './retention.ts'
import {
  append,
  memory,
  openTestLog,
  pieces,
  roomy,
  storeA,
  storeB,
  transaction,
  transactions,
} from './testing/log-harness.ts'

const limited: LogLimits = { bytesMax: 4000, whenFull: 'block', keepMs: 0, keepBytes: 0 }
const small = { segmentBytes: 1000, limits: limited }

/** Lets everything happen that needs no time. */
async function settled(): Promise<void> {
  for (let i = 0; i < 50; i++) await turn()
}

test('a full log that blocks takes nothing more until there is room, and says so at once and each minute', async () => {
  const { log, clock, notices } = await openTestLog(memory(), small)
  await log.subscribe('slow', 0)
  let appended = 0
  const all = (async () => {
    for (let i = 1; i <= 40; i++) {
      await append(log, storeA, i)
      appended = i
    }
  })()
  await settled()
  const before = appended
  assert.ok(before > 5 && before < 30, `${before} were taken`)
  assert.ok(log.bytes <= limited.bytesMax)
  assert.equal(log.fullSinceMs, clock.nowMs())
  assert.equal(log.durable, before, 'what others wait for is durable')
  assert.deepEqual(
    notices.map(({ code }) => code),
    ['log-full'],
  )
  await clock.pass(61_000)
  await settled()
  assert.deepEqual(
    notices.map(({ code }) => code),
    ['log-full', 'log-full'],
  )
  for (let i = 0; i < 20; i++) {
    log.acknowledge('slow', log.durable)
    await settled()
  }
  await all
  assert.equal(log.fullSinceMs, undefined)
  assert.equal(notices.at(-1)?.code, 'log-space')
  await log.sync()
  assert.equal(log.next, 41)
})

test('a full log that drops no longer keeps for the slowest, and goes on', async () => {
  const { log, notices } = await openTestLog(memory(), { ...small, limits: { ...limited, whenFull: 'drop' } })
  await log.subscribe('slow', 0)
  await log.subscribe('fast', 0)
  for (let i = 1; i <= 40; i++) {
    await append(log, storeA, i)
    await log.sync()
    log.acknowledge('fast', i)
  }
  assert.deepEqual(log.subscribers(), [
    { name: 'slow', acknowledged: 0, kept: false },
    { name: 'fast', acknowledged: 40, kept: true },
  ])
  assert.deepEqual(
    notices.map(({ code, details }) => [code, details.subscriber]),
    [['subscriber-dropped', 'slow']],
  )
  await assert.rejects(pieces(log, 1), { code: 'log-removed' })
})

test('a full log that drops waits for its own host, and drops who is slower', async () => {
  const { log, notices } = await openTestLog(memory(), {
    ...small,
    own: '#apply',
    limits: { ...limited, whenFull: 'drop' },
  })
  await log.subscribe('slow', 0)
  await log.subscribe('#apply', 0)
  await log.subscribe('other', 0)
  await append(log, storeA, 1)
  await log.sync()
  for (const name of ['#apply', 'other']) log.acknowledge(name, 1)
  const appended: number[] = []
  const appending = (async () => {
    for (let i = 2; i <= 40; i++) {
      await append(log, storeA, i)
      await log.sync()
      appended.push(i)
    }
  })()
  await settled()
  assert.ok(appended.length < 39)
  assert.notEqual(log.fullSinceMs, undefined)
  assert.deepEqual(
    notices.map(({ code, details }) => [code, details.subscriber]),
    [
      ['subscriber-dropped', 'slow'],
      ['log-full', '#apply'],
    ],
  )
  assert.equal((await pieces(log, 2)).length > 0, true)
  while (log.next <= 40) {
    for (const name of ['#apply', 'other']) log.acknowledge(name, log.durable)
    await settled()
  }
  await appending
  assert.deepEqual(
    log.subscribers().map(({ name, kept }) => [name, kept]),
    [
      ['slow', false],
      ['#apply', true],
      ['other', true],
    ],
  )
})

test('a transaction larger than the limit passes when the log is otherwise empty', async () => {
  for (const whenFull of ['block', 'drop'] as const) {
    const { log } = await openTestLog(memory(), { ...small, limits: { ...limited, whenFull } })
    await log.subscribe('one', 0)
    await append(log, storeA, 1, 10_000)
    await log.sync()
    assert.equal(log.durable, 1)
    assert.deepEqual(log.subscribers(), [{ name: 'one', acknowledged: 0, kept: true }])
    log.acknowledge('one', 1)
    await append(log, storeA, 2, 10_000)
    await log.sync()
    assert.deepEqual(
      (await transactions(log, 2)).map(({ position }) => position),
      ['2'],
    )
  }
})

test('whoever receives and waits for room is freed when the transaction is abandoned', async () => {
  const one = await openTestLog(memory(), { stream: 's' })
  await one.log.subscribe('keeper', 0)
  for (let i = 1; i <= 40; i++) await append(one.log, storeA, i, 200)
  await one.log.sync()
  const two = await openTestLog(memory(), { ...small, stream: 's' })
  await two.log.subscribe('#apply', 0)
  let error: unknown
  const receiving = (async () => {
    for (const piece of await pieces(one.log, 1)) await two.log.receive(piece)
  })().catch(failed => {
    error = failed
  })
  await settled()
  assert.notEqual(two.log.fullSinceMs, undefined)
  await two.log.abandon()
  await receiving
  assert.equal((error as { code: string }).code, 'log-gap')
  const { next } = two.log
  two.log.acknowledge('#apply', two.log.durable)
  await settled()
  for (const piece of (await pieces(one.log, next)).slice(0, 3)) await two.log.receive(piece)
  await two.log.sync()
  assert.equal(two.log.durable, next)
})

test('a log that is closed frees whoever waits for room', async () => {
  const { log } = await openTestLog(memory(), small)
  await log.subscribe('slow', 0)
  const waiting = (async () => {
    for (let i = 1; i <= 40; i++) await append(log, storeA, i)
  })()
  const rejected = assert.rejects(waiting, { code: 'log-closed' })
  await settled()
  await log.close()
  await rejected
})

test('greater limits free whoever waits', async () => {
  const { log } = await openTestLog(memory(), small)
  await log.subscribe('slow', 0)
  const all = (async () => {
    for (let i = 1; i <= 40; i++) await append(log, storeA, i)
  })()
  await settled()
  log.setLimits(roomy)
  await all
  assert.equal(log.next, 41)
})

test('what everybody has is kept by age and by size, the longer of both, and goes first when the log is full', async () => {
  const segments = [1, 2, 3, 4, 5].map(i => ({ last: i * 10, bytes: 100, newestTimeMs: i * 1000 }))
  const cases: readonly [
    acknowledged: number,
    keepMs: number,
    keepBytes: number,
    nowMs: number,
    count: number,
  ][] = [
    [50, 0, 0, 6000, 4],
    [25, 0, 0, 6000, 2],
    [0, 0, 0, 6000, 0],
    [50, 3500, 0, 6000, 2],
    [50, 0, 200, 6000, 3],
    [50, 0, 201, 6000, 2],
    [50, 3500, 100, 6000, 2],
    [50, 1000, 350, 6000, 1],
    [50, 1e9, 0, 6000, 0],
  ]
  for (const [acknowledged, keepMs, keepBytes, nowMs, count] of cases)
    assert.equal(removableCount(segments, acknowledged, { keepMs, keepBytes }, nowMs), count)
  assert.equal(removableCount(segments, 50, { keepMs: 1e9, keepBytes: 1e9 }, 6000, false), 4)
  const { log, notices } = await openTestLog(memory(), { ...small, limits: { ...limited, keepBytes: 1e9 } })
  for (let i = 1; i <= 60; i++) await append(log, storeA, i)
  assert.ok(log.bytes <= limited.bytesMax)
  assert.ok(log.first > 1)
  assert.ok(notices.length > 0 && notices.every(({ code }) => code === 'log-kept-less'))
})

test('whoever waits for room holds up nobody who subscribes: the one it waits for may come back', async () => {
  const { log } = await openTestLog(memory(), small)
  await log.subscribe('slow', 0)
  const all = (async () => {
    for (let i = 1; i <= 40; i++) await append(log, storeA, i)
  })()
  await settled()
  const { durable } = log
  assert.notEqual(log.fullSinceMs, undefined)
  await log.subscribe('slow', durable)
  await log.subscribe('new', durable)
  await log.unsubscribe('new')
  await log.rebase(storeB, undefined)
  for (let i = 0; i < 40; i++) {
    log.acknowledge('slow', log.durable)
    await settled()
  }
  await all
  assert.equal(log.next, 41)
})

test('who waits for room, or behind somebody who does, can give up: nothing of it is in the log', async () => {
  const { log } = await openTestLog(memory(), small)
  await log.subscribe('slow', 0)
  for (let i = 1; log.bytes < limited.bytesMax - 400; i++) await append(log, storeA, i)
  await log.sync()
  const { next } = log
  const [first, second] = [new AbortController(), new AbortController()]
  const write = async (store: StoreName, signal: AbortSignal) => {
    const sink = log.sink(store, signal)
    try {
      for (const entry of transaction(store, 100, 1000)) await sink.write(entry)
    } finally {
      await sink.close()
    }
  }
  const waiting = write(storeA, first.signal)
  await settled()
  const behind = write(storeB, second.signal)
  await settled()
  second.abort(new Error('something else is to be done'))
  await assert.rejects(behind, /something else/)
  first.abort(new Error('that too'))
  await assert.rejects(waiting, /that too/)
  assert.equal(log.fullSinceMs, undefined)
  log.acknowledge('slow', log.durable)
  await write(storeB, new AbortController().signal)
  await log.sync()
  assert.equal(log.next, next + 1)
  assert.deepEqual(
    (await transactions(log, next)).map(({ store }) => store),
    [storeB],
  )
})
