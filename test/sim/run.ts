/**
 * Runs the simulation of a set of servers.
 *
 *   npm run sim -- --seed 42 --trace      one seed, with what happens; or several: --seed 42 --seed 43
 *   npm run sim -- --from 1 --count 1000 --jobs 2      many, in two processes
 *   npm run sim -- --from 1 --count 100 --seconds 60   at least so many, and more while there is time
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { simulate } from './world.ts'

/** A seed that takes longer goes round for ever without letting time go on. */
const seedSecondsMax = 60

interface Totals {
  held: number
  failed: number
  commits: number
  crashes: number
  promotions: number
  virtualMs: number
}

const nothing: Totals = { held: 0, failed: 0, commits: 0, crashes: 0, promotions: 0, virtualMs: 0 }

const { values } = parseArgs({
  options: {
    seed: { type: 'string', multiple: true },
    from: { type: 'string', default: '1' },
    count: { type: 'string', default: '200' },
    steps: { type: 'string', default: '60' },
    seconds: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    /** Of the seeds only those of one process: its number. */
    job: { type: 'string' },
    trace: { type: 'boolean' },
  },
})
const steps = Number(values.steps)
const jobs = Number(values.jobs)
const first = Number(values.from)
const endMs = values.seconds === undefined ? undefined : performance.now() + Number(values.seconds) * 1000

function* seeds(): Generator<number> {
  if (values.seed !== undefined) return yield* values.seed.map(Number)
  const end = first + Number(values.count)
  for (let seed = first; seed < end || (endMs !== undefined && performance.now() < endMs); seed++) yield seed
}

/** Of the seeds every so manyth. */
async function runJob(job: number): Promise<Totals> {
  // a stack costs more than what it is taken for here; a replay has them
  if (!values.trace) Error.stackTraceLimit = 0
  // many thousand small buffers a second: an allocation of its own for each costs more than what it is taken for
  Buffer.poolSize = 64 * 1024
  const totals = { ...nothing }
  let index = 0
  for (const seed of seeds()) {
    if (index++ % jobs !== job) continue
    process.send?.({ seed })
    try {
      const report = await simulate(seed, steps, values.trace ? line => say(line) : undefined)
      totals.held++
      for (const key of ['commits', 'crashes', 'promotions', 'virtualMs'] as const) totals[key] += report[key]
    } catch (error) {
      totals.failed++
      say(error instanceof Error ? (error.stack ?? error.message) : String(error))
      if (error instanceof Error && error.cause instanceof Error)
        say(error.cause.stack ?? error.cause.message)
      sayReplay(seed)
    }
  }
  return totals
}

/** In a process of its own: a core for each. */
async function forkJob(job: number): Promise<Totals> {
  const child = fork(
    fileURLToPath(import.meta.url),
    [...process.argv.slice(2), '--job', String(job)],
    // what dies young is most of what there is
    { execArgv: ['--max-semi-space-size=32'] },
  )
  let totals: Totals | undefined
  let seed = first
  let timer: NodeJS.Timeout | undefined
  child.on('message', (message: { seed: number } | { totals: Totals }) => {
    clearTimeout(timer)
    if ('totals' in message) totals = message.totals
    else {
      seed = message.seed
      timer = setTimeout(() => child.kill('SIGKILL'), seedSecondsMax * 1000)
    }
  })
  const [code] = await once(child, 'exit')
  clearTimeout(timer)
  if (totals !== undefined) return totals
  say(`A process of the simulation ended (${code}), or was ended after ${seedSecondsMax} s, at seed ${seed}.`)
  sayReplay(seed)
  return { ...nothing, failed: 1 }
}

function sayReplay(seed: number): void {
  say(`replay: npm run sim -- --seed ${seed} --steps ${steps} --trace\n`)
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

if (values.job !== undefined) {
  // nobody waits for it any more
  process.once('disconnect', () => process.exit(1))
  const totals = await runJob(Number(values.job))
  process.send?.({ totals }, () => process.exit())
} else {
  const all =
    jobs === 1 ? [await runJob(0)] : await Promise.all(Array.from({ length: jobs }, (_, job) => forkJob(job)))
  const sum = (key: keyof Totals) => all.reduce((total, one) => total + one[key], 0)
  process.stdout.write(
    `${sum('held')} seeds held, ${sum('failed')} failed; ${sum('commits')} commits, ${sum('crashes')} crashes, ` +
      `${sum('promotions')} promotions in ${(sum('virtualMs') / 3_600_000).toFixed(1)} hours of the simulated hosts\n`,
  )
  process.exit(sum('failed') === 0 ? 0 : 1)
}
