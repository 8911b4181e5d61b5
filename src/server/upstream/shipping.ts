/**
 * Sends the log to one downstream from a number on, and takes what it acknowledges.
 *
 * Only what is durable here is sent. What is small goes at once when nothing else is there; a backlog goes in batches, of
 * which one is read while the one before is sent.
 */

import type { Channel } from '../../link/session.ts'
import type { Log } from '../../log/log.ts'
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import { Wake } from './wake.ts'

const batchBytesMax = 256 * 1024
const batchPiecesMax = 4096
/** A piece without its data. */
const pieceBytes = 64
const markMs = 1000
const sentMax = 1024

/** All up to `number` was in the log at `timeMs`, by the primary's clock. */
export interface Mark {
  readonly number: number
  readonly timeMs: number
}

export interface ShippingOptions {
  readonly log: Log
  readonly clock: Clock
  readonly channel: Channel
  readonly peer: string
  readonly next: number
  /** What is true of the primary: of its own log at this moment, or what a standby has heard. */
  mark(): Mark | undefined
  /** The mark of a standby has moved. */
  onMark(listener: () => void): () => void
  onShipped(transactions: number): void
  onAcknowledged(): void
}

export class Shipping {
  readonly #options: ShippingOptions
  /** The number that is sent next. */
  #next: number
  #caughtUp = false
  #received: number | undefined
  #applied: number | undefined
  #markedMs = Number.NEGATIVE_INFINITY
  #marked = 0
  /** The last of what was sent at once, and the time of its first commit; oldest first. */
  #sent: { readonly number: number; readonly timeMs: number }[] = []

  constructor(options: ShippingOptions) {
    this.#options = options
    this.#next = options.next
  }

  get caughtUp(): boolean {
    return this.#caughtUp && this.#next > this.#options.log.durable
  }

  get received(): number | undefined {
    return this.#received
  }

  get applied(): number | undefined {
    return this.#applied
  }

  get lagTransactions(): number | undefined {
    if (this.#received === undefined) return undefined
    return Math.max(0, this.#options.log.durable - this.#received)
  }

  get lagMs(): number | undefined {
    const behind = this.lagTransactions
    if (behind === undefined) return undefined
    if (behind === 0) return 0
    const [oldest] = this.#sent
    return oldest === undefined ? undefined : Math.max(0, this.#options.clock.nowMs() - oldest.timeMs)
  }

  /** Until the signal aborts; rejects when the session or the log is over. */
  async run(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const either = AbortSignal.any([signal, over.signal])
    const work = [this.#ship(either), this.#listen()]
    try {
      await Promise.race(work)
    } finally {
      over.abort()
      this.#options.channel.close()
      await Promise.allSettled([work[0]])
      work[1]?.catch(() => undefined)
    }
  }

  async #ship(signal: AbortSignal): Promise<void> {
    const { log, channel } = this.#options
    const woken = new Wake()
    const unlisten = this.#options.onMark(() => woken.tell())
    try {
      while (!signal.aborted) {
        await this.#sendBacklog(signal)
        if (signal.aborted) return
        this.#caughtUp = true
        if (this.#markIsDue()) await this.#sendMark(channel)
        const moved = new AbortController()
        const either = AbortSignal.any([signal, moved.signal])
        try {
          await Promise.race([log.wait(this.#next - 1, either), this.#markTime(either, woken)])
        } finally {
          moved.abort()
        }
      }
    } finally {
      unlisten()
    }
  }

  async #sendBacklog(signal: AbortSignal): Promise<void> {
    const { log, channel } = this.#options
    let batch: LogPiece[] = []
    let bytes = 0
    let sending: Promise<void> | undefined
    const send = async () => {
      const pieces = batch
      batch = []
      bytes = 0
      await sending
      this.#note(pieces)
      sending = channel.send({ type: 'log', pieces })
      // it is waited for before the next one, or at the end
      sending.catch(() => undefined)
    }
    for await (const piece of log.read(this.#next, signal)) {
      batch.push(piece)
      bytes += pieceBytes + (piece.type === 'entries' ? piece.data.length : 0)
      if (piece.type === 'end') this.#next = piece.number + 1
      if (bytes >= batchBytesMax || batch.length >= batchPiecesMax) await send()
    }
    if (batch.length > 0) await send()
    await sending
  }

  #note(pieces: readonly LogPiece[]): void {
    const ends = pieces.filter(piece => piece.type === 'end')
    const [first, last] = [ends[0], ends.at(-1)]
    if (first === undefined || last === undefined) return
    this.#options.onShipped(ends.length)
    // bounded: of many that are not acknowledged the oldest say how far behind it is
    if (this.#sent.length === sentMax)
      this.#sent[sentMax - 1] = { ...this.#sent.at(-1)!, number: last.number }
    else this.#sent.push({ number: last.number, timeMs: first.timeMs })
  }

  /** A mark is of use when it says more than the last one. */
  #freshMark(): Mark | undefined {
    const mark = this.#options.mark()
    if (mark === undefined || mark.number >= this.#next) return undefined
    return mark.number > this.#marked ? mark : undefined
  }

  #markIsDue(): boolean {
    return this.#freshMark() !== undefined && this.#options.clock.nowMs() - this.#markedMs >= markMs
  }

  async #sendMark(channel: Channel): Promise<void> {
    const mark = this.#freshMark()
    if (mark === undefined) return
    this.#marked = mark.number
    this.#markedMs = this.#options.clock.nowMs()
    await channel.send({ type: 'mark', number: mark.number, timeMs: mark.timeMs })
  }

  /** Resolves when a mark may be due that was not before. */
  async #markTime(signal: AbortSignal, woken: Wake): Promise<void> {
    const { clock } = this.#options
    while (this.#freshMark() === undefined) {
      if (signal.aborted) return
      await woken.next(signal)
    }
    await clock.sleep(Math.max(0, this.#markedMs + markMs - clock.nowMs()), signal)
  }

  async #listen(): Promise<void> {
    const { log, channel, peer, onAcknowledged } = this.#options
    for await (const message of channel.messages()) {
      if (message.type !== 'acknowledge')
        throw new HotspareError('entry-invalid', `'${peer}' sent '${message.type}' where it acknowledges.`)
      const { received, applied, released } = message
      this.#received = received
      this.#applied = applied
      while (this.#sent[0] !== undefined && this.#sent[0].number <= received) this.#sent.shift()
      log.acknowledge(peer, released)
      onAcknowledged()
    }
    throw new HotspareError('link-broken', `'${peer}' takes no log any more.`)
  }
}
