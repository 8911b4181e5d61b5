/** What may be done with a standby's copies while it runs: a real SQLite database under a writer. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { check } from '../src/daemon/check.ts'
import { clone } from '../src/daemon/clone.ts'
import { status } from '../src/daemon/status.ts'
import { MemoryTransport } from '../src/os/testing/memory-transport.ts'
import { RealHost, until } from './standby/real-host.ts'

test('apply off: the copy rests at a whole transaction that the bare engine opens, and can be cloned; on applies the rest', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'hotspare-copies-'))
  const transport = new MemoryTransport()
  const a = new RealHost(directory, transport, 'a', 'primary', 'b')
  const b = new RealHost(directory, transport, 'b', 'standby', 'a')
  t.after(async () => {
    for (const host of [a, b]) await host.close()
    await rm(directory, { recursive: true })
  })
  const said = () => a.said() + b.said()
  for (const host of [a, b]) await host.makeDirectory()
  await a.startWriter('--prefill', '4')
  await a.start()
  await b.start()
  await until(() => b.running.status().stores[0]?.consistent !== undefined, 'synchronised', said)

  // while it is applied to
  const copy = { target: b.database }
  assert.equal((await check(copy)).valid, true)
  const running = await status(copy)
  assert.equal(running.running, true)
  const followed = join(directory, 'followed.db')
  await clone({ ...copy, destination: followed })
  assert.equal(await b.query('PRAGMA integrity_check', followed), 'ok')

  await b.running.setApplying(false)
  const resting = await b.lastNumber()
  await b.assertWhole()
  await a.running.waitFor('b', new AbortController().signal)
  await until(() => a.written > resting + 100, 'written', said)
  await a.running.waitFor('b', new AbortController().signal)
  assert.equal(await b.lastNumber(), resting)
  const rested = join(directory, 'rested.db')
  await clone({ ...copy, destination: rested })
  assert.equal(Number(await b.query('SELECT max(number) FROM entry', rested)), resting)
  assert.equal(b.running.status().stores[0]?.state, 'paused')

  // a process that ends leaves it so
  await b.stop()
  await b.start()
  await a.running.waitFor('b', new AbortController().signal)
  assert.equal(await b.lastNumber(), resting)

  await b.running.setApplying(true)
  await a.endWriter('SIGTERM')
  const last = await a.lastNumber()
  await until(async () => (await b.lastNumber()) === last, 'all applied', said)
  for (const host of [a, b]) await host.assertWhole()
})
