import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { type Checkpoint, Checkpointer } from './checkpointer.ts'
import { openShared } from './descriptors.ts'
import { resultCode, sqliteCode } from './engine.ts'
import { LiveDatabase } from './live-database.ts'

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-checkpointer-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

/** A database whose log holds some frames. */
function database(t: TestContext): { path: string; application: DatabaseSync } {
  const path = join(scratch(t), 'live.db')
  const application = new DatabaseSync(path)
  t.after(() => application.isOpen && application.close())
  application.exec('PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x)')
  application.exec('INSERT INTO t VALUES (1)')
  return { path, application }
}

/** What another process meets that checkpoints the database: `busy` of its row. */
function checkpointElsewhere(path: string): number {
  const script = `const { DatabaseSync } = require('node:sqlite'); const d = new DatabaseSync(process.argv[1])
    process.stdout.write(String(d.prepare('PRAGMA wal_checkpoint(PASSIVE)').get().busy)); process.kill(process.pid, 'SIGKILL')`
  try {
    return Number(execFileSync(process.execPath, ['-e', script, path]))
  } catch (error) {
    return Number((error as { stdout: Buffer }).stdout)
  }
}

async function ended(take: () => Checkpoint | undefined): Promise<Checkpoint> {
  for (;;) {
    const checkpoint = take()
    if (checkpoint !== undefined) return checkpoint
    await new Promise(resolve => setTimeout(resolve, 1))
  }
}

test('a checkpoint moves all that is in the log, and says so once', async t => {
  const { path } = database(t)
  const checkpointer = new Checkpointer(path)
  t.after(() => checkpointer.close())
  assert.equal(checkpointer.take(), undefined)
  const shm = openShared(`${path}-shm`, 'write')
  t.after(() => shm.release())
  checkpointer.begin(shm.fd)
  const { complete, done, frames } = await ended(() => checkpointer.take())
  assert.deepEqual({ complete, done }, { complete: true, done: true })
  assert.ok(frames > 0)
  assert.equal(checkpointer.take(), undefined)
})

test('what the engine says against a checkpoint reaches whoever began it', async t => {
  const checkpointer = new Checkpointer(join(scratch(t), 'missing.db'))
  t.after(() => checkpointer.close())
  checkpointer.begin(-1)
  await assert.rejects(
    ended(() => checkpointer.take()),
    error => sqliteCode(error) === resultCode.cannotOpen,
  )
})

test('a checkpoint of ours leaves no lock behind: afterwards another process may', async t => {
  const { path, application } = database(t)
  const live = LiveDatabase.open(path)
  t.after(() => live.close())
  live.openLog()
  // the application's connection is in this process, where nothing is locked past the engine: it has to go
  application.close()
  live.beginRead()
  live.beginRead()
  live.beginCheckpoint()
  const { done, complete } = await ended(() => live.takeCheckpoint())
  assert.deepEqual({ done, complete }, { done: true, complete: true })
  assert.equal(checkpointElsewhere(path), 0)
})
