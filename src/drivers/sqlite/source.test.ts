import { strict as assert } from 'node:assert'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { type Entry, storeName } from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'
import { openShared } from './descriptors.ts'
import { sqliteDriver } from './driver.ts'
import { LiveDatabase } from './live-database.ts'
import { SqliteSource } from './source.ts'

const writerScript = join(import.meta.dirname, '../../../test/writers/sqlite-writer.ts')

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-source-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function makeDatabase(path: string, rows = 1000): void {
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
      INSERT INTO t (b) SELECT randomblob(500) FROM n`)
  database.close()
}

async function readAll(path: string, directory: string, notices: Notice[] = []): Promise<Entry[]> {
  const source = new SqliteSource({
    storage: nodeStorage,
    clock: systemClock,
    store: storeName('s'),
    path,
    driverOptions: {},
    scratch: directory,
    onNotice: notice => notices.push(notice),
  })
  try {
    const entries: Entry[] = []
    const { signal } = new AbortController()
    for await (const entry of source.read(undefined, { signal, inventory: async () => undefined }))
      entries.push(entry)
    return entries
  } finally {
    await source.close()
  }
}

const unusable: Record<string, { make(path: string): void; code: string; says: RegExp }> = {
  'an encrypted file': {
    make: path => writeFileSync(path, Buffer.alloc(8192, 0xa5)),
    code: 'source-invalid',
    says: /encrypted/,
  },
  'a text file': {
    make: path => writeFileSync(path, 'no database\n'.repeat(100)),
    code: 'source-invalid',
    says: /not a database/,
  },
  'an empty file': { make: path => writeFileSync(path, ''), code: 'source-missing', says: /empty/ },
  'no file': { make: () => {}, code: 'source-missing', says: /does not exist/ },
  'a truncated database': {
    make(path) {
      makeDatabase(path)
      truncateSync(path, 100 * 4096)
    },
    code: 'source-invalid',
    says: /truncated: its header says \d+ bytes, and it has 409600/,
  },
}

for (const [name, { make, code, says }] of Object.entries(unusable)) {
  test(`${name} is named for what it is, and left as it was`, async t => {
    const directory = scratch(t)
    const path = join(directory, 'live.db')
    make(path)
    const before = statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : readFileSync(path)
    await assert.rejects(readAll(path, directory), (error: Error & { code?: string }) => {
      assert.equal(error.code, code)
      assert.match(error.message, says)
      return true
    })
    assert.deepEqual(
      statSync(path, { throwIfNoEntry: false }) === undefined ? undefined : readFileSync(path),
      before,
    )
  })
}

test('a database that its application holds exclusively is busy', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  makeDatabase(path, 10)
  const script = `const { DatabaseSync } = require('node:sqlite'); const d = new DatabaseSync(process.argv[1])
    d.exec('PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t (b) VALUES (1)'); console.log('held'); setTimeout(() => {}, 60000)`
  const holder = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => holder.kill('SIGKILL'))
  await once(holder.stdout, 'data')
  await assert.rejects(readAll(path, directory), { code: 'source-busy' })
})

test('a database with free pages that were never written is whole', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  makeDatabase(path, 10)
  const application = new DatabaseSync(path)
  t.after(() => application.close())
  application.exec(`BEGIN; CREATE TABLE gone (b); INSERT INTO gone VALUES (zeroblob(400000)); CREATE TABLE last (b);
    INSERT INTO last VALUES (zeroblob(9000)); DROP TABLE gone; COMMIT`)
  const entries = await readAll(path, directory)
  assert.equal(entries.at(-1)?.type, 'commit')
})

test('an engine with a known fault is warned of', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  makeDatabase(path, 10)
  const bytes = readFileSync(path)
  const sound: Notice[] = []
  await readAll(path, directory, sound)
  assert.deepEqual(sound, [])
  bytes.writeUInt32BE(3_040_001, 96)
  writeFileSync(path, bytes)
  const notices: Notice[] = []
  await readAll(path, directory, notices)
  assert.equal(notices[0]?.code, 'engine-old')
  assert.match(notices[0]?.message ?? '', /3\.40\.1/)
})

/** Locks that this process has on a file, from /proc/locks, without the running number that stands before each. */
function locksOn(path: string): string[] {
  const { ino } = statSync(path)
  const mine = new RegExp(`POSIX .* ${process.pid} [0-9a-f]+:[0-9a-f]+:${ino} `)
  return readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .filter(line => mine.test(line))
    .map(line => line.replace(/^\d+: /, ''))
}

test('no lock of ours is lost to a descriptor that is closed, or to the garbage collector', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  makeDatabase(path, 10)
  const live = LiveDatabase.open(path)
  t.after(() => live.close())
  live.beginRead()
  const before = { database: locksOn(path), index: locksOn(`${path}-shm`) }
  assert.ok(before.database.length > 0 && before.index.length > 0)
  for (let i = 0; i < 3; i++) {
    assert.notEqual(await sqliteDriver.detect(path), undefined)
    openShared(path, 'read').release()
    openShared(path, 'write').release()
    openShared(`${path}-shm`, 'write').release()
  }
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  assert.deepEqual({ database: locksOn(path), index: locksOn(`${path}-shm`) }, before)
})

test('while it is followed, the log is not restarted behind what was read, whatever checkpoints come', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  execFileSync(process.execPath, [writerScript, path, '--seconds', '0'])
  const live = LiveDatabase.open(path)
  t.after(() => live.close())
  live.openLog()
  execFileSync(process.execPath, [writerScript, path, '--seconds', '0.1'])
  live.beginRead()
  const before = live.committed()
  assert.ok(before !== undefined && before.lastFrame > 0)
  const script = `const { DatabaseSync } = require('node:sqlite'); const d = new DatabaseSync(process.argv[1], { timeout: 100 })
    for (const mode of ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE']) d.prepare('PRAGMA wal_checkpoint(' + mode + ')').get()
    d.exec('UPDATE account SET balance = balance'); d.close()`
  execFileSync(process.execPath, ['-e', script, path])
  const after = live.committed()
  // a restart may come, but only behind our snapshot: the frames that were there are in the file or still in the log
  if (after?.salt1 === before.salt1) assert.ok(after.lastFrame >= before.lastFrame)
  else assert.equal(after?.salt1, before.salt1 + 1)
  live.endReads()
})
