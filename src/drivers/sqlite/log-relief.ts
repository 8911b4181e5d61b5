/**
 * Keeps a live log short: has what was taken of it moved into the database file, and lets it be restarted, near its
 * limit by a pause of the writers.
 *
 * Invariant: after a pause the reader's continuity is proved anew (`WalReader.unsettle`): there was a moment without a
 * read transaction of ours. The worst outcome of a mistake here is what `wal-reader.ts` says.
 */
import type { Clock } from '../../os/clock.ts'
import type { Entry } from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'
import type { LiveDatabase } from './live-database.ts'
import type { PageSet } from './page-changes.ts'
import type { WalReader } from './wal-reader.ts'

/** The log's growth after which what is in it is moved into the database file: half of an application's own habit. */
const checkpointBytes = 2 * 1024 * 1024
/** For so long a moment is looked for in which nobody is inside a transaction: briefly, and near the limit longer. */
const patienceMs = { early: 2, late: 5 }
/** While a checkpoint runs in its thread, whether it has ended is looked at this often. */
const checkpointLookMs = 1
/** And what is committed is taken this often, or as soon as somebody waits for it. */
const drainMs = 8
/** So many checkpoints, each of what was written during the one before, until little is left for a pause. */
const approachesMax = 4
/** When the log was over its limit for so long, it is said. */
const tellAfterMs = 10_000
/** Writers are not held while more than this is read and moved. */
const pauseBytesMax = 1024 * 1024

export interface LogReliefOptions {
  readonly live: LiveDatabase
  readonly clock: Clock
  readonly walBytesMax: number
  readonly onNotice: (notice: Notice) => void
}

export class LogRelief {
  readonly #options: LogReliefOptions
  readonly #live: LiveDatabase
  readonly #reader: WalReader
  #now = false
  #fullSinceMs: number | undefined
  #toldOfLimit = false

  constructor(options: LogReliefOptions, reader: WalReader) {
    this.#options = options
    this.#live = options.live
    this.#reader = reader
  }

  /** The next time moves what is in the log into the file, so that the next writer can restart it. */
  soon(): void {
    this.#now = true
  }

  /**
   * Moves the log's content into the database file when it has grown, and lets the log be restarted: by itself in a
   * pause of the writers, or near its limit by making one.
   */
  async *relieve(seen?: PageSet): AsyncGenerator<Entry, number | undefined> {
    this.#reader.noteCheckpoint()
    const { bytes } = this.#reader
    const limitBytes = this.#options.walBytesMax
    const large = bytes >= limitBytes / 2
    const enough = this.#now
      ? this.#reader.unmoved
      : this.#reader.uncheckpointedBytes >= (large ? checkpointBytes / 2 : checkpointBytes)
    if (!enough) return undefined
    this.#now = false
    if (!large) return yield* this.#moveToFile(seen)
    return yield* this.#moveAndPause(bytes / limitBytes, seen)
  }

  async *#moveToFile(seen?: PageSet): AsyncGenerator<Entry, number | undefined> {
    this.#reader.checkpointNext()
    let pages = yield* this.#reader.rotate(seen)
    // what is taken from here on lies behind our read, and no checkpoint moves it
    const { bytes } = this.#reader
    let drainedMs = this.#options.clock.nowMs()
    while (this.#live.isCheckpointing) {
      await this.#options.clock.sleep(checkpointLookMs)
      const nowMs = this.#options.clock.nowMs()
      if (nowMs - drainedMs < drainMs && !this.#reader.isAwaited()) continue
      drainedMs = nowMs
      pages = (yield* this.#reader.drainWindows(seen)) ?? pages
    }
    let checkpoint = this.#reader.noteCheckpoint()
    // little is not worth a thread
    if (!checkpoint?.done) {
      checkpoint = this.#live.checkpoint()
      if (checkpoint.done) this.#reader.noteMoved(checkpoint.complete ? this.#reader.bytes : bytes)
    }
    if (checkpoint.complete) pages = (yield* this.#reader.rotate(seen)) ?? pages
    return pages
  }

  /** Moves again what was written during the move before, until little is left, and then makes writers pause. */
  async *#moveAndPause(fill: number, seen?: PageSet): AsyncGenerator<Entry, number | undefined> {
    let pages: number | undefined
    for (let approach = 1; approach <= approachesMax; approach++) {
      pages = (yield* this.#moveToFile(seen)) ?? pages
      // restarted already, in a pause of their own
      if (this.#reader.bytes < checkpointBytes) return pages
      if (this.#reader.uncheckpointedBytes <= pauseBytesMax) break
    }
    // where two reads overlap still, not all is known to be taken: at the next look
    if (!this.#live.overlaps) pages = (yield* this.#pause(fill, seen)) ?? pages
    return pages
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
    this.#reader.unsettle()
    const taken: Entry[] = []
    let takenBytes = 0
    let pages: number | undefined
    let ended = false
    const windows = this.#reader.drainWindows(seen)
    const drain = () => {
      while (takenBytes <= pauseBytesMax) {
        const next = windows.next()
        if (next.done) {
          ended = true
          pages = next.value
          return this.#reader.complete
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
    return (yield* this.#reader.drain(seen)) ?? pages
  }
}
