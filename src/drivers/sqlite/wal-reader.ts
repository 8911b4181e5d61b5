/**
 * Takes the committed transactions of a live log, over its restarts, and stands at the place up to which they were taken.
 *
 * Invariant: at every moment either a read transaction of ours keeps the log from losing what was not taken yet, or
 * the continuity is proved from the log's bytes (`#enterGeneration`). Why the reads suffice: a log is restarted only
 * when all of it is in the database file and no reader stands in it. A reader of ours that stands in the log forbids
 * the restart; one that began when all was in the file forbids only what would come after the *next* restart, because
 * it keeps everybody from moving more into the file. So under one reader at most one restart can happen, and it comes
 * right after the reader's snapshot; readers overlap, and the older one ends only when all up to the newer one's
 * snapshot has been taken.
 *
 * The worst outcome of a mistake here is a transaction that the copy never gets: the rolling digest of all pages can't
 * see it, so in doubt the pages are compared.
 */
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Entry, Position, StoreName } from '../../stream/entry.ts'
import type { Checkpoint } from './checkpointer.ts'
import { CommitLooks } from './commit-looks.ts'
import type { LiveDatabase } from './live-database.ts'
import { PageChanges, type PageSet } from './page-changes.ts'
import type { PageDigests } from './page-digests.ts'
import { encodePosition, type SqlitePosition } from './sqlite-position.ts'
import { TakenTransactions } from './taken-transactions.ts'
import { type WalHeader, walHeaderBytes } from './wal-format.ts'
import type { WalIndexHeader } from './wal-index.ts'
import type { FrameIndex } from './wal-pick.ts'
import { FrameBuffer, WalTail, type WalWindow } from './wal-tail.ts'

/** The log's growth within one drain after which what is in it is moved into the database file. */
const paceBytes = 16 * 1024 * 1024
/** From here on writers attempt checkpoints by themselves: one of ours comes before. */
const checkpointBytesMin = 1024 * 1024

export interface WalReaderOptions {
  readonly store: StoreName
  readonly clock: Clock
  readonly live: LiveDatabase
  readonly digests: PageDigests
}

export class WalReader {
  readonly #options: WalReaderOptions
  readonly #live: LiveDatabase
  readonly #digests: PageDigests
  #pageBytes = 0
  #changes: PageChanges | undefined
  /** Transactions that were taken and are to be given, as one. */
  #taken: TakenTransactions | undefined
  /** Somebody waits for what is committed. */
  isAwaited: () => boolean = () => false
  readonly #frames = new FrameBuffer()
  /** Undefined while the log is empty. */
  #tail: WalTail | undefined
  /** All up to the snapshot of the reader that is held has been taken. */
  #settled = false
  /** The last look at the log took all that was committed then. */
  #complete = false
  #last: Position | undefined
  #checkpointedBytes = 0
  /** The log's size when the checkpoint that runs in its thread was begun. */
  #checkpointingBytes = 0
  /** With the end of the older of two reads a checkpoint is to begin. */
  #movesNext = false
  /** While two read transactions overlap within a drain: the frame after which the older one may end. */
  #rotateAtFrame: number | undefined
  /** At the log that the tail reads. */
  readonly #looks = new CommitLooks()

  constructor(options: WalReaderOptions) {
    this.#options = options
    this.#live = options.live
    this.#digests = options.digests
  }

  /** The last commit that was given, when all before it is in it and nothing has been given since. */
  get last(): Position | undefined {
    return this.#last
  }

  /** What was given does not count, and what was taken neither: the next read starts anew. */
  forget(): void {
    this.#last = undefined
    this.#taken?.clear()
  }

  /** The last look at the log took all that was committed then. */
  get complete(): boolean {
    return this.#complete
  }

  /** Of the log, up to what was taken. */
  get bytes(): number {
    return this.#tail?.bytes ?? 0
  }

  /** The last frame that was taken. */
  get frame(): number | undefined {
    return this.#tail?.place.frame
  }

  /** Of these, what is not in the database file yet, as far as we know. */
  get uncheckpointedBytes(): number {
    return this.bytes - this.#checkpointedBytes
  }

  /** True when something is in the log that is not in the database file yet, as far as we know. */
  get unmoved(): boolean {
    return this.bytes > Math.max(walHeaderBytes, this.#checkpointedBytes)
  }

  /** For pages of the database file; since `begin`. */
  get changes(): PageChanges {
    return this.#changes as PageChanges
  }

  /** Committed bytes of the log that were not taken yet. */
  backlogBytes(): number {
    const tail = this.#tail
    if (tail === undefined || !tail.isCurrent()) return 0
    return ((this.#lastFrame(tail) ?? tail.place.frame) - tail.place.frame) * this.#pageBytes
  }

  // ---- where to begin

  /** Under a new read transaction: nothing is known of the log. */
  begin(pageBytes: number): void {
    this.#last = undefined
    this.#settled = false
    this.#looks.clear()
    this.#pageBytes = pageBytes
    this.#changes = new PageChanges(this.#options.store, pageBytes, this.#digests)
    this.#taken = new TakenTransactions(pageBytes)
  }

  /**
   * Stands at the log's beginning. Under the read transaction that is held, the log is restarted only when all of it was
   * in the file before.
   */
  standAtBeginning(): void {
    this.#tail = this.#live.walFd === undefined ? undefined : WalTail.open(this.#live.walFd, this.#frames)
    this.#settled = true
  }

  /** Stands the tail where the copy stands, when the log proves that nothing is missing in between. */
  *resume(from: Position, wanted: SqlitePosition & { kind: 'wal' }): Generator<Entry, boolean> {
    const fd = this.#live.walFd
    if (fd === undefined || this.#digests.state !== wanted.state || wanted.pageBytes !== this.#pageBytes)
      return false
    const place = { frame: wanted.frame, checksum: { s1: wanted.s1, s2: wanted.s2 } }
    const tail = WalTail.open(fd, this.#frames, place)
    if (tail === undefined) return false
    if (tail.header.salt1 === wanted.salt1 && tail.header.salt2 === wanted.salt2) {
      if (!tail.holds(place)) return false
      this.#tail = tail
      this.#last = from
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
    this.#last = from
    let next: WalTail | undefined
    try {
      yield* this.drainWindows()
      yield* this.give()
      if (this.#isSuccessor(old)) next = WalTail.open(fd, this.#frames)
    } finally {
      // no commit of the old log may be gone on from before the new one is proved to follow, also when this is left
      if (next === undefined) this.forget()
    }
    if (next === undefined) return false
    this.#tail = next
    return true
  }

  /** Ends a copy of all pages: the database has so many. */
  *finishCopy(pages: number): Generator<Entry> {
    yield this.changes.size(pages)
    yield this.commit(this.#placeNow(), true)
  }

  // ---- the log

  /**
   * Takes all that is committed; ends when the log has no more. It is given when somebody waits for it, when it is much,
   * or old; the rest by `give`. With `seen`, within a copy: transactions are not committed
   * one by one, and their pages are noted; returns the newest size of the database in pages.
   */
  *drain(seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    do {
      pages = (yield* this.drainWindows(seen)) ?? pages
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

  /** Begins a newer read transaction, takes all up to its snapshot, and ends the older one. */
  *rotate(seen?: PageSet): Generator<Entry, number | undefined> {
    if (!this.#live.overlaps) this.#live.beginRead()
    return yield* this.drain(seen)
  }

  /** What is committed now, of the log that the tail reads; `drain` proves what comes after it. */
  *drainWindows(seen?: PageSet): Generator<Entry, number | undefined> {
    let pages: number | undefined
    const tail = this.#tail
    this.#complete = tail === undefined
    if (tail === undefined) return undefined
    const index = this.#look(tail)
    const isCurrent = index !== undefined && isOf(index, tail)
    const lastFrame = isCurrent ? index.lastFrame : index && tail.lastCommitFrame()
    const frames = isCurrent ? this.#framesOf(tail) : undefined
    for (const window of tail.windows(lastFrame ?? 0, frames)) {
      if (seen === undefined) {
        yield* this.#transaction(window)
        this.#keepPace()
        if (tail.place.frame < (lastFrame ?? 0)) this.#look(tail)
        continue
      }
      for (const page of window.pages.keys()) seen.add(page)
      yield* this.changes.ofPages(window.pages)
      pages = window.commit?.pages ?? pages
      this.#keepPace()
    }
    this.#complete = lastFrame !== undefined && tail.place.frame >= lastFrame
    if (this.#isDue) yield* this.give()
    return pages
  }

  /** How far the log is committed now, which is noted: who waits for what was committed before is answered as soon as it is taken. */
  #look(tail: WalTail): WalIndexHeader | undefined {
    const atMs = this.#options.clock.nowMs()
    const index = this.#live.committed()
    if (index !== undefined && isOf(index, tail)) this.#looks.add(atMs, index.lastFrame)
    return index
  }

  /** What the engine's index has of the log's frames. */
  #framesOf(tail: WalTail): FrameIndex {
    return {
      page: frame => this.#live.pageOfFrame(frame),
      isCurrent: () => {
        const index = this.#live.committed()
        return index !== undefined && isOf(index, tail)
      },
    }
  }

  /**
   * The last committed frame of a log: by its index, or, once the index is that of a newer log, by its chain. Undefined
   * while the index is being written.
   */
  #lastFrame(tail: WalTail): number | undefined {
    const index = this.#live.committed()
    if (index === undefined) return undefined
    return isOf(index, tail) ? index.lastFrame : tail.lastCommitFrame()
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
      yield* this.drainWindows(seen)
      if (!this.#isSuccessor(before)) {
        throw new HotspareError(
          'source-busy',
          `${this.#live.path}-wal was restarted before all of it was read; the database is compared with the copy.`,
        )
      }
    }
    this.#tail = next
    this.#looks.clear()
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
    } else if (this.#settled && tail.bytes - this.#checkpointedBytes >= paceBytes) {
      this.noteCheckpoint()
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
      this.#movesNext && this.uncheckpointedBytes >= checkpointBytesMin && !this.#live.isCheckpointing
    this.#movesNext = false
    if (!begins) {
      this.#live.endOlderReads()
      return
    }
    this.noteCheckpoint()
    this.#checkpointingBytes = this.bytes
    this.#live.beginCheckpoint()
  }

  /** The end of the older of two reads is to begin a checkpoint. */
  checkpointNext(): void {
    this.#movesNext = true
  }

  /** So much of the log is in the database file. */
  noteMoved(bytes: number): void {
    this.#checkpointedBytes = bytes
  }

  /** Until the next drain has ended no read transaction of ours vouches for the log's continuity. */
  unsettle(): void {
    this.#settled = false
  }

  /** Takes note of a checkpoint that has ended in its thread, and gives it, once. */
  noteCheckpoint(): Checkpoint | undefined {
    const ended = this.#live.takeCheckpoint()
    if (ended?.done) this.#checkpointedBytes = this.#checkpointingBytes
    return ended
  }

  /** Within a transaction its pages are given as they come, so that memory is bounded. */
  *#transaction(window: WalWindow): Generator<Entry> {
    const taken = this.#taken as TakenTransactions
    this.#last = undefined
    if (window.commit === undefined) {
      yield* this.give()
      this.#last = undefined
      yield* this.changes.ofPages(window.pages)
      return
    }
    const { pages, place } = window.commit
    taken.add(window.pages, pages, this.#looks.taken(place.frame), this.#options.clock.nowMs())
    if (this.#isDue) yield* this.give()
  }

  get #isDue(): boolean {
    const taken = this.#taken
    if (taken === undefined || taken.isEmpty) return false
    return this.isAwaited() || taken.isDue(this.#options.clock.nowMs())
  }

  /** Gives what was taken, as one transaction. */
  *give(): Generator<Entry> {
    const taken = this.#taken
    if (taken === undefined || taken.isEmpty) return
    const { databasePages, upToMs } = taken
    yield* this.changes.ofPages(taken.pages())
    taken.clear()
    // not what the last commit said: a transaction may have given pages that it then gave up
    if (databasePages !== this.#digests.pages) yield this.changes.size(databasePages)
    yield { ...this.commit(this.#placeNow(), true), ...(upToMs === undefined ? {} : { upToMs }) }
  }

  /** Ends what was given since the last one. From one that is not consistent nobody goes on without a comparison. */
  commit(place: SqlitePosition, consistent: boolean): Commit {
    const position = encodePosition(place)
    this.#last = consistent ? position : undefined
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
}

/** The index is that of the log that the tail reads. */
function isOf({ salt1, salt2 }: { salt1: number; salt2: number }, { header }: WalTail): boolean {
  return header.salt1 === salt1 && header.salt2 === salt2
}
