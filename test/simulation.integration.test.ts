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
const steps = 60
const found = [19, 22, 29, 33, 44, 145, 1021, 5097, 5132, 5140, 10_138, 10_263, 20_189]
/** So many take a minute and a quarter on two cores. */
const range = { from: 10_000, count: 680 }

/** What it says when it fails is the replay of each seed that failed. */
async function simulateAll(count: number, which: readonly string[]): Promise<void> {
  const jobs = String(Math.min(availableParallelism(), 8))
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
  assert.match(said, new RegExp(`^${count} seeds held, 0 failed`))
}

const list = (seeds: readonly number[]) => seeds.flatMap(seed => ['--seed', String(seed)])

test('no law is broken by a seed that once found something', () => simulateAll(found.length, list(found)))

test('no law is broken by any seed of a range', () => {
  const seeds = Array.from({ length: range.count }, (_, i) => range.from + i)
  return simulateAll(seeds.length, list(seeds))
})
