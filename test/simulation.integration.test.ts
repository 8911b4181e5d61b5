/**
 * Sets of servers under everything that goes wrong (test/sim/world.ts), by seeds: some that are always the same, and for
 * about a minute those from a first one that is new each time and printed. A seed that fails is named with its replay.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const program = fileURLToPath(new URL('sim/run.ts', import.meta.url))
const seedsMin = 100
const seconds = 60
const jobs = Math.min(availableParallelism(), 8)
/** Seeds that once found something, or that go on for long. */
const fixed = [
  { from: 1, count: 10, steps: 60 },
  { from: 109, count: 1, steps: 60 },
  { from: 1001, count: 1, steps: 60 },
  { from: 3000, count: 2, steps: 200 },
]

/** What it says when it fails is the replay of each seed that failed. */
async function simulateAll(options: Readonly<Record<string, number>>): Promise<number> {
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])
  const { stdout } = await run(process.execPath, [program, ...args], { maxBuffer: 64 * 1024 * 1024 })
  const held = /^(\d+) seeds held, 0 failed/.exec(stdout)
  assert.ok(held, stdout)
  return Number(held[1])
}

for (const { from, count, steps } of fixed) {
  test(`no law is broken by ${count} seeds of ${steps} steps from ${from} on`, async () => {
    assert.equal(await simulateAll({ from, count, steps }), count)
  })
}

test('no law is broken by any seed', async t => {
  const first = randomInt(2 ** 31)
  const count = Math.ceil(seedsMin / jobs)
  const starts = Array.from({ length: jobs }, (_, job) => first + job * 1_000_000)
  t.diagnostic(`seeds from ${starts.join(', ')} on`)
  const held = await Promise.all(starts.map(from => simulateAll({ from, count, seconds, steps: 60 })))
  const seeds = held.reduce((sum, each) => sum + each, 0)
  t.diagnostic(`${seeds} seeds held`)
  assert.ok(seeds >= seedsMin)
})
