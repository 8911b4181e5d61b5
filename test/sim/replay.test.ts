import assert from 'node:assert/strict'
import { test } from 'node:test'
import { simulate } from './world.ts'

async function traceOf(seed: number): Promise<string[]> {
  const trace: string[] = []
  trace.push(JSON.stringify(await simulate(seed, 30, line => trace.push(line))))
  return trace
}

test('the same seed gives the same run, whatever ran before it', async () => {
  const first = await traceOf(5)
  const other = await traceOf(6)
  assert.notDeepEqual(other, first)
  assert.deepEqual(await traceOf(5), first)
})
