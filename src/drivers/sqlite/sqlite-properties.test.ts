import { strict as assert } from 'node:assert'
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { fc } from '../../os/testing/properties.ts'
import { storeName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import type { Source } from '../../stream/source.ts'
import { type Break, BrokenLink, breaking } from '../../stream/testing/broken-link.ts'
import type { Notice, Replica } from '../driver.ts'
import { sqliteDriver } from './driver.ts'

const store = storeName('database')

/** A live database with an application's connection on it, and a copy that is followed when it is asked for. */
class World {
  readonly directory = mkdtempSync(join(tmpdir(), 'hotspare-property-'))
  readonly path = join(this.directory, 'live store ☃.db')
  readonly copy = join(this.directory, 'copy.db')
  readonly notices: Notice[] = []
  application: DatabaseSync | undefined
  source: Source | undefined
  replica: Replica | undefined

  /** Somebody waits for each transaction: none are given together. */
  readonly isAwaited: boolean

  constructor(pageBytes: number, autoVacuum: number, isAwaited = false) {
    this.isAwaited = isAwaited
    this.open()
    this.run(`PRAGMA page_size = ${pageBytes}; PRAGMA auto_vacuum = ${autoVacuum}; PRAGMA journal_mode = WAL`)
    this.run('CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)')
  }

  open(): void {
    this.application ??= new DatabaseSync(this.path, { timeout: 50 })
  }

  close(): void {
    this.application?.close()
    this.application = undefined
  }

  run(sql: string): void {
    this.open()
    this.application?.exec(sql)
  }

  /** Brings the copy up to date, beginning to follow where nobody does, unless the link to the copy breaks. */
  async follow(breaks?: Break): Promise<void> {
    const sidecar = join(this.directory, 'sidecar')
    await mkdir(sidecar, { recursive: true })
    const machine = { storage: nodeStorage, clock: systemClock }
    const onNotice = (notice: Notice) => this.notices.push(notice)
    this.source ??= await sqliteDriver.openSource({
      ...machine,
      store,
      path: this.path,
      driverOptions: { walBytesMax: 256 * 1024 },
      scratch: sidecar,
      onNotice,
    })
    this.replica ??= await sqliteDriver.openReplica({
      ...machine,
      store,
      path: this.copy,
      sidecar,
      resync: false,
      noDelete: false,
      onNotice,
    })
    const { signal } = new AbortController()
    const sink = breaks === undefined ? this.replica : breaking(this.replica, breaks)
    try {
      const { source, isAwaited } = this
      await pump({ store, source, sink, clock: systemClock, signal, once: true, isAwaited: () => isAwaited })
    } catch (error) {
      if (!(error instanceof BrokenLink)) throw error
      await this.closeCopy()
    }
  }

  async stop(): Promise<void> {
    await this.source?.close()
    this.source = undefined
    await this.closeCopy()
  }

  /** The source goes on, and finds the copy where it was left. */
  async closeCopy(): Promise<void> {
    await this.replica?.close()
    this.replica = undefined
  }

  assertEqual(): void {
    assert.deepEqual(contentOf(this.copy), contentOf(this.path))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** All that the engine shows of a database, and its own judgement. */
function contentOf(path: string): unknown {
  const database = new DatabaseSync(path, { timeout: 2000 })
  try {
    const schema = database.prepare('SELECT type, name, sql FROM sqlite_schema ORDER BY name').all()
    const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all()
    const rows = tables.map(table => database.prepare(`SELECT * FROM "${table.name}" ORDER BY 1`).all())
    const pragmas = ['page_size', 'page_count', 'auto_vacuum', 'user_version', 'integrity_check']
    return { schema, rows, pragmas: pragmas.map(name => database.prepare(`PRAGMA ${name}`).get()) }
  } finally {
    database.close()
  }
}

type Step = { readonly name: string; readonly act: (world: World) => void | Promise<void> }

const number = fc.integer({ min: 1, max: 60 })
const sql = (name: string, text: (n: number) => string) =>
  number.map((n): Step => ({ name: `${name} ${n}`, act: world => world.run(text(n)) }))
const rows = (n: number, from: string) =>
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${n}) ${from}`
const act = (name: string, work: (world: World) => void | Promise<void>) =>
  fc.constant<Step>({ name, act: work })

const breaks: fc.Arbitrary<Break> = fc.record({
  commits: fc.nat(2),
  entries: fc.integer({ min: 1, max: 4 }),
})
const told = ({ commits, entries }: Break) => `${commits} commits and ${entries} entries`

const steps: fc.Arbitrary<Step>[] = [
  sql('insert', n => rows(n, `INSERT INTO t (a, b) SELECT i, randomblob(i * 40) FROM n`)),
  sql('insert large', n => `INSERT INTO t (a, b) VALUES (${n}, randomblob(${n * 5000}))`),
  sql('update', n => `UPDATE t SET b = randomblob(200), a = a + 1 WHERE id % ${n} = 0`),
  sql('delete', n => `DELETE FROM t WHERE id % ${n} < ${n / 2}`),
  sql(
    'create',
    n =>
      `CREATE TABLE IF NOT EXISTS "extra ${n}" (id INTEGER PRIMARY KEY, v); CREATE INDEX IF NOT EXISTS i${n} ON t (a)`,
  ),
  sql('drop', n => `DROP TABLE IF EXISTS "extra ${n}"; DROP INDEX IF EXISTS i${n}`),
  sql('roll back', n => `BEGIN; UPDATE t SET b = randomblob(${n * 500}); ROLLBACK`),
  sql('version', n => `PRAGMA user_version = ${n}`),
  sql('vacuum', () => 'VACUUM'),
  sql('incremental vacuum', n => `PRAGMA incremental_vacuum(${n})`),
  sql('checkpoint', n => `PRAGMA wal_checkpoint(${['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'][n % 4]})`),
  act('application restarts', world => {
    world.close()
    world.open()
  }),
  act('application ends', world => world.close()),
  act('follow', world => world.follow()),
  act('follow', world => world.follow()),
  breaks.map((at): Step => ({ name: `follow ${told(at)}`, act: world => world.follow(at) })),
  act('stop following', world => world.stop()),
  fc.tuple(number, fc.nat(3), breaks).map(
    ([n, restarts, at]): Step => ({
      name: `${n} rows; the log begins anew ${restarts} times while nobody follows; follow ${told(at)}`,
      act: async world => {
        world.run(rows(n, 'INSERT INTO t (a, b) SELECT i, randomblob(900) FROM n'))
        await world.follow()
        await world.stop()
        world.run(`UPDATE t SET a = a + 1 WHERE id = (SELECT max(id) FROM t) - ${n}`)
        for (let i = restarts; i > 0; i--)
          world.run(
            `PRAGMA wal_checkpoint(RESTART); UPDATE t SET a = a + 1 WHERE id = (SELECT max(id) FROM t)`,
          )
        await world.follow(at)
      },
    }),
  ),
  act('page size changes', async world => {
    await world.stop()
    world.close()
    world.run('PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL')
  }),
  act('file is replaced', world => {
    world.run('PRAGMA wal_checkpoint(TRUNCATE)')
    world.close()
    const other = `${world.path}.new`
    const database = new DatabaseSync(other)
    database.exec(
      'PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t (a) VALUES (-1)',
    )
    database.close()
    for (const side of ['-wal', '-shm']) rmSync(world.path + side, { force: true })
    renameSync(other, world.path)
  }),
]

test('after whatever the application did, the copy that has caught up equals its source', async () => {
  const worlds = fc.record({
    pageBytes: fc.constantFrom(512, 1024, 4096, 65536),
    autoVacuum: fc.constantFrom(0, 1, 2),
    isAwaited: fc.boolean(),
    steps: fc.array(fc.oneof(...steps), { minLength: 5, maxLength: 40 }),
  })
  await fc.assert(
    fc.asyncProperty(worlds, async ({ pageBytes, autoVacuum, isAwaited, steps }) => {
      await using world = new World(pageBytes, autoVacuum, isAwaited)
      for (const step of steps) await step.act(world)
      world.open()
      await world.follow()
      world.assertEqual()
      await world.stop()
      world.assertEqual()
    }),
    {
      numRuns: Number(process.env.HOTSPARE_RUNS ?? 60),
    },
  )
})

test('a database that is deleted and made anew is followed again', async () => {
  await using world = new World(4096, 0)
  world.run('INSERT INTO t (a) VALUES (1)')
  await world.follow()
  world.close()
  for (const side of ['', '-wal', '-shm']) rmSync(world.path + side, { force: true })
  assert.equal(existsSync(world.path), false)
  await world.follow() // what was there is still read to its end
  await assert.rejects(world.follow(), { code: 'source-missing' })
  world.open()
  world.run(
    'PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t (a) VALUES (2)',
  )
  await world.follow()
  world.assertEqual()
})

test('a log that was restarted many times while nobody followed leads to a comparison, and to equality', async () => {
  await using world = new World(4096, 0)
  world.run(rows(60, 'INSERT INTO t (a, b) SELECT i, randomblob(3000) FROM n'))
  await world.follow()
  await world.stop()
  for (let round = 0; round < 5; round++) {
    world.run('UPDATE t SET a = a + 1 WHERE id % 7 = 0; PRAGMA wal_checkpoint(RESTART)')
  }
  await world.follow()
  world.assertEqual()
  assert.ok(world.notices.some(notice => notice.code === 'comparing'))
})

test('a log that went on while nobody followed is taken up where it was left', async () => {
  await using world = new World(4096, 0)
  world.run('INSERT INTO t (a) VALUES (1)')
  await world.follow()
  await world.stop()
  world.run('INSERT INTO t (a) VALUES (2)')
  await world.follow()
  world.assertEqual()
  assert.equal(
    world.notices.some(notice => notice.code === 'comparing'),
    false,
  )
})
