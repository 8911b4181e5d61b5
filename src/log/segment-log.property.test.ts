/** Whatever is done with a log, in whatever order, with crashes between: it is what a list in memory would be. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { Random } from '../os/testing/random.ts'
import { type Position, position, type StoreName } from '../stream/entry.ts'
import {
  append,
  memory,
  openTestLog,
  roomy,
  storeA,
  storeB,
  type TestLog,
  transactions,
} from './testing/log-harness.ts'

interface Model {
  first: number
  /** Positions by number - 1; undefined before `first`. */
  given: string[]
  durable: number
  /** What each store's next transaction follows on, and after which number that was so. */
  positions: { store: StoreName; after: number; position: Position | undefined }[]
  acknowledged: number
}

const options = (random: Random) => ({
  segmentBytes: 400 + random.below(1500),
  bufferBytes: 300 + random.below(3000),
  limits: roomy,
  stream: 's',
})

test('a log is what a list would be, over random acts and crashes', async () => {
  for (let seed = 1; seed <= 150; seed++) await live(seed)
})

async function live(seed: number): Promise<void> {
  const random = new Random(seed)
  const what = `seed ${seed}`
  let storage = memory()
  let opened: TestLog = await openTestLog(storage, options(random))
  await opened.log.subscribe('one', 0)
  const model: Model = { first: 1, given: [], durable: 0, positions: [], acknowledged: 0 }
  for (let i = 0; i < 60; i++) {
    const { log } = opened
    switch (random.below(14)) {
      case 0:
      case 1:
        await log.sync()
        model.durable = model.given.length
        break
      case 2:
        model.acknowledged += random.below(model.durable - model.acknowledged + 1)
        log.acknowledge('one', model.acknowledged)
        break
      case 3: {
        const at = random.below(4) === 0 ? undefined : position(`rebased-${i}`)
        await log.rebase(storeA, at)
        model.durable = model.given.length
        model.positions.push({ store: storeA, after: model.durable, position: at })
        break
      }
      case 4: {
        const to = model.acknowledged + random.below(log.next - model.acknowledged)
        await log.cutAfter(to, '/log/aside.txlog')
        model.given.length = to
        model.durable = to
        forgetAfter(model, to)
        break
      }
      case 5: {
        if (random.below(2) === 0) {
          await log.close()
          model.durable = model.given.length
        } else storage = new FaultyStorage(storage.disk.crash(random))
        opened = await openTestLog(storage, options(random))
        await settle(opened, model, what)
        break
      }
      default: {
        const store = random.below(2) === 0 ? storeA : storeB
        const at = String(i)
        await append(log, store, at, random.below(random.below(8) === 0 ? 4000 : 200))
        model.given.push(at)
        model.positions.push({ store, after: model.given.length - 1, position: position(at) })
      }
    }
  }
  await check(opened, model, what)
}

/** After a crash some of what was not durable may be gone, and less may be known to be acknowledged. */
async function settle({ log, notices }: TestLog, model: Model, what: string): Promise<void> {
  assert.deepEqual([log.damage, notices], [[], []], what)
  const last = log.next - 1
  assert.ok(last >= model.durable && last <= model.given.length, what)
  forgetAfter(model, last)
  model.given.length = last
  model.durable = last
  const [one] = log.subscribers()
  assert.ok(one?.kept && one.acknowledged <= model.acknowledged, what)
  model.acknowledged = one.acknowledged
  await check({ log, notices } as TestLog, model, what)
}

/** A transaction that is gone left no position either; a rebase stands where the log stood. */
function forgetAfter(model: Model, last: number): void {
  model.positions = model.positions.filter(({ after, position: at }) => {
    const isTransaction = at !== undefined && !at.startsWith('rebased')
    return isTransaction ? after < last : after <= last
  })
}

async function check({ log }: TestLog, model: Model, what: string): Promise<void> {
  await log.sync()
  model.durable = model.given.length
  assert.equal(log.next, model.given.length + 1, what)
  assert.ok(log.first <= model.acknowledged + 1, what)
  assert.deepEqual(
    (await transactions(log)).map(({ number, position: at }) => [number, at]),
    model.given.slice(log.first - 1).map((at, i) => [log.first + i, at]),
    what,
  )
  for (const store of [storeA, storeB]) {
    const sink = log.sink(store)
    const expected = model.positions.findLast(one => one.store === store)?.position
    assert.equal(await sink.position(store), expected, `${what}, store '${store}'`)
    await sink.close()
  }
}
