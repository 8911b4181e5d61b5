import { strict as assert } from 'node:assert'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { type Entry, type EntryPath, type Position, storeName } from '../../stream/entry.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import { PageDigests } from './page-digests.ts'
import { SqliteSource } from './source.ts'
import { decodePosition } from './sqlite-position.ts'

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-wal-source-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function openSource(t: TestContext, path: string): SqliteSource {
  return new SqliteSource({
    storage: nodeStorage,
    clock: systemClock,
    store: storeName('s'),
    path,
    driverOptions: {},
    scratch: scratch(t),
    onNotice: () => undefined,
  })
}

/** What a copy keeps of what it is sent: digests of its pages, as of the last commit. */
class DigestCopy {
  readonly #digests: PageDigests
  readonly #pageBytes: number
  #open: Entry[] = []
  position: Position | undefined
  inventories = 0

  constructor(t: TestContext, path: string, pageBytes: number) {
    this.#digests = new PageDigests(path)
    this.#pageBytes = pageBytes
    t.after(() => this.#digests.close())
  }

  get state(): string {
    return this.#digests.state
  }

  /** Takes what the source gives; `enough`: the link breaks behind this entry. */
  async take(source: SqliteSource, enough: (entry: Entry) => boolean = () => false): Promise<void> {
    const { signal } = new AbortController()
    for await (const entry of source.read(this.position, {
      signal,
      inventory: async () => this.#inventory(),
    })) {
      this.#write(entry)
      if (enough(entry)) break
    }
    this.#open = []
  }

  #write(entry: Entry): void {
    // the source uses its memory again
    if (entry.type === 'write') this.#open.push({ ...entry, data: Buffer.from(entry.data) })
    else if (entry.type !== 'commit') this.#open.push(entry)
    if (entry.type === 'write') entry.recycle?.()
    if (entry.type !== 'commit') return
    for (const change of this.#open.splice(0)) {
      if (change.type === 'truncate') this.#digests.resize(change.size / this.#pageBytes)
      if (change.type !== 'write') continue
      for (let at = 0; at < change.data.length; at += this.#pageBytes)
        this.#digests.update(
          (change.offset + at) / this.#pageBytes + 1,
          change.data.subarray(at, at + this.#pageBytes),
        )
    }
    assert.equal(this.#digests.state, entry.state)
    this.position = entry.position
  }

  #inventory(): Inventory {
    this.inventories++
    const digests = this.#digests
    const file: InventoryFile = {
      path: '' as EntryPath,
      size: digests.pages * this.#pageBytes,
      blockBytes: this.#pageBytes,
      digest: 'xxh64',
      digests: async (first, count) => digests.read(first + 1, count),
    }
    return {
      async *files() {
        yield file
      },
      file: async () => file,
    }
  }
}

/** Of a first copy. */
async function stateOf(t: TestContext, path: string, pageBytes: number): Promise<string> {
  const copy = new DigestCopy(t, join(scratch(t), 'digests'), pageBytes)
  const source = openSource(t, path)
  await copy.take(source)
  await source.close()
  return copy.state
}

test('a comparison that broke off behind what the old log still had is begun anew', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  const application = new DatabaseSync(path)
  t.after(() => application.close())
  application.exec(`PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (id INTEGER PRIMARY KEY, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
      INSERT INTO t (b) SELECT randomblob(500) FROM n`)
  const copy = new DigestCopy(t, join(directory, 'digests'), 4096)
  const before = openSource(t, path)
  await copy.take(before)
  await before.close()
  // the log goes on for one transaction, and begins anew twice: what it had cannot be proved to be all
  application.exec("UPDATE t SET b = 'old log' WHERE id = 1000")
  for (const id of [1, 2000]) {
    application.exec('PRAGMA wal_checkpoint(RESTART)')
    application.exec(`UPDATE t SET b = 'new log' WHERE id = ${id}`)
  }
  const source = openSource(t, path)
  t.after(() => source.close())
  let commits = 0
  await copy.take(source, entry => {
    if (entry.type === 'commit') commits++
    return commits === 1 && entry.type === 'write'
  })
  assert.equal(commits, 1)
  assert.equal(decodePosition(copy.position)?.kind, 'wal')
  const inventories = copy.inventories
  await copy.take(source)
  assert.equal(copy.inventories, inventories + 1)
  assert.equal(copy.state, await stateOf(t, path, 4096))
})

test('a database that grew and shrank to the size of before between two looks has that size in the copy', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  const application = new DatabaseSync(path)
  t.after(() => application.close())
  application.exec(`PRAGMA auto_vacuum = FULL; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
    CREATE TABLE t (id INTEGER PRIMARY KEY, b);
    INSERT INTO t (b) VALUES (randomblob(20000))`)
  const copy = new DigestCopy(t, join(directory, 'digests'), 4096)
  const source = openSource(t, path)
  t.after(() => source.close())
  await copy.take(source)
  const pages = application.prepare('PRAGMA page_count').get()
  application.exec('INSERT INTO t (b) VALUES (randomblob(200000))')
  application.exec('DELETE FROM t WHERE id = 2')
  assert.deepEqual(application.prepare('PRAGMA page_count').get(), pages)
  await copy.take(source)
  assert.equal(copy.state, await stateOf(t, path, 4096))
})

test('a first copy that broke off at one of its commits is gone on with by comparing', async t => {
  const directory = scratch(t)
  const path = join(directory, 'live.db')
  const application = new DatabaseSync(path)
  t.after(() => application.close())
  application.exec(`PRAGMA page_size = 65536; PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, b);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90)
      INSERT INTO t (b) SELECT randomblob(1000000) FROM n;
    PRAGMA wal_checkpoint(RESTART)`)
  const copy = new DigestCopy(t, join(directory, 'digests'), 65536)
  const source = openSource(t, path)
  t.after(() => source.close())
  await copy.take(source, entry => entry.type === 'commit')
  assert.equal(decodePosition(copy.position)?.kind, 'copying')
  await copy.take(source)
  assert.equal(decodePosition(copy.position)?.kind, 'wal')
  assert.equal(copy.state, await stateOf(t, path, 65536))
})
