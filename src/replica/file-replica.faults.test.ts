/**
 * The replica on a disk that fails on purpose, at every step of its work in turn: the machine stops, losing and tearing
 * what was not synced; space runs out; reading, writing and syncing fail.
 *
 * HOTSPARE_SEED=N plays what a crash keeps in another way.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import type { HotspareError } from '../os/errors.ts'
import { FaultyStorage, MachineDown, type Plan } from '../os/testing/faulty-storage.ts'
import { Random } from '../os/testing/random.ts'
import { seed } from '../os/testing/seed.ts'
import { CopyHarness } from './testing/copy-harness.ts'
import {
  change,
  directory,
  hardlink,
  rename,
  symlink,
  type Transaction,
  truncate,
  write,
} from './testing/copy-model.ts'

const data = new Random(4711)

/** Appends, new files, new versions, removals, renames; then changes in place, and appends again. */
const script: readonly Transaction[] = [
  { consistent: false, changes: [directory('d'), write('a', 0, data.bytes(3000))] },
  { consistent: false, changes: [write('a', 3000, data.bytes(700)), write('b', 0, data.bytes(100))] },
  {
    consistent: true,
    changes: [
      change('replace', 'm'),
      write('m', 0, data.bytes(300)),
      change('replaced', 'm'),
      symlink('s', 'm'),
      hardlink('h', 'a'),
      write('d/x', 0, data.bytes(10)),
    ],
  },
  { consistent: true, changes: [write('a', 3700, data.bytes(2500))] },
  {
    consistent: true,
    changes: [
      write('b', 100, data.bytes(900)),
      write('c', 0, data.bytes(4100)),
      change('replace', 'm'),
      write('m', 0, data.bytes(50)),
      change('replaced', 'm'),
      change('remove', 'b'),
    ],
  },
  {
    consistent: false,
    changes: [
      write('c', 4100, data.bytes(600)),
      rename('d', 'e'),
      write('f/g', 0, data.bytes(600)),
      symlink('s', 'c'),
      rename('m', 'n'),
      change('replace', 'm'),
      write('m', 0, data.bytes(20)),
    ],
  },
  {
    consistent: true,
    changes: [truncate('c', 9000), change('remove', 'h'), write('c', 9000, data.bytes(100))],
  },
  // in place from here on: nothing of it shows before the consistent commit
  {
    consistent: false,
    changes: [write('c', 100, data.bytes(3000)), truncate('a', 1000), write('k', 0, data.bytes(1500))],
  },
  {
    consistent: false,
    changes: [
      change('replace', 'p'),
      write('p', 0, data.bytes(2500)),
      change('replaced', 'p'),
      rename('p', 'q'),
      write('p', 0, data.bytes(200)),
      rename('p', 'r'),
      hardlink('t', 'c'),
    ],
  },
  {
    consistent: true,
    changes: [
      change('remove', 'k'),
      write('k', 0, data.bytes(30)),
      write('t', 50, data.bytes(100)),
      change('remove', 'f'),
      write('f', 0, data.bytes(40)),
      write('a', 1000, data.bytes(5000)),
    ],
  },
  { consistent: true, changes: [write('a', 6000, data.bytes(1000)), write('z', 0, data.bytes(77))] },
]
/** Does `work` for each step of a whole run; what fails says where. */
async function atEachStep(
  applies: Applies,
  work: (harness: CopyHarness, at: number) => Promise<void>,
): Promise<void> {
  const harness = new CopyHarness({ applies, script, blockBytes: 2048, seed })
  const whole = await harness.wholeRun()
  assert.ok(whole.length > 250, `only ${whole.length} steps`)
  for (const { number, call, path } of whole) {
    try {
      await work(harness, number)
    } catch (error) {
      const where = `at step ${number} (${call} ${path}), HOTSPARE_SEED=${seed}`
      throw new Error(`${where}: ${(error as Error).message}`, { cause: error })
    }
  }
}

function crashing(at: number, done: 'nothing' | 'part' | 'all'): Plan {
  return step => (step.number === at ? { kind: 'crash', done } : { kind: 'go' })
}

type Applies = 'in-order' | 'atomic'

/** By the law that holds. Right after a step is right before the next, so that needs no trial of its own. */
const laws: Readonly<Record<string, (applies: Applies) => Promise<void>>> = {
  'a machine that stops before any step leaves a prefix with all that was acknowledged': applies =>
    atEachStep(applies, (harness, at) => stopAndRecover(harness, at, 'nothing')),

  'a machine that stops in the middle of any step leaves a prefix with all that was acknowledged': applies =>
    atEachStep(applies, (harness, at) => stopAndRecover(harness, at, 'part')),

  'a machine that stops again while it recovers leaves no less': applies =>
    atEachStep(applies, async (harness, at) => {
      const random = new Random(seed * 7919 + at)
      const storage = await harness.newStorage(crashing(at, random.pick(['nothing', 'part', 'all'])))
      let { acknowledged, shown } = await harness.run(storage)
      let { disk } = storage
      for (let again = 0; again < 3; again++) {
        const next = new FaultyStorage(disk.crash(random), crashing(random.below(120), 'part'))
        const run = await harness.run(next)
        if (run.error === undefined) acknowledged = shown = script.length
        else assert.ok(run.error instanceof MachineDown, String(run.error))
        acknowledged = Math.max(acknowledged, run.acknowledged)
        shown = Math.max(shown, run.shown)
        disk = next.disk
      }
      await harness.assertRecovers(new FaultyStorage(disk.crash(random)), { acknowledged, shown })
    }),

  'a process that is killed at any step, with nothing lost, leaves a prefix with all that was acknowledged':
    applies =>
      atEachStep(applies, async (harness, at) => {
        const storage = await harness.newStorage(step =>
          step.number < at ? { kind: 'go' } : { kind: 'fail', code: 'EKILLED', done: 'part' },
        )
        const run = await harness.run(storage)
        await harness.assertRecovers(new FaultyStorage(storage.disk), run)
      }),

  'a disk that is full from any step on is told as that, and with space again all comes to its end':
    applies =>
      atEachStep(applies, async (harness, at) => {
        let hits = 0
        const storage = await harness.newStorage(step => {
          if (step.number < at || !step.grows) return { kind: 'go' }
          hits++
          return { kind: 'fail', code: 'ENOSPC', done: 'part' }
        })
        const run = await harness.run(storage)
        if (hits > 0)
          assert.equal((run.error as HotspareError | undefined)?.code, 'disk-full', String(run.error))
        storage.replan(() => ({ kind: 'go' }))
        await harness.assertRecovers(storage, run)
      }),

  'any call that fails is told, and what was acknowledged stays, also when its fsync was the one that failed':
    applies =>
      atEachStep(applies, async (harness, at) => {
        const storage = await harness.newStorage(step =>
          step.number === at ? { kind: 'fail', code: 'EIO', done: 'part' } : { kind: 'go' },
        )
        const run = await harness.run(storage)
        assert.equal((run.error as HotspareError | undefined)?.code, 'io-error', String(run.error))
        await harness.assertRecovers(storage, run)
      }),
}

async function stopAndRecover(harness: CopyHarness, at: number, done: 'nothing' | 'part'): Promise<void> {
  const storage = await harness.newStorage(crashing(at, done))
  const run = await harness.run(storage)
  assert.ok(run.error instanceof MachineDown, String(run.error))
  const after = storage.disk.crash(new Random(seed * 100_003 + at))
  await harness.assertRecovers(new FaultyStorage(after), run)
}

// in a worker, because the test runner follows every promise of its own thread, and there are millions
if (isMainThread) {
  for (const applies of ['in-order', 'atomic'] as const) {
    for (const law of Object.keys(laws)) {
      test(`${applies}: ${law}`, async () => {
        const worker = new Worker(new URL(import.meta.url), { workerData: { applies, law } })
        const [result] = await once(worker, 'message')
        await worker.terminate()
        assert.equal(result, 'holds')
      })
    }
  }
} else {
  const { applies, law } = workerData as { applies: Applies; law: string }
  const result = await laws[law]?.(applies).then(
    () => 'holds',
    error => `${(error as Error).stack}\n${((error as Error).cause as Error | undefined)?.stack ?? ''}`,
  )
  parentPort?.postMessage(result)
}
