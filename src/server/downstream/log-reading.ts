/**
 * One reading of a log for several readers: what was read last is kept for those that come a little later. Who has fallen
 * behind what is kept reads the log by itself, until it meets the others again. So a slow store, or one that is tried
 * again, holds up nobody, and what is held in memory is bounded.
 *
 * A reader asks for each piece, and the log is read only when somebody asks: that is the backpressure.
 */
import type { Log } from '../../log/log.ts'
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import type { LogPiece } from '../../stream/log-piece.ts'

const keptBytesDefault = 8 * 1024 * 1024
/** A piece that carries no data costs some memory, too. */
const pieceOverheadBytes = 256

/** The log could not be read; what it says of a store says nothing of its copy. */
export class LogUnreadable extends Error {
  override readonly name = 'LogUnreadable'

  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
  }

  get code(): string | undefined {
    return this.cause instanceof HotspareError ? this.cause.code : undefined
  }
}

export class LogReading {
  readonly log: Log
  readonly clock: Clock
  readonly #keptBytes: number
  readonly #ended = new AbortController()
  /** The newest pieces that were read; `#start` is the place of the first of them among all pieces ever read. */
  #kept: LogPiece[] = []
  #start = 0
  #bytes = 0
  /** The transaction that the next piece belongs to. */
  #next: number
  #inside = false
  readonly #readers = new Set<LogCursor>()
  #reading: AsyncIterator<LogPiece> | undefined
  #pulling: Promise<boolean> | undefined

  constructor(log: Log, clock: Clock, keptBytes = keptBytesDefault) {
    this.log = log
    this.clock = clock
    this.#keptBytes = keptBytes
    this.#next = log.durable + 1
  }

  /** Reads transactions from this number on, which is at most one beyond the last durable one. */
  cursor(from: number): LogCursor {
    return new LogCursor(this, from)
  }

  /** The place of the first piece of a transaction, if it is kept or is the next to be read; the cursor has joined then. */
  join(cursor: LogCursor, number: number): number | undefined {
    // while nobody reads there is nobody to meet
    if (this.#readers.size === 0 && this.#pulling === undefined) this.#beginAt(number)
    const index = this.#kept.findIndex(piece => piece.type === 'begin' && piece.number === number)
    if (index < 0 && (number !== this.#next || this.#inside)) return undefined
    this.#readers.add(cursor)
    return this.#start + (index < 0 ? this.#kept.length : index)
  }

  leave(cursor: LogCursor): void {
    this.#readers.delete(cursor)
  }

  #beginAt(number: number): void {
    if (number === this.#next && !this.#inside) return
    const reading = this.#reading
    this.#reading = undefined
    void reading?.return?.().catch(() => undefined)
    this.#start += this.#kept.length
    this.#kept = []
    this.#bytes = 0
    this.#inside = false
    this.#next = number
  }

  /** Before this place nothing is kept. */
  get start(): number {
    return this.#start
  }

  /** Undefined at the end of what is durable. */
  async at(place: number): Promise<LogPiece | undefined> {
    while (place >= this.#start + this.#kept.length) {
      this.#pulling ??= this.#pull().finally(() => {
        this.#pulling = undefined
      })
      if (!(await this.#pulling)) return undefined
    }
    return this.#kept[place - this.#start]
  }

  async #pull(): Promise<boolean> {
    try {
      if (this.#reading === undefined) {
        if (this.log.durable < this.#next) return false
        this.#reading = this.log.read(this.#next, this.#ended.signal)[Symbol.asyncIterator]()
      }
      const result = await this.#reading.next()
      if (result.done === true) {
        this.#reading = undefined
        return this.log.durable >= this.#next && !this.#ended.signal.aborted
      }
      this.#keep(result.value)
      return true
    } catch (error) {
      this.#reading = undefined
      throw new LogUnreadable(error)
    }
  }

  #keep(piece: LogPiece): void {
    this.#inside = piece.type !== 'end'
    if (piece.type === 'end') this.#next = piece.number + 1
    this.#kept.push(piece)
    this.#bytes += costOf(piece)
    while (this.#bytes > this.#keptBytes && this.#kept.length > 1) {
      this.#bytes -= costOf(this.#kept.shift() as LogPiece)
      this.#start++
    }
  }

  async close(): Promise<void> {
    this.#ended.abort()
    await this.#pulling?.catch(() => false)
    await this.#reading?.return?.()
  }
}

function costOf(piece: LogPiece): number {
  return pieceOverheadBytes + (piece.type === 'entries' ? piece.data.length : 0)
}

/** One reader's place. After a rejection it is of no more use. */
export class LogCursor {
  readonly #reading: LogReading
  /** Among the pieces of the shared reading. */
  #place: number | undefined
  #own: AsyncIterator<LogPiece> | undefined
  readonly #ended = new AbortController()
  /** The transaction that the next piece begins or belongs to. */
  #next: number
  /** What was given of that one already. */
  #given: { readonly begun: boolean; readonly bytes: number } = { begun: false, bytes: 0 }
  /** What of it was given before this reader fell behind. */
  #again: { readonly begun: boolean; readonly bytes: number } | undefined

  constructor(reading: LogReading, from: number) {
    this.#reading = reading
    this.#next = from
  }

  /** All transactions before this one were given whole. */
  get next(): number {
    return this.#next
  }

  /** Undefined at the end of what is durable. */
  async piece(): Promise<LogPiece | undefined> {
    for (;;) {
      const piece = await this.#read()
      const fresh = piece === undefined ? undefined : this.#note(piece)
      if (piece === undefined || fresh !== undefined) return fresh
    }
  }

  async close(): Promise<void> {
    this.#ended.abort()
    this.#reading.leave(this)
    const own = this.#own
    this.#own = undefined
    await own?.return?.()
  }

  async #read(): Promise<LogPiece | undefined> {
    if (this.#place !== undefined && this.#place < this.#reading.start) {
      this.#place = undefined
      this.#reading.leave(this)
      // what was given of this transaction is read once more, and left out
      this.#again = this.#given.begun ? this.#given : undefined
      this.#given = { begun: false, bytes: 0 }
    }
    if (this.#place === undefined && !this.#given.begun && this.#again === undefined) await this.#meet()
    if (this.#place !== undefined) {
      const piece = await this.#reading.at(this.#place)
      if (piece !== undefined) this.#place++
      return piece
    }
    return this.#readOwn()
  }

  /** Between two transactions, the shared reading is joined when it still has what comes next. */
  async #meet(): Promise<void> {
    this.#place = this.#reading.join(this, this.#next)
    if (this.#place === undefined) return
    const own = this.#own
    this.#own = undefined
    await own?.return?.()
  }

  async #readOwn(): Promise<LogPiece | undefined> {
    const { log } = this.#reading
    try {
      if (this.#own === undefined) {
        if (log.durable < this.#next) return undefined
        this.#own = log.read(this.#next, this.#ended.signal)[Symbol.asyncIterator]()
      }
      const result = await this.#own.next()
      if (result.done !== true) return result.value
      this.#own = undefined
      return undefined
    } catch (error) {
      throw new LogUnreadable(error)
    }
  }

  /** Undefined for what was given already. */
  #note(piece: LogPiece): LogPiece | undefined {
    if (piece.type === 'end') {
      this.#next = piece.number + 1
      this.#given = { begun: false, bytes: 0 }
      this.#again = undefined
      return piece
    }
    if (piece.type === 'begin') {
      this.#given = { begun: true, bytes: 0 }
      return this.#again?.begun ? undefined : piece
    }
    const before = this.#given.bytes
    this.#given = { begun: true, bytes: before + piece.data.length }
    const skip = Math.max(0, (this.#again?.bytes ?? 0) - before)
    if (skip === 0) return piece
    return skip >= piece.data.length ? undefined : { type: 'entries', data: piece.data.subarray(skip) }
  }
}
