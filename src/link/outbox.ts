/**
 * What a session is about to write: frames in order, small ones together in one write, at a bounded pace, compressed
 * while that pays. Urgent frames (heartbeats, credits) go before those that wait.
 */
import type { Clock } from '../os/clock.ts'
import { giveLarge } from '../os/large-buffers.ts'
import type { ByteStream } from '../os/transport.ts'
import { CompressionChoice, type Compressor } from './compression.ts'
import { TokenBucket } from './token-bucket.ts'
import { encodeWire } from './wire.ts'

/** Beyond it, whoever adds a frame waits. */
const waitingBytesMax = 1024 * 1024
/** Frames are copied together up to this size; a larger one goes by itself, uncopied. */
const batchBytesMax = 256 * 1024
const sliceBytesMin = 4 * 1024
const sliceBytesMax = 2 * 1024 * 1024
/** A write that takes longer is followed by smaller ones, so that a slow link shows that it moves. */
const slowWriteMs = 2000
const quickWriteMs = 200

export interface OutboxOptions {
  readonly clock: Clock
  readonly signal: AbortSignal
  /** 0: no bound. */
  readonly bandwidthBytesPerSecond: number
  readonly compressor: Compressor | undefined
}

export class Outbox {
  readonly #stream: ByteStream
  readonly #clock: Clock
  readonly #signal: AbortSignal
  readonly #bucket: TokenBucket | undefined
  readonly #compressor: Compressor | undefined
  readonly #choice = new CompressionChoice()
  readonly #urgent: Buffer[] = []
  #frames: Buffer[] = []
  #taken = 0
  #waitingBytes = 0
  #sliceBytes = sliceBytesMax
  #wake: (() => void) | undefined
  #room: (() => void)[] = []
  #over: Error | undefined
  #sentBytes = 0
  #writingSinceMs: number | undefined

  constructor(stream: ByteStream, options: OutboxOptions) {
    this.#stream = stream
    this.#clock = options.clock
    this.#signal = options.signal
    this.#compressor = options.compressor
    const { bandwidthBytesPerSecond } = options
    this.#bucket =
      bandwidthBytesPerSecond > 0 ? new TokenBucket(bandwidthBytesPerSecond, options.clock) : undefined
  }

  get sentBytes(): number {
    return this.#sentBytes
  }

  get compressing(): boolean {
    return this.#choice.on
  }

  /** Since when the stream has not taken what was written to it. */
  get writingSinceMs(): number | undefined {
    return this.#writingSinceMs
  }

  /** Ordered; without waiting for room: for what is small and bounded. */
  post(frame: Buffer): void {
    this.#frames.push(frame)
    this.#waitingBytes += frame.length
    this.#wakeWriter()
  }

  postUrgent(frame: Buffer): void {
    this.#urgent.push(frame)
    this.#wakeWriter()
  }

  /** Resolves when there is room for more; rejects when the session is over. */
  async write(frame: Buffer): Promise<void> {
    if (this.#over !== undefined) throw this.#over
    this.post(frame)
    while (this.#waitingBytes > waitingBytesMax) await this.#change()
  }

  /** Resolves when all that was added is written. */
  async drain(): Promise<void> {
    while (this.#waitingBytes > 0 || this.#urgent.length > 0 || this.#writingSinceMs !== undefined)
      await this.#change()
  }

  async #change(): Promise<void> {
    if (this.#over === undefined) {
      await new Promise<void>(resolve => {
        this.#room.push(resolve)
      })
    }
    if (this.#over !== undefined) throw this.#over
  }

  /** Those who wait are rejected; nothing more is written. */
  end(error: Error): void {
    this.#over ??= error
    this.#frames = []
    this.#taken = 0
    this.#wakeWriter()
    this.#wakeWaiting()
  }

  /** Writes until the session is over. Rejects with what broke the stream. */
  async run(): Promise<void> {
    while (this.#over === undefined) {
      const batch = this.#takeBatch()
      if (batch === undefined) {
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
        continue
      }
      const waited = batch.bytes.length
      this.#writingSinceMs = this.#clock.nowMs()
      await this.#writeBatch(batch.bytes)
      this.#writingSinceMs = undefined
      if (!batch.urgent) this.#waitingBytes -= waited
      this.#wakeWaiting()
    }
  }

  #takeBatch(): { bytes: Buffer; urgent: boolean } | undefined {
    if (this.#urgent.length > 0) return { bytes: Buffer.concat(this.#urgent.splice(0)), urgent: true }
    const first = this.#frames[this.#taken]
    if (first === undefined) return undefined
    let bytes = first.length
    let end = this.#taken + 1
    for (; end < this.#frames.length; end++) {
      const more = (this.#frames[end] as Buffer).length
      if (bytes + more > batchBytesMax) break
      bytes += more
    }
    const batch = end === this.#taken + 1 ? first : Buffer.concat(this.#frames.slice(this.#taken, end), bytes)
    if (end === this.#frames.length) {
      this.#frames = []
      this.#taken = 0
    } else this.#taken = end
    return { bytes: batch, urgent: false }
  }

  async #writeBatch(batch: Buffer): Promise<void> {
    const bytes = await this.#packed(batch)
    for (let at = 0; at < bytes.length; ) {
      const slice = bytes.subarray(
        at,
        at + Math.min(this.#sliceBytes, this.#bucket?.sliceBytes ?? sliceBytesMax),
      )
      const startMs = this.#clock.nowMs()
      if (this.#bucket !== undefined) {
        await this.#bucket.take(slice.length, this.#signal)
        this.#writingSinceMs = this.#clock.nowMs()
      }
      // nobody else has the frame: its memory may be used again
      await this.#stream.write(slice, at + slice.length === bytes.length ? () => giveLarge(bytes) : undefined)
      const nowMs = this.#clock.nowMs()
      const tookMs = nowMs - startMs
      this.#writingSinceMs = nowMs
      this.#choice.wrote(slice.length, tookMs)
      this.#sentBytes += slice.length
      at += slice.length
      if (tookMs > slowWriteMs) this.#sliceBytes = Math.max(sliceBytesMin, this.#sliceBytes / 4)
      else if (tookMs < quickWriteMs) this.#sliceBytes = Math.min(sliceBytesMax, this.#sliceBytes * 2)
    }
  }

  async #packed(batch: Buffer): Promise<Buffer> {
    if (this.#compressor === undefined) return batch
    const startMs = this.#clock.nowMs()
    if (!this.#choice.wants(batch.length, startMs)) return batch
    const bytes = await this.#compressor.compress(batch)
    const nowMs = this.#clock.nowMs()
    if (!this.#choice.packed(batch.length, bytes.length, nowMs - startMs, nowMs)) return batch
    giveLarge(batch)
    return encodeWire({ kind: 'packed', rawBytes: batch.length, bytes })
  }

  #wakeWriter(): void {
    this.#wake?.()
    this.#wake = undefined
  }

  #wakeWaiting(): void {
    const room = this.#room
    this.#room = []
    for (const wake of room) wake()
  }
}
