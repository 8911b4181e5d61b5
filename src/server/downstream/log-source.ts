/**
 * A log's transactions of one store as a source for a pump into its copy. Each commit carries its number
 * (stream/numbered-position.ts), so that the copy keeps it with the data.
 *
 * What cannot be decoded is the transaction's fault, and named; what cannot be read is the log's (`LogUnreadable`).
 */
import { HotspareError } from '../../os/errors.ts'
import { decodeEntry } from '../../stream/codec.ts'
import type { Commit, Entry, Position, StoreName } from '../../stream/entry.ts'
import type { Epoch } from '../../stream/epoch.ts'
import { readFrame } from '../../stream/frame.ts'
import { numberedPosition, parseNumberedPosition } from '../../stream/numbered-position.ts'
import type { ReadOptions, Source } from '../../stream/source.ts'
import type { LogCursor, LogReading } from './log-reading.ts'

/**
 * A copy that has taken everything rests, for so many times as long as that took: what is acknowledged is the log, and
 * each group of a copy costs syncs that the log waits for. So at full load groups are larger, and fewer.
 */
const restShare = 3
export const restMsMax = 50

export interface LogSourceOptions {
  readonly store: StoreName
  readonly reading: LogReading
  /** Transactions after this number; the log may not have come so far. */
  readonly after: number
  /** What comes after this number goes on from another state than the copy's, and is not read. Asked before each. */
  until(): number | undefined
  /** Whether reading ends after this commit. Asked after each. */
  restsAt(commit: Commit): boolean
}

export class LogSource implements Source {
  readonly #options: LogSourceOptions
  readonly #cursor: LogCursor
  #current: { readonly number: number; readonly epoch: Epoch } | undefined
  #commit: Commit | undefined
  /** The transaction whose pieces come is of the store, and is wanted. */
  #mine = false
  #waiting = false

  /** When it was last read from where it had waited. */
  #beganMs: number

  constructor(options: LogSourceOptions) {
    this.#options = options
    this.#beganMs = options.reading.clock.nowMs()
    const { reading, after } = options
    this.#cursor = reading.cursor(Math.min(after, reading.log.durable) + 1)
  }

  /** All of the store up to this number was given. */
  get through(): number {
    return Math.max(this.#cursor.next - 1, this.#options.after)
  }

  get #isAtEnd(): boolean {
    const until = this.#options.until()
    return until !== undefined && this.#cursor.next > until
  }

  /** All that there was is durable in the copy, and there is no more. */
  get waiting(): boolean {
    return this.#waiting
  }

  /** The transaction of the store whose entries were given last. */
  get number(): number | undefined {
    return this.#current?.number
  }

  async *read(from: Position | undefined, { signal }: ReadOptions): AsyncIterable<Entry> {
    this.#assertFollows(from)
    while (!signal.aborted) {
      if (!this.#mine && this.#isAtEnd) return
      const piece = await this.#cursor.piece()
      if (piece === undefined) return
      switch (piece.type) {
        case 'begin':
          this.#commit = undefined
          this.#mine = piece.store === this.#options.store && piece.number > this.#options.after
          if (this.#mine) this.#current = piece
          break
        case 'entries':
          if (this.#mine) yield* this.#decoded(piece.data)
          break
        case 'end': {
          if (!this.#mine) break
          this.#mine = false
          const commit = this.#numbered()
          yield commit
          if (this.#options.restsAt(commit)) return
        }
      }
    }
  }

  async wait(signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#options.reading
    const caughtUpMs = clock.nowMs()
    const restMs = Math.min(restMsMax, restShare * (caughtUpMs - this.#beganMs))
    this.#waiting = true
    // whoever reads to the end is stopped there
    const after = this.#isAtEnd ? Number.MAX_SAFE_INTEGER : this.#cursor.next - 1
    await log.wait(after, signal)
    this.#waiting = false
    const leftMs = caughtUpMs + restMs - clock.nowMs()
    if (leftMs > 0) await clock.sleep(leftMs, signal)
    this.#beganMs = clock.nowMs()
  }

  /** What the log keeps for the copies is said of all of them together. */
  async acknowledge(): Promise<void> {}

  close(): Promise<void> {
    return this.#cursor.close()
  }

  *#decoded(data: Buffer): Iterable<Entry> {
    for (let offset = 0; offset < data.length; ) {
      const frame = readFrame(data, offset)
      if (frame.kind !== 'frame') throw this.#invalid('an entry is not whole')
      offset = frame.end
      const entry = decodeEntry(frame.payload)
      if (entry.store !== this.#options.store)
        throw this.#invalid(`it has an entry of store '${entry.store}'`)
      if (this.#commit !== undefined) throw this.#invalid('it goes on after its commit')
      if (entry.type === 'commit') this.#commit = entry
      else yield entry
    }
  }

  #numbered(): Commit {
    const commit = this.#commit
    const current = this.#current
    this.#commit = undefined
    if (commit === undefined || current === undefined) throw this.#invalid('it has no commit')
    const { number, epoch } = current
    return {
      ...commit,
      position: numberedPosition({ number, epoch: epoch.number, position: commit.position }),
    }
  }

  /** The cursor goes on where it stands, so that has to be where the copy stands. */
  #assertFollows(from: Position | undefined): void {
    const number = from === undefined ? undefined : parseNumberedPosition(from)?.number
    const given = this.#current?.number
    if (given === undefined || given === number) return
    throw new HotspareError(
      'diverged',
      `The copy of ${this.#options.store} stands at transaction ${number}, and was given all up to ${given}.`,
    )
  }

  #invalid(what: string): HotspareError {
    return new HotspareError(
      'entry-invalid',
      `Transaction ${this.#current?.number} of store '${this.#options.store}' is malformed: ${what}.`,
    )
  }
}
