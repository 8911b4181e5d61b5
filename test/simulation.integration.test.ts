/**
 * Sets of servers under everything that goes wrong (test/sim/world.ts), by seeds that are always the same: those that
 * once found something, and a range. `npm run sim -- --from N --count M --jobs 2` runs any others; a seed that fails is
 * named with its replay.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('sim/run.ts', import.meta.url))
/**
 * What goes wrong soon is found in many short worlds, what needs a long history in few long ones: a processor's second
 * finds as much in either. All together take a minute and three quarters on two cores.
 */
const short = { steps: 20, from: 10_000, count: 2_000 }
const long = { steps: 60, from: 20_000, count: 150 }
/** Since worlds are what they are now: with another order of what is drawn, a seed is another world. */
const found = { steps: short.steps, seeds: [30_196, 30_406] }

/** What it says when it fails is the replay of each seed that failed. */
async function simulateAll(seeds: readonly number[], steps: number): Promise<void> {
  const jobs = String(Math.min(availableParallelism(), 8))
  const which = seeds.flatMap(seed => ['--seed', String(seed)])
  const args = [program, ...which, '--steps', String(steps), '--jobs', jobs]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let faults = ''
  child.stdout.on('data', data => {
    said += data
  })
  child.stderr.on('data', data => {
    faults += data
  })
  await once(child, 'close')
  assert.equal(faults, '')
  assert.match(said, new RegExp(`^${seeds.length} seeds held, 0 failed`))
}

const seedsOf = ({ from, count }: typeof short) => Array.from({ length: count }, (_, i) => from + i)

test('no law is broken by a seed that once found something', () => simulateAll(found.seeds, found.steps))

test('no law is broken by any seed of a range of short worlds', () =>
  simulateAll(seedsOf(short), short.steps))

test('no law is broken by any seed of a range of long worlds', () => simulateAll(seedsOf(long), long.steps))
