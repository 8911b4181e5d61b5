/**
 * Runs the simulation of a set of servers.
 *
 *   npm run sim -- --seed 42 --trace      one seed, with what happens; or several: --seed 42 --seed 43
 *   npm run sim -- --from 1 --count 1000 --jobs 2      many, in two processes; --steps 20: shorter ones
 *   npm run sim -- --from 1 --count 100 --seconds 60   at least so many, and more while there is time
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { type SimulationReport, simulate } from './world.ts'

/** A seed that takes longer goes round for ever without letting time go on. */
const seedSecondsMax = 60
/**
 * Of some worlds what never ends is held by the signals that it waits for, about a megabyte each time. A process that has
 * just begun takes half as long again for each of its first some dozen seeds.
 */
const seedsPerProcess = 500

interface Totals {
  held: number
  failed: number
  commits: number
  crashes: number
  promotions: number
  virtualMs: number
}

/** What a job says of its seeds, and whether there are no more. */
type Said =
  | { readonly begun: number }
  | { readonly held: SimulationReport }
  | { readonly failed: number }
  | { readonly over: boolean }

const totals: Totals = { held: 0, failed: 0, commits: 0, crashes: 0, promotions: 0, virtualMs: 0 }

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
    /** So many of those are done already. */
    skip: { type: 'string', default: '0' },
    /** When the time of `--seconds` is over, by the clock. */
    'until-ms': { type: 'string' },
    trace: { type: 'boolean' },
  },
})
const steps = Number(values.steps)
const jobs = values.trace ? 1 : Number(values.jobs)
const first = Number(values.from)
const endMs =
  values['until-ms'] === undefined
    ? Date.now() + Number(values.seconds ?? 0) * 1000
    : Number(values['until-ms'])

function* seeds(): Generator<number> {
  if (values.seed !== undefined) return yield* values.seed.map(Number)
  const end = first + Number(values.count)
  for (let seed = first; seed < end || Date.now() < endMs; seed++) yield seed
}

/** Of the seeds every so manyth, from the one of this number among those on. False: there are more. */
async function runJob(job: number, from: number, said: (message: Said) => void): Promise<boolean> {
  // a stack costs more than what it is taken for here; a replay has them
  if (!values.trace) Error.stackTraceLimit = 0
  // many thousand small buffers a second: an allocation of its own for each costs more than what it is taken for
  Buffer.poolSize = 64 * 1024
  let index = 0
  for (const seed of seeds()) {
    if (index++ % jobs !== job) continue
    const own = Math.floor((index - 1) / jobs)
    if (own < from) continue
    if (own >= from + seedsPerProcess && !values.trace) return false
    said({ begun: seed })
    try {
      said({ held: await simulate(seed, steps, values.trace ? line => say(line) : undefined) })
    } catch (error) {
      say(error instanceof Error ? (error.stack ?? error.message) : String(error))
      if (error instanceof Error && error.cause instanceof Error)
        say(error.cause.stack ?? error.cause.message)
      sayReplay(seed)
      said({ failed: seed })
    }
  }
  return true
}

/** In processes of its own, one after another: a core for each job, and memory that is bounded. */
async function forkJob(job: number): Promise<void> {
  let done = 0
  for (let isOver = false; !isOver; ) {
    const child = fork(
      fileURLToPath(import.meta.url),
      [...process.argv.slice(2), '--job', String(job), '--skip', String(done), '--until-ms', String(endMs)],
      // what dies young is most of what there is
      { execArgv: ['--max-semi-space-size=32'] },
    )
    let under: number | undefined
    let timer: NodeJS.Timeout | undefined
    let hasEnded = false
    child.on('message', (message: Said) => {
      clearTimeout(timer)
      if ('begun' in message) {
        under = message.begun
        timer = setTimeout(() => child.kill('SIGKILL'), seedSecondsMax * 1000)
        return
      }
      under = undefined
      if ('over' in message) {
        hasEnded = true
        isOver = message.over
        return
      }
      done++
      count(message)
    })
    const [code] = await once(child, 'close')
    clearTimeout(timer)
    if (hasEnded) continue
    say(
      `A process of the simulation ended (${code}), or was ended after ${seedSecondsMax} s, at seed ${under}.`,
    )
    totals.failed++
    if (under === undefined) return
    sayReplay(under)
    done++
  }
}

function count(message: Said): void {
  if ('failed' in message) totals.failed++
  if (!('held' in message)) return
  totals.held++
  for (const key of ['commits', 'crashes', 'promotions', 'virtualMs'] as const)
    totals[key] += message.held[key]
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
  const over = await runJob(Number(values.job), Number(values.skip), message => process.send?.(message))
  process.send?.({ over }, () => process.exit())
} else {
  // what happens is traced in this process
  if (values.trace) await runJob(0, 0, count)
  else await Promise.all(Array.from({ length: jobs }, (_, job) => forkJob(job)))
  const { held, failed, commits, crashes, promotions, virtualMs } = totals
  process.stdout.write(
    `${held} seeds held, ${failed} failed; ${commits} commits, ${crashes} crashes, ` +
      `${promotions} promotions in ${(virtualMs / 3_600_000).toFixed(1)} hours of the simulated hosts\n`,
  )
  process.exit(failed === 0 ? 0 : 1)
}
