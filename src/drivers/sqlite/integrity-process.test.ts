import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { resultCode, sqliteCode } from './engine.ts'
import { IntegrityProcess } from './integrity-process.ts'

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-integrity-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

test('what is checked is the commit that was the newest at the beginning', async t => {
  const path = join(scratch(t), 'copy.db')
  using application = new DatabaseSync(path, { defensive: false })
  application.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x UNIQUE); INSERT INTO t VALUES (1)')
  const integrity = new IntegrityProcess(path, new AbortController().signal)
  try {
    await integrity.begin()
    // a schema that the rows do not keep to
    application.exec(`INSERT INTO t VALUES (NULL); PRAGMA writable_schema = ON;
      UPDATE sqlite_schema SET sql = 'CREATE TABLE t (x NOT NULL UNIQUE)' WHERE name = 't'; PRAGMA schema_version = 99`)
    assert.deepEqual(await integrity.check(), ['ok'])
    await integrity.end()
    await integrity.begin()
    const messages = await integrity.check()
    assert.match(messages.join(), /NULL value/)
  } finally {
    await integrity.close()
  }
})

test('a check ends with its signal, whatever it is at', async t => {
  const path = join(scratch(t), 'large.db')
  using application = new DatabaseSync(path)
  application.exec(`PRAGMA journal_mode = WAL; CREATE TABLE t (x); CREATE INDEX i ON t (x);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) INSERT INTO t SELECT i FROM n`)
  const ending = new AbortController()
  const integrity = new IntegrityProcess(path, ending.signal)
  await integrity.begin()
  const checked = integrity.check()
  ending.abort()
  await assert.rejects(checked, { name: 'AbortError' })
  await integrity.close()
})

test('what the engine says against a check reaches whoever asked for it', async t => {
  const integrity = new IntegrityProcess(join(scratch(t), 'missing.db'), new AbortController().signal)
  await assert.rejects(integrity.begin(), error => sqliteCode(error) === resultCode.cannotOpen)
  await integrity.close()
})
