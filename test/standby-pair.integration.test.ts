/** A pair of servers on a real disk, with a real SQLite database, under a writer in another process. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { MemoryTransport } from '../src/os/testing/memory-transport.ts'
import { RealHost, until } from './standby/real-host.ts'

const { signal } = new AbortController()

async function pair(t: TestContext): Promise<{ a: RealHost; b: RealHost }> {
  const directory = await mkdtemp(join(tmpdir(), 'hotspare-pair-'))
  const transport = new MemoryTransport()
  const a = new RealHost(directory, transport, 'a', 'primary', 'b')
  const b = new RealHost(directory, transport, 'b', 'standby', 'a')
  t.after(async () => {
    for (const host of [a, b]) await host.close()
    await rm(directory, { recursive: true })
  })
  for (const host of [a, b]) await host.makeDirectory()
  await a.startWriter('--prefill', '8')
  await a.start()
  await b.start()
  await until(
    () => b.running.status().stores[0]?.consistent !== undefined,
    'synchronised',
    () => a.said() + b.said(),
  )
  return { a, b }
}

test('a database under a writer goes from host to host and back, and no transaction is lost', async t => {
  const { a, b } = await pair(t)
  let [primary, standby] = [a, b]
  for (let turn = 0; turn < 4; turn++) {
    const said = () => primary.said() + standby.said()
    const report = await standby.running.promote({ planned: true, dryRun: false, signal })
    assert.deepEqual(report.lost, { kind: 'nothing' }, said())
    assert.ok(
      report.stores.every(({ valid }) => valid),
      JSON.stringify(report),
    )
    // what the old application had committed, and then what the new one did
    assert.ok((await standby.lastNumber()) > primary.written)
    const old = primary
    await until(() => old.running.status().role === 'standby', 'rejoined', said)
    const store = () => old.running.status().stores[0]
    await until(() => store()?.consistent !== undefined && store()?.state === 'applying', 'in step', said)
    assert.ok(!old.messages.some(({ code }) => code === 'put-aside'), said())
    ;[primary, standby] = [standby, primary]
  }
  await primary.endWriter('SIGTERM')
  await primary.running.waitFor(standby.name, signal)
  const last = await primary.lastNumber()
  await until(
    async () => (await standby.lastNumber()) === last,
    'equal',
    () => a.said() + b.said(),
  )
  for (const host of [a, b]) await host.assertWhole()
})

test('what an old primary committed and nobody has is in a file when it rejoins, and its database is that of the new one', async t => {
  const { a, b } = await pair(t)
  await a.running.waitFor('b', signal)
  // the host dies with its application, and comes back alone
  await a.endWriter('SIGKILL')
  await a.stop()
  const report = await b.running.promote({ planned: false, dryRun: false, signal })
  assert.equal(report.epoch.number, 2)
  await b.stop()
  const shared = await b.lastNumber()
  await a.start()
  await a.startWriter('--id', '2')
  await a.endWriter('SIGTERM')
  const own = Number(await a.query('SELECT max(number) FROM entry WHERE writer = 2'))
  assert.ok(own > 0)
  await b.start()
  await until(
    () => a.running.status().fencedBy !== undefined,
    'fenced',
    () => a.said(),
  )
  const { wholes } = await a.running.rejoin('b', signal)
  const [whole] = wholes ?? []
  assert.ok(whole !== undefined, a.said())
  // the database as the old application left it: the engine opens it
  const kept = await a.query('SELECT max(number) FROM entry WHERE writer = 2', `${whole.path}/app.db`)
  assert.equal(Number(kept), own)
  await b.endWriter('SIGTERM')
  const store = () => a.running.status().stores[0]
  await until(
    () => store()?.consistent !== undefined,
    'in step',
    () => a.said() + b.said(),
  )
  await b.running.waitFor('a', signal)
  assert.ok((await b.lastNumber()) >= shared)
  await until(
    async () => (await a.lastNumber()) === (await b.lastNumber()),
    'equal',
    () => a.said() + b.said(),
  )
  assert.equal(await a.query('SELECT count(*) FROM entry WHERE writer = 2'), '0')
  for (const host of [a, b]) await host.assertWhole()
})
