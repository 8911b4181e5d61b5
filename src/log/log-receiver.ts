/**
 * Takes transactions of another log, piece by piece, into this one, each piece checked first (receiver.ts).
 *
 * Invariant: a transaction whose end has not come and fitted is in the log for nobody; `forget` takes it back. Whoever
 * calls holds the turn to append.
 */
import { HotspareError } from '../os/errors.ts'
import type { LogPiece } from '../stream/log-piece.ts'
import { ReceivedTransaction } from './receiver.ts'
import type { StateKeeper } from './state-keeper.ts'
import type { TransactionAppender } from './transaction-appender.ts'

export class LogReceiver {
  readonly #appender: TransactionAppender
  readonly #state: StateKeeper
  #received: ReceivedTransaction | undefined

  constructor(appender: TransactionAppender, state: StateKeeper) {
    this.#appender = appender
    this.#state = state
  }

  /** A transaction has begun, and not ended. */
  get isInside(): boolean {
    return this.#received !== undefined
  }

  /** Throws what `take` would, as far as that can be told while others append. */
  expect(piece: LogPiece): void {
    if (piece.type === 'begin' && !this.isInside) this.#begun(piece)
  }

  async take(piece: LogPiece): Promise<void> {
    if (piece.type === 'begin') {
      if (this.#received !== undefined)
        throw new HotspareError('log-gap', `A transaction begins within ${this.#received.begin.number}.`)
      const received = this.#begun(piece)
      await this.#appender.rollIfLarge()
      this.#appender.begin(piece.epoch, piece.store)
      this.#received = received
      return
    }
    const received = this.#received
    if (received === undefined)
      throw new HotspareError('log-gap', 'A piece came that belongs to no transaction.')
    if (piece.type === 'entries') {
      received.entries(piece.data)
      return this.#appender.add(piece.data)
    }
    const commit = received.end(piece, this.#appender.chain)
    this.#state.hasEpoch(received.begin.epoch)
    this.#appender.end(received.begin.store, piece.chain, commit, received.entryBytes)
    this.#received = undefined
  }

  #begun(piece: Extract<LogPiece, { type: 'begin' }>): ReceivedTransaction {
    return new ReceivedTransaction(piece, this.#appender.next, this.#state.epoch)
  }

  /** What has come of a transaction is void. */
  async forget(): Promise<void> {
    if (this.#received === undefined) return
    this.#received = undefined
    await this.#appender.cutBack()
  }
}
