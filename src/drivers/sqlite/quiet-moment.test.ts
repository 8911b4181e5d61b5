import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { openShared } from './descriptors.ts'
import { QuietMoment } from './quiet-moment.ts'
import { WalIndex } from './wal-index.ts'

/** A database with one commit in its log, and its index. */
function database(t: TestContext): { path: string; index: WalIndex; application: DatabaseSync } {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-quiet-'))
  const path = join(directory, 'live.db')
  const application = new DatabaseSync(path)
  application.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (x)')
  const shm = openShared(`${path}-shm`, 'write')
  const index = new WalIndex(shm.fd)
  t.after(() => {
    index.close()
    application.close()
    shm.release()
    rmSync(directory, { recursive: true })
  })
  return { path, index, application }
}

test('while commits come one upon the other, the moment is right after one', async t => {
  const { path, index } = database(t)
  const worker = new Worker(
    `const { DatabaseSync } = require('node:sqlite'), { workerData, parentPort } = require('node:worker_threads')
    const database = new DatabaseSync(workerData)
    database.exec('PRAGMA synchronous = OFF')
    const insert = database.prepare('INSERT INTO t VALUES (1)')
    for (let n = 0; ; n++) { insert.run(); if (n === 100) parentPort.postMessage('runs') }`,
    { eval: true, workerData: path },
  )
  t.after(() => worker.terminate())
  await new Promise(resolve => worker.once('message', resolve))
  const quiet = new QuietMoment(index)
  let afterCommits = 0
  for (let n = 0; n < 500; n++) {
    // so that the time between commits is known
    const { change } = index
    while (index.change === change);
    const before = index.change
    quiet.await()
    if (index.change !== before) afterCommits++
  }
  // a moment chosen at random is one in a few of a hundred; a writer that is put off its processor is not waited for
  assert.ok(afterCommits > 100, `${afterCommits} of 500`)
})

test('without commits there is nothing to wait for', t => {
  const { index, application } = database(t)
  const quiet = new QuietMoment(index)
  quiet.await()
  application.exec('INSERT INTO t VALUES (1)')
  const { change } = index
  quiet.await()
  assert.deepEqual([index.change, index.isWhole], [change, true])
})

test('a header that stays half written, as its writer has died, is left to the engine', t => {
  const { path, index } = database(t)
  const quiet = new QuietMoment(index)
  const shm = openSync(`${path}-shm`, 'r+')
  t.after(() => closeSync(shm))
  // the first copy's number of commits
  const change = Buffer.alloc(4)
  change.writeUInt32LE(index.change + 1)
  writeSync(shm, change, 0, 4, 8)
  assert.equal(index.isWhole, false)
  quiet.await()
  assert.equal(index.isWhole, false)
})
