/**
 * Follows a database in WAL mode: first its pages, then the committed transactions of its log.
 *
 * Invariant: at every moment either a read transaction of ours keeps the log from losing what was not taken yet, or
 * the continuity is proved from the log's bytes (`#enterGeneration`). Why the reads suffice: a log is restarted only
 * when all of it is in the database file and no reader stands in it. A reader of ours that stands in the log forbids
 * the restart; one that began when all was in the file forbids only what would come after the *next* restart, because
 * it keeps everybody from moving more into the file. So under one reader at most one restart can happen, and it comes
 * right after the reader's snapshot; readers overlap, and the older one ends only when all up to the newer one's
 * snapshot has been taken.
 *
 * A crash leaves the live database as any reader's crash does. The worst outcome of a mistake here is a transaction
 * that the copy never gets: the rolling digest of all pages can't see it, so in doubt the pages are compared.
 */
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Entry, Position } from '../../stream/entry.ts'
import type { Backlog, ReadOptions } from '../../stream/source.ts'
import type { SourceOptions } from '../driver.ts'
import { type DatabaseHeader, lockPage } from './database-header.ts'
import { engineNotice } from './engine.ts'
import type { LiveDatabase } from './live-database.ts'
import { PageChanges, PageSet } from './page-changes.ts'
import type { PageDigests } from './page-digests.ts'
import { loadInventory } from './page-inventory.ts'
import { scanPages } from './page-scan.ts'
import { decodePosition, encodePosition, type SqlitePosition } from './sqlite-position.ts'
import { type WalHeader, walHeaderBytes } from './wal-format.ts'
import { FrameBuffer, WalTail, type WalWindow } from './wal-tail.ts'

const boundedCommitBytes = 64 * 1024 * 1024
/** The log's growth after which what is in it is moved into the database file: half of an application's own habit. */
const checkpointBytes = 2 * 1024 * 1024
/** How often the log's index is looked at again while somebody writes it. */
const indexTriesMax = 50
/** Stepping aside is not done more often than this. */
export const stepMs = 2
/** For so long a moment is looked for in which nobody is inside a transaction: briefly, and near the limit longer. */
const patienceMs = { early: 2, late: 20 }
/** While a checkpoint runs in its thread, the log is looked at this often. */
const checkpointLookMs = 0.5
/** So many checkpoints, each of what was written during the one before, until little is left for a pause. */
const approachesMax = 4
/** When the log was over its limit for so long, it is said. */
const tellAfterMs = 10_000
/** Writers are not held while more than this is read and moved. */
const pauseBytesMax = 1024 * 1024
/** So much is kept in memory on the way to a pause: who takes the entries must not hold it up. */
const aheadBytesMax = 2 * 1024 * 1024

export interface WalSourceOptions extends SourceOptions {
  readonly live: LiveDatabase
  readonly digests: PageDigests
  readonly walBytesMax: number
}

export class WalSource {
  readonly #options: WalSourceOptions
  readonly #live: LiveDatabase
  readonly #digests: PageDigests
  #pageBytes = 0
  #changes: PageChanges | undefined
  readonly #frames = new FrameBuffer()
  /** Undefined while the log is empty. */
  #tail: WalTail | undefined
  /** Of the database file, while it is read as a whole. */
  #unreadBytes = 0
  /** All up to the snapshot of the reader that is held has been taken. */
  #settled = false
  /** The last look at the log took all that was committed then. */
  #complete = false
  #pages = 0
  #last: Position | undefined
  #checkpointedBytes = 0
  /** The log's size when the checkpoint that runs in its thread was begun. */
  #checkpointingBytes = 0
  /** With the end of the older of two reads a checkpoint is to begin. */
  #movesNext = false
  #relieveNow = false
  #fullSinceMs: number | undefined
  #toldOfLimit = false
  #steppedAtMs = 0
  /** Stepping aside was put off: read again after `stepMs`, whatever events say. */
  stepDue = false
  /** While two read transactions overlap within a drain: the frame after which the older one may end. */
  #rotateAtFrame: number | undefined

  constructor(options: WalSourceOptions) {
    this.#options = options
    this.#live = options.live
    this.#digests = options.digests
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    if (this.#last === undefined || this.#last !== from) yield* this.#start(from, options)
    if (options.signal.aborted) return
    const before = this.#last
    yield* this.#drain()
    if (!this.#live.isInPlace()) return
    yield* this.#relieve()
    if (this.#last === before) yield* this.#stepAside()
  }

  /**
   * While nothing is written, stands at the log's end, or outside it when all of it is in the database file: so that
   * another process's checkpoint that waits for readers (RESTART, TRUNCATE) does not wait for us.
   */
  *#stepAside(): Generator<Entry> {
    const now = performance.now()
    this.stepDue = now - this.#steppedAtMs < stepMs
    if (this.stepDue) return
    this.#steppedAtMs = now
    yield* this.#rotate()
  }

  /** True when something is in the log that is not in the database file yet, as far as we know. */
  get unsettled(): boolean {
    return (this.#tail?.bytes ?? 0) > Math.max(walHeaderBytes, this.#checkpointedBytes)
  }

  /** At the next read, moves what is in the log into the file, so that the next writer can restart it. */
  relieveSoon(): void {
    this.#relieveNow = true
  }

  async backlog(): Promise<Backlog> {
    const tail = this.#tail
    if (tail === undefined || !tail.isCurrent()) return { bytes: this.#unreadBytes }
    const frames = (this.#lastFrame(tail) ?? tail.place.frame) - tail.place.frame
    return { bytes: this.#unreadBytes + frames * this.#pageBytes }
  }

  // ---- where to begin

  async *#start(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    this.#last = undefined
    this.#settled = false
    this.#live.beginRead()
    this.#live.endOlderReads()
    const header = this.#live.readHeader()
    this.#pageBytes = header.pageBytes
    this.#changes = new PageChanges(this.#options.store, this.#pageBytes, this.#digests)
    const notice = engineNotice(this.#live.path, header.engineVersion)
    if (notice !== undefined) this.#options.onNotice(notice)
    const wanted = decodePosition(from)
    const inventory = await options.inventory()
    await loadInventory(this.#digests, inventory, this.#pageBytes)
    this.#pages = this.#digests.pages
    if (wanted?.kind === 'wal' && (yield* this.#continueFrom(wanted))) {
      this.#last = from
      return
    }
    if (wanted !== undefined && wanted.kind !== 'copying') {
      this.#options.onNotice({
        code: 'comparing',
        message:
          'The log has moved on since the last run, so the database is compared with the copy and the difference is sent.',
      })
    }
    const incomplete = wanted?.kind === 'copying' || this.#digests.pages === 0
    yield* this.#copy(header, incomplete, options.signal)
  }

  /** Stands the tail where the copy stands, when the log proves that nothing is missing in between. */
  *#continueFrom(wanted: SqlitePosition & { kind: 'wal' }): Generator<Entry, boolean> {
    const fd = this.#live.walFd
    if (fd === undefined || this.#digests.state !== wanted.state || wanted.pageBytes !== this.#pageBytes)
      return false
    const place = { frame: wanted.frame, checksum: { s1: wanted.s1, s2: wanted.s2 } }
    const tail = WalTail.open(fd, this.#frames, place)
    if (tail === undefined) return false
    if (tail.header.salt1 === wanted.salt1 && tail.header.salt2 === wanted.salt2) {
      if (!tail.holds(place)) return false
      this.#tail = tail
      return true
    }
    // the header that was, of which only the salts matter for reading frames
    const before: WalHeader = {
      bigEndian: wanted.bigEndian,
      pageBytes: wanted.pageBytes,
      checkpointSequence: 0,
      salt1: wanted.salt1,
      salt2: wanted.salt2,
      checksum: place.checksum,
    }
    const old = new WalTail(fd, before, Buffer.alloc(walHeaderBytes), this.#frames, place)
    if (place.frame === 0 || !old.holds(place)) return false
    this.#tail = old
    yield* this.#drainWindows()
    if (!this.#isSuccessor(old)) return false
    this.#tail = WalTail.open(fd, this.#frames)
    return this.#tail !== undefined
  }

  // ---- the first copy, and the comparison

  /**
   * Sends each page of the file that differs from what the sink has, and then the log. Pages are read while the
   * database goes on: one that a checkpoint changes or tears under us is in the log, which is sent after it; one of
   * which the log's version has been sent already is left out.
   */
  async *#copy(header: DatabaseHeader, bounded: boolean, signal: AbortSignal): AsyncGenerator<Entry> {
    const changes = this.#changes as PageChanges
    const fromLog = new PageSet()
    this.#tail = this.#live.walFd === undefined ? undefined : WalTail.open(this.#live.walFd, this.#frames)
    const locked = lockPage(this.#pageBytes)
    const skip = (page: number) => page === locked || fromLog.has(page)
    let pages = 0
    let logPages: number | undefined
    let uncommittedBytes = 0
    // under the read transaction that is held, the log is restarted only when all of it was in the file before
    this.#settled = true
    for await (const run of scanPages(this.#live, this.#pageBytes)) {
      pages += run.bytes.length / this.#pageBytes
      uncommittedBytes += run.bytes.length
      this.#unreadBytes = Math.max(0, header.pages - pages) * this.#pageBytes
      yield* changes.ofRun(run, skip)
      if (uncommittedBytes < boundedCommitBytes) continue
      uncommittedBytes = 0
      logPages = (yield* this.#drain(fromLog)) ?? logPages
      logPages = (yield* this.#relieve(fromLog)) ?? logPages
      if (bounded) yield this.#commit({ v: 1, kind: 'copying' }, false)
      if (signal.aborted) {
        this.#last = undefined
        this.#unreadBytes = 0
        return
      }
    }
    this.#unreadBytes = 0
    // all that a checkpoint may have put into the pages that were read
    for (let tries = 0; tries === 0 || !this.#complete; tries++) {
      if (tries > 0) await this.#options.clock.sleep(tries)
      if (tries > indexTriesMax) {
        throw new HotspareError(
          'source-busy',
          `The index of ${this.#live.path}-wal is being written for too long.`,
        )
      }
      logPages = (yield* this.#rotate(fromLog)) ?? logPages
    }
    const total = logPages ?? (header.pagesValid ? header.pages : pages)
    let missing = 0
    for (let page = pages + 1; page <= total; page++) {
      if (page !== locked && !fromLog.has(page)) missing++
    }
    // free pages that were never written may lie behind the file's end: only the engine can tell them from lost ones
    if (missing > 0 && !this.#live.isSound()) {
      throw new HotspareError(
        'source-invalid',
        `${this.#live.path} is truncated: it has ${pages} pages of ${this.#pageBytes} bytes, and should have ${total}. ` +
          'The copy is left as it was. Restore the database before it is followed again.',
        { details: { expected: total, found: pages } },
      )
    }
    this.#pages = total
    yield changes.size(total)
    yield this.#commit(this.#placeNow(), true)
  }

  // ---- the log

  /**
   * All that is committed; ends when the log has no more. With `seen`, within a copy: transactions are not committed
   * one by one, and their pages are noted; returns the newest size of the database in pages.
   */
  *#drain(seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    do {
      pages = (yield* this.#drainWindows(seen)) ?? pages
      if (!this.#live.isWalInPlace() && this.#live.isInPlace()) {
        throw new HotspareError(
          'source-busy',
          `${this.#live.path}-wal was removed while the database is in use.`,
        )
      }
    } while (yield* this.#enterGeneration(seen))
    if (!this.#complete) return pages
    this.#settled = true
    this.#rotateAtFrame = undefined
    this.#endOlderRead()
    return pages
  }

  *#drainWindows(seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    const tail = this.#tail
    this.#complete = tail === undefined
    if (tail === undefined) return undefined
    const lastFrame = this.#lastFrame(tail)
    for (const window of tail.windows(lastFrame ?? 0)) {
      if (seen === undefined) {
        yield* this.#transaction(window)
        this.#keepPace()
        continue
      }
      for (const page of window.pages.keys()) seen.add(page)
      yield* (this.#changes as PageChanges).ofPages(window.pages)
      pages = window.commit?.pages ?? pages
      this.#keepPace()
    }
    this.#complete = lastFrame !== undefined && tail.place.frame >= lastFrame
    return pages
  }

  /**
   * The last committed frame of a log: by its index, or, once the index is that of a newer log, by its chain. Undefined
   * while the index is being written.
   */
  #lastFrame(tail: WalTail): number | undefined {
    const index = this.#live.committed()
    if (index === undefined) return undefined
    const { salt1, salt2 } = tail.header
    return index.salt1 === salt1 && index.salt2 === salt2 ? index.lastFrame : tail.lastCommitFrame()
  }

  /**
   * While there is so much to take that a drain doesn't end, moves on the read transaction and what it allows to be
   * checkpointed. The older reader ends when all that was in the log at the newer one's beginning has been taken.
   */
  #keepPace(): void {
    const tail = this.#tail as WalTail
    if (this.#rotateAtFrame !== undefined) {
      if (tail.place.frame < this.#rotateAtFrame) return
      this.#rotateAtFrame = undefined
      this.#endOlderRead()
    } else if (this.#settled && tail.bytes - this.#checkpointedBytes >= 8 * checkpointBytes) {
      this.#noteCheckpoint()
      if (this.#live.isCheckpointing) return
      if (!this.#live.overlaps) this.#live.beginRead()
      this.#movesNext = true
      this.#rotateAtFrame = this.#lastFrame(tail)
    }
  }

  /**
   * Of two overlapping reads ends the older. When the log is long enough for writers to attempt checkpoints by
   * themselves, at each commit, ours begins with it, so that they find nothing to move.
   */
  #endOlderRead(): void {
    if (!this.#live.overlaps) return
    const begins =
      this.#movesNext && this.#uncheckpointedBytes >= pauseBytesMax && !this.#live.isCheckpointing
    this.#movesNext = false
    if (!begins) {
      this.#live.endOlderReads()
      return
    }
    this.#noteCheckpoint()
    this.#checkpointingBytes = this.#tail?.bytes ?? 0
    this.#live.beginCheckpoint()
  }

  /** Takes note of a checkpoint that has ended in its thread. */
  #noteCheckpoint(): void {
    if (this.#live.takeCheckpoint()?.done) this.#checkpointedBytes = this.#checkpointingBytes
  }

  *#transaction(window: WalWindow): Generator<Entry> {
    const changes = this.#changes as PageChanges
    this.#last = undefined
    yield* changes.ofPages(window.pages)
    if (window.commit === undefined) return
    if (window.commit.pages !== this.#pages) {
      this.#pages = window.commit.pages
      yield changes.size(this.#pages)
    }
    yield this.#commit(this.#placeNow(), true)
  }

  #commit(place: SqlitePosition, consistent: boolean): Commit {
    const position = encodePosition(place)
    this.#last = position
    const timeMs = this.#options.clock.nowMs()
    const state = this.#digests.state
    return { type: 'commit', store: this.#options.store, position, consistent, timeMs, state }
  }

  #placeNow(): SqlitePosition {
    const tail = this.#tail
    const state = this.#digests.state
    if (tail === undefined) return { v: 1, kind: 'compared', state }
    const { salt1, salt2, bigEndian, pageBytes } = tail.header
    const { frame, checksum } = tail.place
    return {
      v: 1,
      kind: 'wal',
      pageBytes,
      bigEndian,
      salt1,
      salt2,
      frame,
      s1: checksum.s1,
      s2: checksum.s2,
      state,
    }
  }

  /** Goes over to the log that has taken the place of the one that was read to its end; false when none has. */
  *#enterGeneration(seen?: PageSet): Generator<Entry, boolean> {
    const fd = this.#live.walFd
    const before = this.#tail
    if (fd === undefined || before?.isCurrent()) return false
    const next = WalTail.open(fd, this.#frames)
    if (next === undefined) return false
    if (before !== undefined && !this.#settled) {
      // what was written to the old log before it was restarted is in the file still, or the slot shows that it is not
      yield* this.#drainWindows(seen)
      if (!this.#isSuccessor(before)) {
        throw new HotspareError(
          'source-busy',
          `${this.#live.path}-wal was restarted before all of it was read; the database is compared with the copy.`,
        )
      }
    }
    this.#tail = next
    this.#checkpointedBytes = 0
    this.#checkpointingBytes = 0
    this.#rotateAtFrame = undefined
    return true
  }

  /**
   * True when nothing of the old log, which was read to its end after the new one had begun, can have been missed: the
   * new one is its very next, and has not yet reached the slot behind the last frame that was read.
   */
  #isSuccessor(old: WalTail): boolean {
    const slot = old.peek()
    const fd = this.#live.walFd
    const now = fd === undefined ? undefined : WalTail.open(fd, this.#frames)
    if (now === undefined || now.header.salt1 !== (old.header.salt1 + 1) >>> 0) return false
    return slot?.salt1 !== now.header.salt1 || slot.salt2 !== now.header.salt2
  }

  // ---- keeping the log short

  /**
   * Moves the log's content into the database file when it has grown, and lets the log be restarted: by itself in a
   * pause of the writers, or near its limit by making one.
   */
  *#relieve(seen?: PageSet): Generator<Entry, number | undefined> {
    this.#noteCheckpoint()
    const bytes = this.#tail?.bytes ?? 0
    const limitBytes = this.#options.walBytesMax
    const large = bytes >= limitBytes / 2
    const enough = this.#relieveNow
      ? this.unsettled
      : this.#uncheckpointedBytes >= (large ? checkpointBytes / 2 : checkpointBytes)
    if (!enough) return undefined
    this.#relieveNow = false
    if (!large) return yield* this.#moveToFile(seen)
    return yield* withoutGivingWay(this.#moveAndPause(bytes / limitBytes, seen), aheadBytesMax)
  }

  *#moveToFile(seen?: PageSet): Generator<Entry, number | undefined> {
    this.#movesNext = true
    let pages = yield* this.#rotate(seen)
    // what is taken from here on lies behind our read, and no checkpoint moves it
    const bytes = this.#tail?.bytes ?? 0
    pages = (yield* this.#drainWhileCheckpointing(seen)) ?? pages
    const { complete, done } = this.#live.checkpoint()
    if (done) this.#checkpointedBytes = complete ? (this.#tail?.bytes ?? 0) : bytes
    if (complete) pages = (yield* this.#rotate(seen)) ?? pages
    return pages
  }

  /** Moves again what was written during the move before, until little is left, and then makes writers pause. */
  *#moveAndPause(fill: number, seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    for (let approach = 1; approach <= approachesMax; approach++) {
      pages = (yield* this.#moveToFile(seen)) ?? pages
      // restarted already, in a pause of their own
      if ((this.#tail?.bytes ?? 0) < checkpointBytes) return pages
      if (this.#uncheckpointedBytes <= pauseBytesMax) break
    }
    // where two reads overlap still, not all is known to be taken: at the next look
    if (!this.#live.overlaps) pages = (yield* this.#pause(fill, seen)) ?? pages
    return pages
  }

  *#drainWhileCheckpointing(seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    while (this.#live.isCheckpointing) {
      const before = this.#tail?.place.frame
      pages = (yield* this.#drainWindows(seen)) ?? pages
      if (this.#tail?.place.frame === before) this.#live.pauseForCheckpoint(checkpointLookMs)
    }
    this.#noteCheckpoint()
    return pages
  }

  get #uncheckpointedBytes(): number {
    return (this.#tail?.bytes ?? 0) - this.#checkpointedBytes
  }

  /** Begins a newer read transaction, takes all up to its snapshot, and ends the older one. */
  *#rotate(seen?: PageSet): Generator<Entry, number | undefined> {
    if (!this.#live.overlaps) this.#live.beginRead()
    return yield* this.#drain(seen)
  }

  /**
   * Over its limit the log is let grow rather than that writers get an error: their own lock would be the means to stop
   * them, and a transaction that has read before it writes does not wait for that.
   */
  #tellOfLimit(fill: number): void {
    const now = this.#options.clock.nowMs()
    if (fill < 1) this.#fullSinceMs = undefined
    else this.#fullSinceMs ??= now
    if (this.#fullSinceMs === undefined || this.#toldOfLimit || now - this.#fullSinceMs < tellAfterMs) return
    this.#toldOfLimit = true
    const megabytes = Math.round((fill * this.#options.walBytesMax) / 2 ** 20)
    this.#options.onNotice({
      code: 'log-over-limit',
      message: `${this.#live.path}-wal has ${megabytes} MiB, more than its limit, because some transaction is always under way: it is restarted at the first moment without one.`,
    })
  }

  /** `fill` is the log's size in parts of its limit. */
  *#pause(fill: number, seen?: PageSet): Generator<Entry, number | undefined> {
    // until the next drain has ended no reader of ours vouches for the log's continuity
    this.#settled = false
    const taken: Entry[] = []
    let takenBytes = 0
    let pages: number | undefined
    let ended = false
    const windows = this.#drainWindows(seen)
    const drain = () => {
      while (takenBytes <= pauseBytesMax) {
        const next = windows.next()
        if (next.done) {
          ended = true
          pages = next.value
          return this.#complete
        }
        taken.push(next.value)
        if (next.value.type === 'write') takenBytes += next.value.data.length
      }
      return false
    }
    const heldMs = this.#live.pauseWriters(drain, fill < 1 ? patienceMs.early : patienceMs.late)
    this.#tellOfLimit(fill)
    if (heldMs !== undefined && heldMs > 100) {
      this.#options.onNotice({
        code: 'writers-held',
        message: `Writers were held for ${Math.round(heldMs)} ms so that the log could be restarted.`,
      })
    }
    yield* taken
    if (!ended) pages = yield* windows
    return (yield* this.#drain(seen)) ?? pages
  }
}

/** Gives the same entries, but runs ahead of who takes them as long as they have at most so many bytes. */
function* withoutGivingWay<T>(entries: Generator<Entry, T>, bytesMax: number): Generator<Entry, T> {
  const taken: Entry[] = []
  for (let bytes = 0; bytes <= bytesMax; ) {
    const next = entries.next()
    if (next.done) {
      yield* taken
      return next.value
    }
    taken.push(next.value)
    if (next.value.type === 'write') bytes += next.value.data.length
  }
  yield* taken
  return yield* entries
}
