/**
 * Lets transactions into a log: one after another, each when there is room for it.
 *
 * Invariant: who waits for room holds up those that come in behind it, and nobody else: subscribing and acknowledging go
 * on, else the one that it waits for could not come back. Who is let go while it waits has left nothing in the log.
 */
import { assert, HotspareError } from '../os/errors.ts'
import type { Commit, StoreName } from '../stream/entry.ts'
import type { LogPiece } from '../stream/log-piece.ts'
import type { LogReceiver } from './log-receiver.ts'
import type { LogSpace } from './log-space.ts'
import type { TransactionAppender } from './transaction-appender.ts'
import type { TransactionSpool } from './transaction-spool.ts'
import { Turns } from './turns.ts'

export interface IntakeParts {
  readonly appender: TransactionAppender
  readonly receiver: LogReceiver
  readonly space: LogSpace
  /** Who appends holds it, and who needs the log's end to stand still. */
  readonly appending: Turns
  /** Throws when the log takes no more work. */
  check(): void
}

export class LogIntake {
  readonly #parts: IntakeParts
  readonly #incoming = new Turns()
  /** Aborted when others need who waits for room to let go. */
  #waiting = new AbortController()
  /** Aborted when what is received is given up. */
  #receiving = new AbortController()

  constructor(parts: IntakeParts) {
    this.#parts = parts
  }

  /** A whole transaction. Resolves at once where nothing has to be waited for; see `Log.sink` for the signal. */
  append(
    store: StoreName,
    spool: TransactionSpool,
    commit: Commit,
    signal: AbortSignal | undefined,
  ): Promise<void> | undefined {
    const { appender, receiver, space, appending } = this.#parts
    this.#parts.check()
    const isFree = this.#incoming.isFree && appending.isFree
    if (isFree && appender.takesAtOnce(spool) && space.fits(spool.bytes)) {
      appender.appendAtOnce(store, spool, commit)
      return undefined
    }
    return this.#incoming.run(async () => {
      this.#parts.check()
      const waiting = this.#waiting.signal
      await space.room(spool.bytes, signal === undefined ? waiting : AbortSignal.any([waiting, signal]))
      await appending.run(async () => {
        this.#parts.check()
        assert(!receiver.isInside, 'a transaction is appended while another is received')
        await appender.append(store, spool, commit)
      })
    }, signal)
  }

  /** See `Log.receive`. */
  receive(piece: LogPiece): Promise<void> {
    const { receiver, appending } = this.#parts
    return this.#incoming.run(async () => {
      try {
        await this.#roomFor(piece)
        await appending.run(async () => {
          this.#parts.check()
          await receiver.take(piece)
        })
      } catch (error) {
        await appending.run(() => receiver.forget())
        throw error
      }
    })
  }

  async #roomFor(piece: LogPiece): Promise<void> {
    const { receiver, space } = this.#parts
    this.#parts.check()
    if (piece.type === 'end') return
    receiver.expect(piece) // what is refused need not wait
    const bytes = piece.type === 'begin' ? 0 : piece.data.length
    if (space.fits(bytes)) return
    await space.room(bytes, AbortSignal.any([this.#receiving.signal, this.#waiting.signal]))
  }

  /** See `Log.abandon`. */
  async abandon(): Promise<void> {
    // who waits for space holds up what comes behind
    this.#receiving.abort(new HotspareError('log-gap', 'What was received of the transaction was abandoned.'))
    await this.#incoming.run(async () => {
      this.#receiving = new AbortController()
      await this.#parts.appending.run(() => this.#parts.receiver.forget())
    })
  }

  /** Who waits for room, or comes to do so, is told this; until `waitAgain`. */
  letGo(reason: HotspareError): void {
    this.#waiting.abort(reason)
  }

  waitAgain(): void {
    if (this.#waiting.signal.aborted) this.#waiting = new AbortController()
  }
}
