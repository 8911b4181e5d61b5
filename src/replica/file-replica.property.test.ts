/** The laws of the faults test for scripts of any kind: fast-check makes them, and makes them small when one fails. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultyStorage, MachineDown } from '../os/testing/faulty-storage.ts'
import { fc } from '../os/testing/properties.ts'
import { Random } from '../os/testing/random.ts'
import { CopyHarness } from './testing/copy-harness.ts'
import { transactionsFrom } from './testing/random-script.ts'

const choice = fc.record({
  kind: fc.nat({ max: 15 }),
  path: fc.nat({ max: 7 }),
  other: fc.nat({ max: 7 }),
  offset: fc.nat({ max: 1500 }),
  size: fc.nat({ max: 700 }),
})
const script = fc
  .array(fc.record({ consistent: fc.boolean(), changes: fc.array(choice, { minLength: 1, maxLength: 6 }) }), {
    minLength: 1,
    maxLength: 7,
  })
  .map(transactionsFrom)

for (const applies of ['in-order', 'atomic'] as const) {
  test(`${applies}: whatever is sent, and wherever the machine stops, the copy is a prefix and comes to its end`, async () => {
    await fc.assert(
      fc.asyncProperty(
        script,
        fc.nat(),
        fc.array(fc.nat({ max: 400 }), { minLength: 1, maxLength: 3 }),
        async (transactions, seed, stops) => {
          const random = new Random(seed)
          const harness = new CopyHarness({
            applies,
            script: transactions,
            blockBytes: 256,
            seed,
            syncsAfter: (transaction, changes, isCommit) =>
              (transaction * 31 + changes * 17 + seed) % (isCommit ? 2 : 9) === 0,
          })
          let storage = await harness.newStorage()
          let acknowledged = 0
          let shown = 0
          for (const at of stops) {
            const done = random.pick(['nothing', 'part', 'all'] as const)
            storage.replan(step => (step.number === at ? { kind: 'crash', done } : { kind: 'go' }))
            const run = await harness.run(storage)
            if (run.error !== undefined) assert.ok(run.error instanceof MachineDown, String(run.error))
            const all = run.error === undefined ? transactions.length : 0
            acknowledged = Math.max(acknowledged, run.acknowledged, all)
            shown = Math.max(shown, run.shown, all)
            storage = new FaultyStorage(storage.disk.crash(random))
          }
          await harness.assertRecovers(storage, { acknowledged, shown })
        },
      ),
      { numRuns: Number(process.env.HOTSPARE_RUNS ?? 200) },
    )
  })
}
