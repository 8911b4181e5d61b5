/**
 * Appends transactions to the log of a copy, as one more writer within the engine's own protocol. The engine gives
 * the write lock, checkpoints and recovers; the frames and their index entries are ours, because SQL can't write
 * pages.
 *
 * Invariant: a connection is held open for the life of this object, so that no other process is ever the last to
 * close the copy (that one would checkpoint it and remove the log). Frames are in the file before they are published.
 *
 * A crash leaves frames without a commit, which nobody reads and the next transaction overwrites; or a whole
 * transaction that isn't published yet, which the engine's recovery finds. The worst outcome would be a log of two
 * writers' frames; the change counter, compared under the write lock, refuses that.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import type { Clock } from '../../os/clock.ts'
import { assert, type ErrorCode, HotspareError } from '../../os/errors.ts'
import { openShared, type SharedDescriptor } from './descriptors.ts'
import { isBusy, openDatabase, resultCode, sqliteCode } from './engine.ts'
import {
  encodeFrame,
  encodeWalHeader,
  frameHeaderBytes,
  frameOffset,
  parseWalHeader,
  type WalChecksum,
  type WalHeader,
  walHeaderBytes,
} from './wal-format.ts'
import { WalIndex, type WalIndexHeader } from './wal-index.ts'

const fdatasyncAsync = promisify(fdatasync)
const bufferBytes = 1024 * 1024
const lockWaitMsMax = 5000
const lockRetryMs = 5

interface Descriptors {
  readonly database: SharedDescriptor
  readonly shm: SharedDescriptor
  readonly wal: number
}

export class WalWriter {
  readonly path: string
  readonly pageBytes: number
  readonly #connection: DatabaseSync
  readonly #descriptors: Descriptors
  readonly #index: WalIndex
  readonly #clock: Clock
  readonly #buffer: Buffer
  #checkpointSequence: number
  /** Of the last commit that is ours, or was accepted. */
  #change: number | undefined
  #locked: WalIndexHeader | undefined
  #header: WalHeader | undefined
  #checksum: WalChecksum = { s1: 0, s2: 0 }
  /** The last frame that is encoded, and the last that is in the file. */
  #encoded = 0
  #written = 0
  #buffered = 0
  readonly #bufferedPages: number[] = []
  #held: { page: number; data: Uint8Array } | undefined

  /** Opens a database that is in WAL mode, or brings it there with `toWal`. */
  static async open(path: string, clock: Clock, options: { toWal?: boolean } = {}): Promise<WalWriter> {
    const connection = await retryBusy(path, clock, () => openConnection(path, options.toWal === true))
    try {
      const pageBytes = describeEngineErrors(path, () => Number(pragma(connection, 'page_size')))
      return new WalWriter(path, clock, connection, pageBytes)
    } catch (error) {
      connection.close()
      throw error
    }
  }

  private constructor(path: string, clock: Clock, connection: DatabaseSync, pageBytes: number) {
    this.path = path
    this.pageBytes = pageBytes
    this.#clock = clock
    this.#connection = connection
    const database = openShared(path, 'read')
    const shm = openShared(`${path}-shm`, 'write')
    this.#descriptors = { database, shm, wal: openSync(`${path}-wal`, 'r+') }
    this.#index = new WalIndex(shm.fd)
    const frameBytes = frameHeaderBytes + pageBytes
    this.#buffer = Buffer.alloc(Math.max(1, Math.floor(bufferBytes / frameBytes)) * frameBytes)
    const header = Buffer.alloc(walHeaderBytes)
    readSync(this.#descriptors.wal, header, 0, walHeaderBytes, 0)
    this.#checkpointSequence = parseWalHeader(header)?.checkpointSequence ?? 0
  }

  get databaseFd(): number {
    return this.#descriptors.database.fd
  }

  get walFd(): number {
    return this.#descriptors.wal
  }

  /** Under the lock: the last committed frame. */
  get lastFrame(): number {
    return this.#locked?.lastFrame ?? 0
  }

  /** The page of a published frame. */
  framePage(frame: number): number {
    return this.#index.page(frame)
  }

  /** Bytes of the log that are in use. */
  get logBytes(): number {
    const header = this.#index.read()
    return header === undefined || header.lastFrame === 0
      ? 0
      : frameOffset(header.lastFrame + 1, this.pageBytes)
  }

  /**
   * Takes the write lock, so that nobody else changes the copy or restarts its log until `unlock`. Waits for others
   * for some seconds, then `target-busy`. `target-changed` when somebody committed since our last commit.
   */
  async lock(): Promise<WalIndexHeader> {
    assert(this.#locked === undefined, 'the copy is not locked')
    await retryBusy(this.path, this.#clock, () => this.#connection.exec('BEGIN IMMEDIATE'))
    try {
      this.#verifyFiles()
      const header = this.#index.read()
      assert(header !== undefined, 'the engine has validated the index')
      if (this.#change !== undefined && header.change !== this.#change) {
        throw new HotspareError(
          'target-changed',
          `${this.path} was written by another process while it was followed. Stop that process; then follow with --resync to make it equal to its source again.`,
          { details: { expectedChange: this.#change, foundChange: header.change } },
        )
      }
      this.#locked = header
      this.#encoded = this.#written = header.lastFrame
      return header
    } catch (error) {
      this.#connection.exec('ROLLBACK')
      throw error
    }
  }

  /** Takes the content that was found under the lock for ours: later changes by others are noticed. */
  accept(): void {
    assert(this.#locked !== undefined, 'the copy is locked')
    this.#change = this.#locked.change
  }

  /** Gives up the lock; frames that were added and not committed are void. */
  unlock(): void {
    if (this.#locked === undefined) return
    this.#locked = undefined
    this.#held = undefined
    this.#buffered = 0
    this.#bufferedPages.length = 0
    // The engine must not commit: with auto_vacuum it could move pages. After ROLLBACK it takes our commit for one
    // of its own and would keep stale pages in its cache; so the cache is emptied.
    this.#connection.exec('ROLLBACK')
    this.#connection.exec('PRAGMA shrink_memory')
  }

  /** Begins a transaction under the lock. */
  begin(): void {
    const locked = this.#locked
    assert(locked !== undefined, 'the copy is locked')
    if (locked.lastFrame === 0) {
      this.#startLog(locked)
      return
    }
    const bytes = Buffer.alloc(walHeaderBytes)
    readSync(this.#descriptors.wal, bytes, 0, walHeaderBytes, 0)
    const header = parseWalHeader(bytes)
    if (header === undefined || header.salt1 !== locked.salt1 || header.salt2 !== locked.salt2) {
      throw new HotspareError(
        'target-changed',
        `${this.path}-wal is not the log that the engine has open: it was replaced or overwritten. Follow with --resync.`,
      )
    }
    this.#header = header
    this.#checksum = locked.checksum
  }

  /** Adds a page's new content; it is neither visible nor copied yet: the bytes must not change before `commit`. */
  add(page: number, data: Uint8Array): void {
    assert(data.length === this.pageBytes, 'a frame holds a page')
    if (this.#held !== undefined) this.#encode(this.#held, 0)
    this.#held = { page, data }
  }

  /** No page was added since the lock was taken. */
  get empty(): boolean {
    return this.#held === undefined && this.#encoded === this.#locked?.lastFrame
  }

  /** Ends the transaction, for a database of so many pages: readers see it from now on. Not durable before `sync`. */
  commit(pages: number): void {
    const locked = this.#locked
    assert(locked !== undefined && this.#held !== undefined && this.#header !== undefined, 'a page was added')
    this.#encode(this.#held, pages)
    this.#held = undefined
    this.#spill()
    const { salt1, salt2, bigEndian } = this.#header
    const header: WalIndexHeader = {
      change: (locked.change + 1) >>> 0,
      pageBytes: this.pageBytes,
      lastFrame: this.#encoded,
      pages,
      checksum: this.#checksum,
      salt1,
      salt2,
      bigEndian,
    }
    this.#index.publish(header)
    this.#change = header.change
    this.#locked = header
  }

  /** Resolves when all committed transactions are durable. */
  sync(): Promise<void> {
    return fdatasyncAsync(this.#descriptors.wal)
  }

  /**
   * Moves the log's content into the database file and, when nobody reads it, empties the log. Waits for readers as
   * long as told. False when the log could not be emptied.
   */
  checkpoint(waitMs: number): boolean {
    assert(this.#locked === undefined, 'the copy is not locked')
    return describeEngineErrors(this.path, () => {
      this.#connection.exec(`PRAGMA busy_timeout=${waitMs}`)
      try {
        this.#connection.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()
      } finally {
        this.#connection.exec('PRAGMA busy_timeout=0')
        this.#connection.exec('PRAGMA shrink_memory')
      }
      return this.#index.read()?.lastFrame === 0
    })
  }

  /** The engine's connection checkpoints and removes the log when no other process has the copy open. */
  close(): void {
    try {
      this.unlock()
    } finally {
      this.#index.close()
      try {
        this.#connection.close()
      } finally {
        closeSync(this.#descriptors.wal)
        this.#descriptors.shm.release()
        this.#descriptors.database.release()
      }
    }
  }

  #encode(frame: { page: number; data: Uint8Array }, commitPages: number): void {
    assert(this.#header !== undefined, 'a transaction has begun')
    if (this.#buffered === this.#buffer.length) this.#spill()
    this.#checksum = encodeFrame(
      this.#buffer,
      this.#buffered,
      { page: frame.page, commitPages, data: frame.data },
      this.#header,
      this.#checksum,
    )
    this.#buffered += frameHeaderBytes + this.pageBytes
    this.#bufferedPages.push(frame.page)
    this.#encoded++
  }

  #spill(): void {
    if (this.#buffered === 0) return
    const offset = frameOffset(this.#written + 1, this.pageBytes)
    for (let done = 0; done < this.#buffered; ) {
      done += writeSync(this.#descriptors.wal, this.#buffer, done, this.#buffered - done, offset + done)
    }
    for (const page of this.#bufferedPages) this.#index.append(++this.#written, page)
    this.#buffered = 0
    this.#bufferedPages.length = 0
  }

  /** As the engine does when a log begins anew: other salts, and the header durable before any frame. */
  #startLog(locked: WalIndexHeader): void {
    const { bytes, header } = encodeWalHeader({
      pageBytes: this.pageBytes,
      checkpointSequence: ++this.#checkpointSequence,
      salt1: (locked.salt1 + 1) >>> 0,
      salt2: randomBytes(4).readUInt32BE(0),
    })
    const written = writeSync(this.#descriptors.wal, bytes, 0, bytes.length, 0)
    if (written !== bytes.length) throw Object.assign(new Error('short write'), { code: 'ENOSPC' })
    fdatasyncSync(this.#descriptors.wal)
    this.#header = header
    this.#checksum = header.checksum
  }

  /** The names still lead to the files that are open. */
  #verifyFiles(): void {
    const named = statSync(this.path, { bigint: true, throwIfNoEntry: false })
    const open = fstatSync(this.databaseFd, { bigint: true })
    const log = statSync(`${this.path}-wal`, { bigint: true, throwIfNoEntry: false })
    const openLog = fstatSync(this.#descriptors.wal, { bigint: true })
    const same = named?.ino === open.ino && named.dev === open.dev && log?.ino === openLog.ino
    if (same) return
    throw new HotspareError(
      'target-changed',
      `${this.path} or its -wal was removed or replaced while it was followed. Start again, with --resync when the file there is to be overwritten.`,
    )
  }
}

function openConnection(path: string, toWal: boolean): DatabaseSync {
  const connection = openDatabase(path, { busyMs: 0 })
  try {
    // a schema that doesn't parse (the source may have one) must not keep us from checkpoints
    connection.exec('PRAGMA writable_schema=ON')
    connection.exec('PRAGMA wal_autocheckpoint=0')
    connection.exec('PRAGMA cache_size=-256')
    const mode = pragma(connection, toWal ? 'journal_mode=WAL' : 'journal_mode')
    if (mode !== 'wal') {
      throw new HotspareError(
        'target-changed',
        `${path} is no longer in WAL mode but in '${mode}': another process changed it. Follow with --resync.`,
      )
    }
    // a read makes the engine open the log and its index, and recover them
    pragma(connection, 'schema_version')
    return connection
  } catch (error) {
    connection.close()
    throw error
  }
}

function pragma(connection: DatabaseSync, name: string): unknown {
  const row = connection.prepare(`PRAGMA ${name}`).get()
  return row === undefined ? undefined : Object.values(row)[0]
}

async function retryBusy<T>(path: string, clock: Clock, work: () => T): Promise<T> {
  const untilMs = clock.nowMs() + lockWaitMsMax
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!isBusy(error)) throw describeEngineError(error, path)
      if (clock.nowMs() >= untilMs) {
        throw new HotspareError(
          'target-busy',
          `${path} is locked by another process, for more than ${lockWaitMsMax} ms. Only readers may use a copy that is followed.`,
          { cause: error },
        )
      }
      await clock.sleep(lockRetryMs)
    }
  }
}

function describeEngineErrors<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw describeEngineError(error, path)
  }
}

/** Gives an error of the engine on the copy its code; other errors pass unchanged. */
export function describeEngineError(error: unknown, path: string): unknown {
  const result = sqliteCode(error)
  if (result === undefined) return error
  const { code, advice } = engineCodes[result] ?? { code: 'io-error', advice: 'Look at the disk.' }
  return new HotspareError(code, `${path}: ${(error as Error).message}. ${advice}`, {
    cause: error,
    details: { path, sqlite: result },
  })
}

const engineCodes: Readonly<Record<number, { code: ErrorCode; advice: string }>> = {
  [resultCode.busy]: { code: 'target-busy', advice: 'Another process uses it.' },
  [resultCode.locked]: { code: 'target-busy', advice: 'Another process uses it.' },
  [resultCode.protocol]: { code: 'target-busy', advice: 'Another process uses it.' },
  [resultCode.full]: { code: 'disk-full', advice: 'Free some space.' },
  [resultCode.readonly]: { code: 'permission-denied', advice: 'Run as the user who owns it.' },
  [resultCode.cannotOpen]: {
    code: 'permission-denied',
    advice: 'Look at the modes of it, its -wal and -shm, and its directory.',
  },
  [resultCode.corrupt]: { code: 'target-invalid', advice: 'It is damaged.' },
  [resultCode.notADatabase]: { code: 'target-invalid', advice: 'It is no database, or is encrypted.' },
}
