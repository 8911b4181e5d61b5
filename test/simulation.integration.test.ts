/**
 * Sets of servers under everything that goes wrong (test/sim/world.ts), by seeds that are always the same: those that
 * once found something, and a range. `npm run sim -- --from N --count M` runs any others; a seed that fails is named
 * with its replay.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const program = fileURLToPath(new URL('sim/run.ts', import.meta.url))
const steps = 60
const found = [19, 22, 29, 33, 145, 1021]
const ranges = [
  { from: 5000, count: 40 },
  { from: 5040, count: 40 },
]

/** What it says when it fails is the replay of each seed that failed. */
async function simulateAll(from: number, count: number): Promise<void> {
  const args = [program, '--from', String(from), '--count', String(count), '--steps', String(steps)]
  const { stdout } = await run(process.execPath, args, { maxBuffer: 64 * 1024 * 1024 })
  assert.match(stdout, new RegExp(`^${count} seeds held, 0 failed`))
}

for (const seed of found)
  test(`no law is broken by seed ${seed}, which once found something`, () => simulateAll(seed, 1))

test('no law is broken by any seed of a range', async () => {
  await Promise.all(ranges.map(({ from, count }) => simulateAll(from, count)))
})
