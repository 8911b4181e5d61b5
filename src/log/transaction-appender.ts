/**
 * Puts transactions behind one another: gives each its number and its chain, and begins a new segment when the newest is
 * large.
 *
 * Invariant: numbers have no gaps, and a transaction counts from its `end` on, as a whole; between `begin` and `end`
 * nothing else is appended, and what fails there is taken back (`cutBack`). Whoever calls holds the turn to append.
 * Nothing here waits for room.
 */
import { assert } from '../os/errors.ts'
import type { Random } from '../os/random.ts'
import type { Commit, StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { StoreMark } from './log.ts'
import { chainOf } from './log-chain.ts'
import { encodeRecord, saltBytes } from './log-record.ts'
import { segmentName } from './segment.ts'
import type { SegmentList } from './segment-list.ts'
import type { SegmentWriter } from './segment-writer.ts'
import type { StateKeeper } from './state-keeper.ts'
import type { TransactionSpool } from './transaction-spool.ts'

/** Bytes are given to the writer in pieces of at most so many, so that none has to be written at once. */
const pieceBytes = 1024 * 1024

export interface AppenderOptions {
  readonly directory: string
  readonly random: Random
  /** A segment that is so large is followed by another one. */
  segmentBytes(): number
  /** A new segment was begun. */
  rolled(): void
}

export class TransactionAppender {
  /** Of each store, the last transaction that the log has had. */
  readonly marks: Map<StoreName, StoreMark>
  readonly #options: AppenderOptions
  readonly #segments: SegmentList
  readonly #writer: SegmentWriter
  readonly #state: StateKeeper
  #lastEpoch: Epoch

  constructor(
    options: AppenderOptions,
    parts: {
      readonly segments: SegmentList
      readonly writer: SegmentWriter
      readonly state: StateKeeper
    },
    last: { readonly marks: Map<StoreName, StoreMark>; readonly lastEpoch: Epoch },
  ) {
    this.#options = options
    this.#segments = parts.segments
    this.#writer = parts.writer
    this.#state = parts.state
    this.marks = last.marks
    this.#lastEpoch = last.lastEpoch
  }

  /** The number that the next transaction gets. */
  get next(): number {
    return this.#writer.segment.last + 1
  }

  /** Of all transactions. */
  get chain(): Chain {
    return this.#writer.segment.chain
  }

  /** Of the last transaction. */
  get lastEpoch(): Epoch {
    return this.#lastEpoch
  }

  /** A transaction has begun, and not ended. */
  get isInside(): boolean {
    return this.#writer.end !== this.#writer.segment.end
  }

  /** Whether `appendAtOnce` takes this one. */
  takesAtOnce(spool: TransactionSpool): boolean {
    return spool.memory !== undefined && !this.#isLarge && !this.#writer.mustFlush
  }

  appendAtOnce(store: StoreName, spool: TransactionSpool, commit: Commit): void {
    const { memory, content, bytes } = spool
    assert(memory !== undefined, 'a transaction that stands in a file is appended at once')
    this.begin(this.#state.epoch, store)
    for (const frame of memory) this.#writer.append(frame)
    this.#endOwn(store, content, commit, bytes)
  }

  async append(store: StoreName, spool: TransactionSpool, commit: Commit): Promise<void> {
    await this.rollIfLarge()
    await this.#flushIfFull()
    if (spool.memory !== undefined) return this.appendAtOnce(store, spool, commit)
    this.begin(this.#state.epoch, store)
    try {
      for await (const piece of spool.read()) {
        this.#writer.append(piece)
        await this.#flushIfFull()
      }
    } catch (error) {
      await this.cutBack()
      throw error
    }
    this.#endOwn(store, spool.content, commit, spool.bytes)
  }

  #endOwn(store: StoreName, content: bigint, commit: Commit, entryBytes: number): void {
    const { epoch } = this.#state
    const chain = chainOf(this.chain, { number: this.next, epoch, store, content })
    this.end(store, chain, commit, entryBytes)
  }

  /** The next transaction begins. */
  begin(epoch: Epoch, store: StoreName): void {
    assert(!this.isInside, 'a transaction begins within another')
    const { durableEnd, start } = this.#writer.segment
    const { salt } = start
    this.#writer.append(encodeRecord({ type: 'begin', number: this.next, epoch, store, salt, durableEnd }))
  }

  /** Entries of the transaction that has begun, as whole frames. */
  async add(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length; at += pieceBytes)
      this.#writer.append(data.subarray(at, at + pieceBytes))
    await this.#flushIfFull()
  }

  /** The transaction that has begun is whole; it is of the log's epoch. */
  end(store: StoreName, chain: Chain, commit: Commit, entryBytes: number): void {
    const number = this.next
    const { position, timeMs, consistent } = commit
    this.#writer.append(
      encodeRecord({ type: 'end', number, chain, position, timeMs, consistent, entryBytes }),
    )
    this.#writer.finish(number, chain, timeMs)
    this.marks.set(store, { number, position, timeMs, consistent })
    this.#lastEpoch = this.#state.epoch
  }

  /** Takes back what has begun, and not ended. */
  cutBack(): Promise<void> {
    return this.#writer.cutBack()
  }

  async rollIfLarge(): Promise<void> {
    if (this.#isLarge) await this.roll()
  }

  /** Begins a new segment. */
  async roll(): Promise<void> {
    const { stream, generation, epoch } = this.#state
    const salt = this.#options.random.bytes(saltBytes)
    const segment = await this.#writer.roll(
      `${this.#options.directory}/${segmentName(this.next)}`,
      ({ last, chain }) => ({
        stream,
        generation,
        salt,
        first: last + 1,
        chainBefore: chain,
        epochBefore: epoch,
      }),
      this.marks,
    )
    this.#segments.push(segment)
    this.#options.rolled()
  }

  get #isLarge(): boolean {
    const { segment } = this.#writer
    return !segment.isEmpty && segment.end >= this.#options.segmentBytes()
  }

  async #flushIfFull(): Promise<void> {
    if (this.#writer.mustFlush) await this.#writer.flush()
  }
}
