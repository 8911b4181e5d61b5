/** A log that begins anew, or is cut: while others have to do with it, and when that fails. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { type Fate, FaultyStorage, noFaults } from '../os/testing/faulty-storage.ts'
import { Random } from '../os/testing/random.ts'
import type { Log } from './log.ts'
import {
  append,
  memory,
  openTestLog,
  roomy,
  storeA,
  type TestLog,
  transactions,
} from './testing/log-harness.ts'

const many = { segmentBytes: 900, stream: 's', limits: roomy }
const last = 20

interface Prepared extends TestLog {
  readonly storage: FaultyStorage
}

/** A log of several segments, which `one` has not acknowledged. */
async function prepare(): Promise<Prepared> {
  const storage = memory()
  const opened = await openTestLog(storage, many)
  await opened.log.subscribe('one', 0)
  for (let i = 1; i <= last; i++) await append(opened.log, storeA, i)
  await opened.log.sync()
  return { ...opened, storage }
}

interface Act {
  /** The number that comes next when it is done. */
  readonly next: number
  /** Up to here it may be acknowledged, and removed, before. */
  readonly acknowledged: number
  run(log: Log): Promise<unknown>
}

const acts: Readonly<Record<string, Act>> = {
  'begun anew elsewhere': {
    next: 500,
    acknowledged: last,
    run: log => log.restart({ next: 500, chain: '00000000000000aa' }),
  },
  'begun anew where it began before': {
    next: 1,
    acknowledged: last,
    run: log => log.restart({ next: 1, chain: '00000000000000aa' }),
  },
  cut: { next: 9, acknowledged: 8, run: log => log.cutAfter(8, '/log/aside.txlog') },
}

const fates: readonly Fate[] = [
  { kind: 'fail', code: 'EIO', done: 'nothing' },
  { kind: 'fail', code: 'ENOSPC', done: 'part' },
  { kind: 'crash', done: 'part' },
]

/** Whether another transaction is durable. */
async function goOn(log: Log): Promise<boolean> {
  try {
    await append(log, storeA, 100)
    await log.sync()
    return true
  } catch {
    return false
  }
}

async function positions(log: Log): Promise<string[]> {
  return (await transactions(log)).map(({ position }) => position)
}

for (const [name, act] of Object.entries(acts)) {
  test(`a log that is ${name} keeps what follows, whenever somebody acknowledges meanwhile`, async () => {
    for (let turns = 0; turns < 120; turns++) {
      const { log, storage } = await prepare()
      const acting = act.run(log)
      for (let i = 0; i < turns; i++) await Promise.resolve()
      log.acknowledge('one', act.acknowledged)
      await acting
      await append(log, storeA, 100)
      await log.close()
      const again = await openTestLog(storage, many)
      assert.deepEqual([again.log.damage, again.log.next], [[], act.next + 1], `after ${turns} turns`)
      assert.equal((await positions(again.log)).at(-1), '100')
      await again.log.close()
    }
  })

  test(`a log that could not be ${name} is as before, or else done when it is opened next: nothing durable is lost`, async () => {
    const whole = await prepare()
    const from = whole.storage.steps.length
    await act.run(whole.log)
    const steps = whole.storage.steps.length
    let done = 0
    for (let step = from; step < steps; step++) {
      for (const fate of fates) {
        for (const isPowerCut of [false, true]) {
          const what = `step ${step} (${JSON.stringify(whole.storage.steps[step])}), ${JSON.stringify(fate)}`
          const { log, clock, storage } = await prepare()
          storage.replan(({ number }) => (number === step ? fate : { kind: 'go' }))
          await act.run(log).catch(() => undefined)
          storage.replan(noFaults)
          // what was acknowledged is written down, where the log still does such things
          log.acknowledge('one', 3)
          await clock.pass(2000)
          const goesOn = await goOn(log)
          const { next } = log
          if (!isPowerCut) await log.close().catch(() => undefined)
          const disk =
            isPowerCut || fate.kind === 'crash' ? storage.disk.crash(new Random(step)) : storage.disk
          const again = await openTestLog(new FaultyStorage(disk), many)
          assert.deepEqual(again.log.damage, [], what)
          if (goesOn) {
            assert.equal(again.log.next, next, what)
            assert.equal((await positions(again.log)).at(-1), '100', what)
          } else {
            assert.ok([act.next, last + 1].includes(again.log.next), `${what}: ${again.log.next}`)
            if (again.log.next === act.next) done++
          }
          assert.ok(await goOn(again.log), what)
          await again.log.close()
        }
      }
    }
    assert.ok(done > 0, 'no fault came after what cannot be taken back')
  })
}

test('who subscribes while segments are removed has all that follows, or is told that it is not kept', async () => {
  for (let turns = 0; turns < 40; turns++) {
    const { log } = await prepare()
    await append(log, storeA, last + 1)
    const subscribing = log.subscribe('new', 0).then(
      () => true,
      error => {
        assert.equal((error as { code: string }).code, 'log-removed')
        return false
      },
    )
    for (let i = 0; i < turns; i++) await Promise.resolve()
    log.acknowledge('one', last)
    const isSubscribed = await subscribing
    await log.close()
    assert.equal(log.first === 1, isSubscribed, `after ${turns} turns: it begins with ${log.first}`)
  }
})

test('damage that is found when a log is cut is named, as when it is opened', async () => {
  const { log, notices, storage } = await prepare()
  const file = await storage.open('/log/00000000000000000005.seg', 'write')
  await file.write(Buffer.from('wrong'), 400)
  await file.close()
  await log.cutAfter(16, '/log/aside.txlog')
  assert.deepEqual(
    log.damage.map(({ fromNumber, goesOn }) => [fromNumber <= 8, goesOn]),
    [[true, 'after']],
  )
  assert.deepEqual(
    notices.map(({ code }) => code),
    ['log-damaged'],
  )
  await log.close()
})

test('a log that is closed twice at once is let go of once, when all is written', async () => {
  const { log, storage } = await prepare()
  log.acknowledge('one', 7)
  await Promise.all([log.close(), log.close()])
  const { length } = storage.steps
  await log.close()
  assert.equal(storage.steps.length, length)
  const again = await openTestLog(storage, many)
  assert.equal(again.log.subscribers()[0]?.acknowledged, 7)
})

for (const [name, act] of Object.entries(acts)) {
  test(`${name}: whoever wants a sync meanwhile has it, or hears that the log was begun anew; never that it is broken`, async () => {
    const { log, storage } = await prepare()
    const heard: Promise<string>[] = []
    let isAsked = false
    storage.replan(() => {
      // what asking itself does to the disk is no reason to ask
      if (isAsked) return { kind: 'go' }
      isAsked = true
      heard.push(
        log.sync().then(
          () => 'synced',
          error => error.code,
        ),
      )
      isAsked = false
      return { kind: 'go' }
    })
    await act.run(log)
    storage.replan(noFaults)
    const said = new Set(await Promise.all(heard))
    assert.ok(said.has('log-removed'), `nobody asked while it had no segments: ${[...said]}`)
    assert.deepEqual(new Set([...said, 'synced', 'log-removed']), new Set(['synced', 'log-removed']))
    await log.sync()
    assert.equal(log.next, act.next)
  })
}
