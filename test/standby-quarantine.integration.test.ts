/** A standby with a copy that refuses what it is sent takes over, as processes: what the copy lacks is said, and nobody believes it has it. */
import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { PromotionReport } from '../src/server/server.ts'
import { hotspare, object } from './cli/hotspare.ts'
import { configureSet, isComplete, type ServeProcess } from './serve/server-set.ts'

const rows = 10
const strangerRow = 1000
const exitInvalid = 7

function run(path: string, sql: string): void {
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; ${sql}`)
  database.close()
}

function ids(path: string): number[] {
  const database = new DatabaseSync(path, { readOnly: true })
  const found = database.prepare('SELECT id FROM row ORDER BY id').all() as { id: number }[]
  database.close()
  return found.map(({ id }) => id)
}

const numbers = Array.from({ length: rows }, (_, i) => i + 1)
const on = (server: ServeProcess, ...args: string[]) => [...args, '-c', server.config]

test('a standby with a quarantined store is promoted by force only, says what that store lacks, and the old primary gets its state', async t => {
  const root = await fs.mkdtemp(join(tmpdir(), 'hotspare-quarantine-'))
  const stores = ['orders.db', 'mail.db'].map(name => ({ name, driver: 'sqlite' }))
  const [alpha, beta] = await configureSet(root, [
    { name: 'alpha', stores },
    { name: 'beta', upstream: 'alpha', stores },
  ])
  assert.ok(alpha !== undefined && beta !== undefined)
  t.after(async () => {
    for (const server of [alpha, beta]) await server.end('SIGKILL')
    await fs.rm(root, { recursive: true })
  })
  for (const { name } of stores) run(alpha.path(name), 'CREATE TABLE row (id INTEGER PRIMARY KEY)')
  await alpha.start()
  await beta.start()
  await beta.until('complete', isComplete)

  // somebody takes the copy for the database, while it rests
  await object(...on(beta, 'apply', 'off'))
  run(beta.path('mail.db'), `INSERT INTO row VALUES (${strangerRow})`)
  for (const { name } of stores)
    for (const id of numbers) run(alpha.path(name), `INSERT INTO row VALUES (${id})`)
  await object(...on(alpha, 'wait', '--for', 'beta', '--timeout', '15s'))
  await object(...on(beta, 'apply', 'on'))
  const stateOf = (store: string) => (one: { stores: readonly { store: string; state: string }[] }) =>
    one.stores.find(each => each.store === store)?.state
  await beta.until('quarantined', status => stateOf('mail.db')(status) === 'quarantined')
  assert.deepEqual(ids(beta.path('mail.db')), [strangerRow])

  await alpha.end('SIGKILL')
  const refused = await hotspare(...on(beta, 'promote', '--json'))
  assert.equal(refused.exit, exitInvalid, refused.stderr)
  assert.match(refused.stderr, /"code":"target-invalid".*mail\.db \(quarantined/)
  assert.equal((await beta.status()).role, 'standby')

  const report = (await object(...on(beta, 'promote', '--force'))) as unknown as PromotionReport
  assert.equal(report.lost.kind, 'known', JSON.stringify(report))
  const [orders, mail] = ['orders.db', 'mail.db'].map(name =>
    report.stores.find(({ store }) => store === name),
  )
  assert.deepEqual([orders?.valid, orders?.lacks], [true, undefined])
  assert.equal(mail?.valid, false)
  assert.ok(mail?.lacks !== undefined, JSON.stringify(mail))
  assert.deepEqual(ids(beta.path('orders.db')), numbers)

  // the old primary had what the new one lacks: the log does not say so, the stores do
  run(beta.path('mail.db'), `INSERT INTO row VALUES (${strangerRow + 1})`)
  await alpha.start()
  await alpha.until('fenced', ({ fencedBy }) => fencedBy !== undefined)
  await object(...on(alpha, 'rejoin', 'beta'))
  await alpha.until('in step', isComplete)
  await object(...on(beta, 'wait', '--for', 'alpha', '--timeout', '15s'))
  await alpha.until('applied', ({ stores }) => stores.every(({ lagMs }) => lagMs === 0))
  for (const { name } of stores) assert.deepEqual(ids(alpha.path(name)), ids(beta.path(name)), name)
  assert.deepEqual(ids(alpha.path('mail.db')), [strangerRow, strangerRow + 1])
})
