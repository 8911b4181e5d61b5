/**
 * Runs the simulation of a set of servers.
 *
 *   npm run sim -- --seed 42 --trace      one seed, with what happens
 *   npm run sim -- --from 1 --count 1000  many
 *   npm run sim -- --from 1 --count 100 --seconds 60   at least so many, and more while there is time
 */
import { parseArgs } from 'node:util'
import { simulate } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '1' },
    count: { type: 'string', default: '200' },
    steps: { type: 'string', default: '60' },
    seconds: { type: 'string' },
    trace: { type: 'boolean' },
  },
})

// a stack costs more than what it is taken for here; a replay has them
if (!values.trace) Error.stackTraceLimit = 0
// many thousand small buffers a second: an allocation of its own for each costs more than what it is taken for
Buffer.poolSize = 64 * 1024

const first = Number(values.seed ?? values.from)
const last = values.seed === undefined ? first + Number(values.count) - 1 : first
const endMs =
  values.seconds === undefined || values.seed !== undefined
    ? undefined
    : performance.now() + Number(values.seconds) * 1000
const steps = Number(values.steps)
const totals = { seeds: 0, commits: 0, crashes: 0, promotions: 0, virtualMs: 0 }
let failed = 0
for (let seed = first; seed <= last || (endMs !== undefined && performance.now() < endMs); seed++) {
  try {
    const report = await simulate(
      seed,
      steps,
      values.trace ? line => process.stderr.write(`${line}\n`) : undefined,
    )
    totals.seeds++
    for (const key of ['commits', 'crashes', 'promotions', 'virtualMs'] as const) totals[key] += report[key]
  } catch (error) {
    failed++
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`)
    if (error instanceof Error && error.cause instanceof Error) process.stderr.write(`${error.cause.stack}\n`)
    process.stderr.write(`replay: npm run sim -- --seed ${seed} --steps ${steps} --trace\n\n`)
  }
}
process.stdout.write(
  `${totals.seeds} seeds held, ${failed} failed; ${totals.commits} commits, ${totals.crashes} crashes, ` +
    `${totals.promotions} promotions in ${(totals.virtualMs / 3_600_000).toFixed(1)} hours of the simulated hosts\n`,
)
process.exit(failed === 0 ? 0 : 1)
