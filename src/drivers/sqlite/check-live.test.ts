import assert from 'node:assert/strict'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { sqliteDriver } from './driver.ts'

async function withDatabase(work: (path: string, database: DatabaseSync) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'hotspare-check-live-'))
  const path = join(directory, 'db')
  const database = new DatabaseSync(path)
  try {
    database.exec('PRAGMA journal_mode=WAL; CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)')
    database.exec('CREATE INDEX by_text ON entry (text)')
    const insert = database.prepare('INSERT INTO entry (text) VALUES (?)')
    for (let i = 0; i < 2000; i++) insert.run(`${i} `.repeat(30))
    await work(path, database)
  } finally {
    database.close()
    await rm(directory, { recursive: true })
  }
}

const check = (path: string) => sqliteDriver.checkLive?.({ path, signal: new AbortController().signal })

test('a live database is checked by its engine while its application writes', async () => {
  await withDatabase(async (path, database) => {
    const checking = check(path)
    const insert = database.prepare('INSERT INTO entry (text) VALUES (?)')
    for (let i = 0; i < 500; i++) {
      insert.run('while it is checked')
      await new Promise(setImmediate)
    }
    assert.equal((await checking)?.valid, true)
    assert.equal((await check(path))?.valid, true)
  })
})

test('a live database with a page that is not what it was is found not valid', async () => {
  await withDatabase(async (path, database) => {
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    const file = await open(path, 'r+')
    // the beginning of a page in the middle, with what the engine keeps there
    const { size } = await file.stat()
    await file.write(Buffer.alloc(64, 0xa5), 0, 64, Math.floor(size / 4096 / 2) * 4096)
    await file.close()
    const report = await check(path)
    assert.equal(report?.valid, false)
    assert.match(report?.findings[0]?.what ?? '', /integrity_check finds faults|is damaged/)
  })
})

test('what cannot be checked is a fault, and no finding', async () => {
  await assert.rejects(async () => check('/nowhere/db'), { name: 'HotspareError' })
})
