import assert from 'node:assert/strict'
import test from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { patiently } from './patiently.ts'
import type { ServerMachine } from './server.ts'
import { newClock } from './upstream/testing/test-server.ts'

function world() {
  const told: string[] = []
  const over = new AbortController()
  const clock = newClock()
  const tell = (level: string, code: string) => told.push(`${level} ${code}`)
  return { told, over, parts: { machine: { clock } as unknown as ServerMachine, signal: over.signal, tell } }
}

const full = () => Object.assign(new Error('ENOSPC: write'), { code: 'ENOSPC' })

test('what a full disk hinders is tried again until it passes, and is told once', async () => {
  const { told, parts } = world()
  let attempts = 0
  const result = await patiently(parts, 'Turning', async () => {
    if (++attempts < 5) throw full()
    return 'done'
  })
  assert.equal(result, 'done')
  assert.equal(attempts, 5)
  assert.deepEqual(told, ['error disk-full'])
})

test('what does not pass by itself, or outlives the server, is a fault at once', async () => {
  const { told, over, parts } = world()
  const damaged = new HotspareError('state-damaged', 'it is damaged')
  await assert.rejects(
    patiently(parts, 'Turning', async () => Promise.reject(damaged)),
    damaged,
  )
  let attempts = 0
  const stopped = patiently(parts, 'Turning', async () => {
    if (++attempts === 3) over.abort()
    throw full()
  })
  await assert.rejects(stopped, { code: 'disk-full' })
  assert.equal(attempts, 3)
  assert.deepEqual(told, ['error disk-full'])
})
