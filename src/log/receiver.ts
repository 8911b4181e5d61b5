/**
 * Checks the pieces of another log before they are believed: each follows on the one before it, frames are whole, all
 * entries are of the transaction's store, the last is its commit, and the chain comes out the same.
 */
import { HotspareError } from '../os/errors.ts'
import { decodeEntry, entryTypeByteMax } from '../stream/codec.ts'
import type { Commit } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { frameHeaderBytes, readFrame } from '../stream/frame.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import { chainOf, foldFrame } from './log-chain.ts'
import { epochByBytesMax } from './log-record.ts'

type Begin = Extract<LogPiece, { type: 'begin' }>
type End = Extract<LogPiece, { type: 'end' }>

/** A transaction that is being received. */
export class ReceivedTransaction {
  readonly begin: Begin
  entryBytes = 0
  #content = 0n
  #commit: Commit | undefined
  /** What each entry's payload has behind its type. */
  readonly #store: Buffer

  /** `number` is the next one, `epoch` that of the log. */
  constructor(begin: Begin, number: number, epoch: Epoch) {
    if (begin.number !== number) {
      throw new HotspareError(
        'log-gap',
        `Transaction ${begin.number} came, where ${number} is the next of the log.`,
        { details: { expected: number, found: begin.number } },
      )
    }
    if (compareEpochs(begin.epoch, epoch) < 0) {
      throw new HotspareError(
        'epoch-old',
        `Transaction ${number} is of epoch ${epochText(begin.epoch)}, and the log is at ${epochText(epoch)} already.`,
        { details: { number, epoch: begin.epoch, newer: epoch } },
      )
    }
    if (Buffer.byteLength(begin.epoch.by) > epochByBytesMax)
      throw new HotspareError('entry-invalid', `The epoch of transaction ${number} has too long a name.`)
    this.begin = begin
    this.#store = Buffer.from(`${String.fromCharCode(begin.store.length)}${begin.store}`, 'latin1')
  }

  entries(data: Buffer): void {
    for (let at = 0; at < data.length; ) {
      const frame = readFrame(data, at)
      if (frame.kind !== 'frame')
        throw this.#invalid(frame.kind === 'end' ? 'a frame is cut' : `a frame is damaged: ${frame.what}`)
      if (this.#commit !== undefined) throw this.#invalid('an entry follows the commit')
      const { payload } = frame
      if ((payload[0] as number) > entryTypeByteMax || !this.#isOfStore(payload))
        throw this.#invalid(`an entry is not of store '${this.begin.store}'`)
      if (((payload[0] as number) & 15) === 0) this.#commit = this.#decode(payload)
      this.#content = foldFrame(this.#content, data.subarray(at, at + frameHeaderBytes))
      at = frame.end
    }
    this.entryBytes += data.length
  }

  /** The commit; `before` is the chain of the log. */
  end(end: End, before: Chain): Commit {
    const commit = this.#commit
    const fits =
      commit !== undefined &&
      end.number === this.begin.number &&
      end.position === commit.position &&
      end.timeMs === commit.timeMs &&
      end.consistent === commit.consistent
    if (!fits) throw this.#invalid('its end does not fit its commit')
    const { number, epoch, store } = this.begin
    const chain = chainOf(before, { number, epoch, store, content: this.#content })
    if (chain !== end.chain) {
      throw new HotspareError(
        'digest-mismatch',
        `The chain after transaction ${number} should be ${end.chain} and is ${chain}: the two logs are not the same.`,
        { details: { number, expected: end.chain, found: chain } },
      )
    }
    return commit
  }

  #isOfStore(payload: Buffer): boolean {
    return (
      payload.length > this.#store.length &&
      payload.compare(this.#store, 0, this.#store.length, 1, 1 + this.#store.length) === 0
    )
  }

  #decode(payload: Buffer): Commit {
    const entry = decodeEntry(payload)
    if (entry.type !== 'commit') throw this.#invalid('an entry is not what it seems')
    return entry
  }

  #invalid(what: string): HotspareError {
    return new HotspareError('entry-invalid', `Transaction ${this.begin.number} is malformed: ${what}.`, {
      details: { number: this.begin.number },
    })
  }
}
