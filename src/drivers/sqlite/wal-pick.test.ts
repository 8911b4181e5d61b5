import assert from 'node:assert/strict'
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { scratch } from './testing/copy-fixture.ts'
import {
  frameHeaderBytes,
  frameOffset,
  parseWalHeader,
  type WalHeader,
  walHeaderBytes,
} from './wal-format.ts'
import { WalIndex } from './wal-index.ts'
import { type FrameIndex, type Picked, pickPages } from './wal-pick.ts'
import { FrameBuffer, WalTail, type WalWindow } from './wal-tail.ts'

interface LiveLog {
  readonly database: DatabaseSync
  readonly fd: number
  readonly header: WalHeader
  readonly index: WalIndex
  readonly frames: FrameIndex
  pick(after?: number): Picked | undefined
}

/** A log in which the same few pages were written over and over, in `transactions`. */
async function written(t: TestContext, transactions: number, pageBytes = 4096): Promise<LiveLog> {
  const dir = await scratch()
  const path = join(dir.at, 'a.db')
  const database = new DatabaseSync(path)
  database.exec(`PRAGMA page_size = ${pageBytes}; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF;
    CREATE TABLE a (id INTEGER PRIMARY KEY, v); INSERT INTO a VALUES (1, 0), (2, 0);
    CREATE TABLE b (id INTEGER PRIMARY KEY, v)`)
  for (let i = 0; i < transactions; i++) {
    database.exec(`BEGIN; UPDATE a SET v = ${i}; INSERT INTO b (v) VALUES (randomblob(${i % 300})); COMMIT`)
  }
  const fd = openSync(`${path}-wal`, 'r+')
  const indexFd = openSync(`${path}-shm`, 'r+')
  const index = new WalIndex(indexFd)
  const header = headerOf(fd)
  t.after(async () => {
    index.close()
    database.close()
    closeSync(fd)
    closeSync(indexFd)
    await dir[Symbol.asyncDispose]()
  })
  const frames = {
    page: (frame: number) => index.page(frame),
    isCurrent: () => index.read()?.salt2 === header.salt2,
  }
  const pick = (after = 0) => {
    const last = index.read()?.lastFrame ?? 0
    return pickPages({ fd, header, after, last }, frames, Buffer.allocUnsafeSlow)
  }
  return { database, fd, header, index, frames, pick }
}

function headerOf(fd: number): WalHeader {
  const bytes = Buffer.alloc(walHeaderBytes)
  readSync(fd, bytes, 0, walHeaderBytes, 0)
  return parseWalHeader(bytes) as WalHeader
}

/** What the windows have, as of their ends: where each page's bytes are taken from, and what the last one says. */
function taken(windows: Iterable<WalWindow>) {
  const pages = new Map<number, string>()
  let end: WalWindow['commit']
  for (const window of windows) {
    for (const [page, data] of window.pages) pages.set(page, data.toString('hex'))
    if (window.commit !== undefined) end = { pages: window.commit.pages, place: window.commit.place }
  }
  return { pages: [...pages].sort(([a], [b]) => a - b), end }
}

for (const pageBytes of [512, 4096, 65536]) {
  test(`the newest version of each page is taken, and the place behind it, as by reading all frames (pages of ${pageBytes})`, async t => {
    const log = await written(t, 300, pageBytes)
    const last = (log.index.read() as { lastFrame: number }).lastFrame
    for (const after of [0, 1, 40]) {
      const tail = () => {
        const opened = WalTail.open(log.fd, new FrameBuffer()) as WalTail
        // stands at the end of a transaction
        for (const _ of opened.windows(after)) assert.ok(opened.place.frame <= after)
        return opened
      }
      const picked = log.pick(tail().place.frame)
      assert.ok(picked !== undefined && picked.frame === last)
      assert.deepEqual(
        [...picked.pages.keys()],
        [...picked.pages.keys()].sort((a, b) => a - b),
      )
      const byIndex = taken(tail().windows(last, log.frames))
      assert.deepEqual(byIndex, taken(tail().windows(last)))
      assert.equal(byIndex.end?.place.frame, last)
    }
  })
}

test('a long stretch is taken in parts that end with transactions', async t => {
  const log = await written(t, 4000)
  const last = (log.index.read() as { lastFrame: number }).lastFrame
  const tail = WalTail.open(log.fd, new FrameBuffer()) as WalTail
  let windows = 0
  for (const window of tail.windows(last, log.frames)) {
    assert.ok(window.commit !== undefined)
    windows++
  }
  assert.ok(windows > 1 && tail.place.frame === last, `${windows} windows`)
})

test('what is not as the index says is not taken', async t => {
  const log = await written(t, 200)
  const whole = log.pick()
  assert.ok(whole !== undefined)
  const frameBytes = frameHeaderBytes + log.header.pageBytes
  const last = whole.frame
  const flip = (offset: number) => {
    const byte = Buffer.alloc(1)
    readSync(log.fd, byte, 0, 1, offset)
    byte[0] = (byte[0] as number) ^ 1
    writeSync(log.fd, byte, 0, 1, offset)
  }
  // of the last frame: page, size, salts, checksum, data; and the checksum of the frame before it
  const at = frameOffset(last, log.header.pageBytes)
  for (const offset of [at, at + 7, at + 8, at + 15, at + 16, at + 23, at + 24, at + frameBytes - 1]) {
    flip(offset)
    assert.equal(log.pick(), undefined, `a changed byte at ${offset - at}`)
    flip(offset)
  }
  flip(at - frameBytes + 16)
  assert.equal(log.pick(), undefined, 'a changed checksum before')
  flip(at - frameBytes + 16)
  assert.deepEqual(log.pick(), whole)
})

test('of a log that is begun anew while its index is read nothing is taken', async t => {
  const log = await written(t, 200)
  const last = (log.index.read() as { lastFrame: number }).lastFrame
  let begun = false
  const frames: FrameIndex = {
    page(frame) {
      if (!begun && frame > last / 2) {
        begun = true
        // the first transaction after a checkpoint of all begins the log anew
        log.database.exec('PRAGMA wal_checkpoint(RESTART); UPDATE a SET v = -1')
      }
      return log.index.page(frame)
    },
    isCurrent: log.frames.isCurrent,
  }
  const stretch = { fd: log.fd, header: log.header, after: 0, last }
  assert.equal(pickPages(stretch, frames, Buffer.allocUnsafeSlow), undefined)
  assert.ok(begun)
})

test('where every page is another, or there is little, all frames are read', async t => {
  const log = await written(t, 3)
  assert.equal(log.pick(), undefined)
  log.database.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
    INSERT INTO b (v) SELECT randomblob(4000) FROM n`)
  assert.equal(log.pick(), undefined)
})
