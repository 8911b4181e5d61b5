/**
 * From the bytes of an archive to its frames, compressed by several threads at once and given on in order. Memory is
 * bounded: `room` waits while as many frames as are allowed are on their way.
 */
import { availableParallelism } from 'node:os'
import { type ArchiveFormat, frameBytes } from './compression.ts'
import { FrameEncoder } from './frame-encoder.ts'

export interface ArchiveFrame {
  readonly bytes: Buffer
  /** Of the archive, uncompressed. */
  readonly rawBytes: number
}

export class FrameQueue {
  readonly #encoder: FrameEncoder
  readonly #give: (frame: ArchiveFrame) => Promise<void>
  /** Enough for all threads to have work while a batch is read: a frame is 1 MiB. */
  readonly #waitingMax = availableParallelism() + 6
  readonly #free: Buffer<ArrayBuffer>[] = []
  #current = Buffer.allocUnsafeSlow(frameBytes)
  #used = 0
  #given: Promise<void> = Promise.resolve()
  #waiting = 0
  #error: { readonly error: unknown } | undefined
  #wake: (() => void) | undefined
  bytes = 0
  rawBytes = 0

  /** `give` gets the frames in order, one at a time; a frame's bytes are void when it has resolved. */
  constructor(format: ArchiveFormat, level: number, give: (frame: ArchiveFrame) => Promise<void>) {
    this.#encoder = new FrameEncoder(format, level)
    this.#give = give
  }

  /** Of the archive, uncompressed. */
  get written(): number {
    return this.rawBytes + this.#used
  }

  /** Takes a copy. */
  write(data: Uint8Array): void {
    const bytes = Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.length)
    for (let done = 0; done < data.length; ) {
      const length = Math.min(data.length - done, frameBytes - this.#used)
      bytes.copy(this.#current, this.#used, done, done + length)
      this.#advance(length)
      done += length
    }
  }

  writeZeros(count: number): void {
    for (let rest = count; rest > 0; ) {
      const length = Math.min(rest, frameBytes - this.#used)
      this.#current.fill(0, this.#used, this.#used + length)
      this.#advance(length)
      rest -= length
    }
  }

  #advance(length: number): void {
    this.#used += length
    if (this.#used === frameBytes) this.#send()
  }

  #send(): void {
    const memory = this.#current
    const data = memory.subarray(0, this.#used)
    this.rawBytes += this.#used
    this.#current = this.#free.pop() ?? Buffer.allocUnsafeSlow(frameBytes)
    this.#used = 0
    this.#waiting++
    const encoded = this.#encoder.encode(data)
    this.#given = this.#given
      .then(async () => {
        const bytes = await encoded
        if (this.#error !== undefined) return
        this.bytes += bytes.length
        await this.#give({ bytes, rawBytes: data.length })
      })
      .catch(error => {
        this.#error ??= { error }
      })
      .finally(() => {
        this.#free.push(memory)
        this.#waiting--
        this.#wake?.()
      })
    // its failure is seen above, when its turn comes
    encoded.catch(() => {})
  }

  /** Resolves when more may be written; rejects with what went wrong. */
  async room(): Promise<void> {
    while (this.#waiting > this.#waitingMax && this.#error === undefined) {
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
    if (this.#error !== undefined) throw this.#error.error
  }

  /** Resolves when all was given on, or given up after an error; never rejects. */
  async close(): Promise<void> {
    await this.#given
    this.#encoder.close()
  }

  /** The last frame, and all before it, are given. */
  async finish(): Promise<void> {
    if (this.#used > 0) this.#send()
    await this.#given
    if (this.#error !== undefined) throw this.#error.error
  }
}
