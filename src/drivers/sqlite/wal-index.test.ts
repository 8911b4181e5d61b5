import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { scratch } from './testing/copy-fixture.ts'
import { frameOffset, parseFrameHeader } from './wal-format.ts'
import { WalIndex } from './wal-index.ts'

const headerCopies = 96
const checkpointEnd = 136

test('the index that we write has the bytes that the engine writes for the same frames', async () => {
  await using dir = await scratch()
  for (const pageBytes of [512, 4096, 65536]) {
    const path = join(dir.at, `engine-${pageBytes}.db`)
    const database = new DatabaseSync(path)
    database.exec(
      `PRAGMA page_size=${pageBytes}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(id INTEGER PRIMARY KEY, v)`,
    )
    // enough frames for three regions, with the same pages again and again
    const rows = pageBytes === 512 ? 30_000 : 200
    for (let round = 0; round < 3; round++) {
      database.exec(
        `INSERT INTO t(v) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<${rows}) SELECT randomblob(100) FROM n; DELETE FROM t WHERE id%7=0`,
      )
    }
    const log = readFileSync(`${path}-wal`)
    const engine = readFileSync(`${path}-shm`)

    const other = new DatabaseSync(join(dir.at, `ours-${pageBytes}.db`))
    other.exec(`PRAGMA page_size=${pageBytes}; PRAGMA journal_mode=WAL; CREATE TABLE x(y)`)
    const fd = openSync(join(dir.at, `ours-${pageBytes}.db-shm`), 'r+')
    const engineFd = openSync(`${path}-shm`, 'r+')
    const engineIndex = new WalIndex(engineFd)
    const header = engineIndex.read()
    assert.ok(header !== undefined)
    if (pageBytes === 512) assert.ok(header.lastFrame > 4062 + 4096, `${header.lastFrame} frames`)
    const ours = new WalIndex(fd)
    for (let frame = 1; frame <= header.lastFrame; frame++) {
      const { page } = parseFrameHeader(log, frameOffset(frame, pageBytes))
      assert.equal(engineIndex.page(frame), page)
      ours.append(frame, page)
    }
    ours.publish(header)
    const written = readFileSync(join(dir.at, `ours-${pageBytes}.db-shm`))
    assert.deepEqual(ours.read(), header)
    assert.ok(written.subarray(0, headerCopies).equals(engine.subarray(0, headerCopies)), 'header')
    assert.equal(written.length, engine.length)
    assert.ok(written.subarray(checkpointEnd).equals(engine.subarray(checkpointEnd)), 'pages and hash')
    ours.close()
    engineIndex.close()
    other.close()
    database.close()
    closeSync(fd)
    closeSync(engineFd)
  }
})

test('entries of frames that were never published are forgotten when others take their place', async () => {
  await using dir = await scratch()
  const path = join(dir.at, 'a.db')
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode=WAL; CREATE TABLE x(y)')
  const fd = openSync(`${path}-shm`, 'r+')
  const index = new WalIndex(fd)
  const regions = () => readFileSync(`${path}-shm`).subarray(checkpointEnd)
  for (let frame = 1; frame <= 5000; frame++) index.append(frame, frame * 8192)
  for (let frame = 1; frame <= 4500; frame++) index.append(frame, frame)
  const overwritten = regions()
  index.close()
  database.close()
  closeSync(fd)

  const fresh = join(dir.at, 'b.db')
  const again = new DatabaseSync(fresh)
  again.exec('PRAGMA journal_mode=WAL; CREATE TABLE x(y)')
  const freshFd = openSync(`${fresh}-shm`, 'r+')
  const freshIndex = new WalIndex(freshFd)
  for (let frame = 1; frame <= 4500; frame++) freshIndex.append(frame, frame)
  assert.ok(readFileSync(`${fresh}-shm`).subarray(checkpointEnd).equals(overwritten))
  freshIndex.close()
  again.close()
  closeSync(freshFd)
})
