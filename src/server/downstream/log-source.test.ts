import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { openLog } from '../../log/segment-log.ts'
import { FaultyStorage } from '../../os/testing/faulty-storage.ts'
import { ManualClock } from '../../os/testing/manual-clock.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { entryPath, type Position, position, storeName } from '../../stream/entry.ts'
import { LogReading } from './log-reading.ts'
import { LogSource, restMsMax } from './log-source.ts'
import { testRandom } from './testing/test-random.ts'

const store = storeName('a')

async function followed() {
  const clock = new ManualClock()
  const log = await openLog({
    storage: new FaultyStorage(new MemoryDisk()),
    clock,
    random: testRandom(1),
    directory: '/log',
    limits: { bytesMax: 1 << 30, whenFull: 'block', keepMs: 0, keepBytes: 1 << 30 },
    onNotice: () => {},
  })
  const sink = log.sink(store)
  let count = 0
  const append = async () => {
    const data = Buffer.from(`${++count}`)
    await sink.write({ type: 'write', store, path: entryPath('a'), offset: 0, data })
    await sink.write({ type: 'commit', store, position: position(`${count}`), consistent: true, timeMs: 0 })
    await log.sync()
  }
  const reading = new LogReading(log, clock)
  const source = new LogSource({
    store,
    reading,
    after: 0,
    until: () => undefined,
    restsAt: () => false,
  })
  const close = async () => {
    await source.close()
    await reading.close()
    await sink.close()
    await log.close()
  }
  return { clock, append, source, close }
}

/** Whether it has resolved when nothing more can happen by itself. */
async function isOver(work: Promise<void>): Promise<boolean> {
  let over = false
  void work.then(() => {
    over = true
  })
  for (let i = 0; i < 10; i++) await setImmediate()
  return over
}

async function commits(source: LogSource, from: Position | undefined): Promise<Position[]> {
  const { signal } = new AbortController()
  const taken: Position[] = []
  for await (const entry of source.read(from, { signal, inventory: async () => undefined }))
    if (entry.type === 'commit') taken.push(entry.position)
  return taken
}

test('a copy that took long to take what there was rests, and takes together what comes meanwhile', async () => {
  const { clock, append, source, close } = await followed()
  const { signal } = new AbortController()
  await append()
  const first = await commits(source, undefined)
  await clock.pass(10)
  const waiting = source.wait(signal)
  assert.equal(source.waiting, true)
  await append()
  assert.equal(await isOver(waiting), false)
  assert.equal(source.waiting, false, 'it knows of more')
  await clock.pass(29)
  await append()
  assert.equal(await isOver(waiting), false)
  await clock.pass(1)
  assert.equal(await isOver(waiting), true)
  assert.equal((await commits(source, first[0])).length, 2)
  await close()
})

test('however long it took, a copy rests for a bounded time', async () => {
  const { clock, append, source, close } = await followed()
  await clock.pass(100_000)
  const waiting = source.wait(new AbortController().signal)
  await append()
  await clock.pass(restMsMax - 1)
  assert.equal(await isOver(waiting), false)
  await clock.pass(1)
  assert.equal(await isOver(waiting), true)
  await close()
})

test('what comes to a copy that has rested already is taken at once', async () => {
  const { clock, append, source, close } = await followed()
  await clock.pass(10)
  const waiting = source.wait(new AbortController().signal)
  await clock.pass(30)
  assert.equal(await isOver(waiting), false)
  await append()
  assert.equal(await isOver(waiting), true)
  await close()
})

test('a source that rests is ended at once', async () => {
  const { clock, append, source, close } = await followed()
  await clock.pass(10)
  const stop = new AbortController()
  const waiting = source.wait(stop.signal)
  await append()
  assert.equal(await isOver(waiting), false)
  stop.abort()
  assert.equal(await isOver(waiting), true)
  await close()
})
