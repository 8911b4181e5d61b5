/** Frames out of a byte stream, in order, with bounded memory. Payloads are views, and stay valid. */
import { HotspareError } from '../os/errors.ts'
import { takeLarge } from '../os/large-buffers.ts'
import { frameHeaderBytes, readFrame } from '../stream/frame.ts'

export class FrameInput {
  readonly #pieces: AsyncIterator<Buffer>
  readonly #onBytes: (count: number) => void
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  /** A frame that came in part: its bytes so far, in a buffer of its length (or of a header's, until that is known). */
  #partial: Buffer | undefined
  #filled = 0
  #payloadBytesMax: number

  constructor(pieces: AsyncIterable<Buffer>, payloadBytesMax: number, onBytes: (count: number) => void) {
    this.#pieces = pieces[Symbol.asyncIterator]()
    this.#payloadBytesMax = payloadBytesMax
    this.#onBytes = onBytes
  }

  set payloadBytesMax(bytes: number) {
    this.#payloadBytesMax = bytes
  }

  /** The next frame that is here already. Throws `entry-invalid` when the bytes are none. */
  take(): Buffer | undefined {
    return this.#partial === undefined ? this.#takeWhole() : this.#takePartial(this.#partial)
  }

  /** Waits for more bytes: false when the other side has closed. */
  async fill(): Promise<boolean> {
    const next = await this.#pieces.next()
    if (next.done) return false
    this.#onBytes(next.value.length)
    this.#chunk = next.value
    this.#at = 0
    return true
  }

  /** Undefined when the other side has closed. */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      const payload = this.take()
      if (payload !== undefined) return payload
      if (!(await this.fill())) return undefined
    }
  }

  #takeWhole(): Buffer | undefined {
    if (this.#at === this.#chunk.length) return undefined
    const frame = readFrame(this.#chunk, this.#at)
    if (frame.kind === 'damaged') throw invalid(frame.what)
    if (frame.kind === 'frame') {
      this.#check(frame.payload.length)
      this.#at = frame.end
      return frame.payload
    }
    const rest = this.#chunk.length - this.#at
    const bytes = rest + frame.missingBytes
    this.#check(bytes - frameHeaderBytes)
    this.#partial = takeLarge(bytes)
    this.#filled = 0
    return this.#takePartial(this.#partial)
  }

  #takePartial(partial: Buffer): Buffer | undefined {
    const count = this.#chunk.copy(partial, this.#filled, this.#at)
    this.#filled += count
    this.#at += count
    if (this.#filled < partial.length) return undefined
    const frame = readFrame(partial, 0)
    if (frame.kind === 'damaged') throw invalid(frame.what)
    if (frame.kind === 'frame') {
      this.#partial = undefined
      return frame.payload
    }
    // the header is whole: now its length is known
    const bytes = partial.length + frame.missingBytes
    this.#check(bytes - frameHeaderBytes)
    const grown = takeLarge(bytes)
    partial.copy(grown, 0, 0, this.#filled)
    this.#partial = grown
    return this.#takePartial(grown)
  }

  #check(payloadBytes: number): void {
    if (payloadBytes > this.#payloadBytesMax)
      throw invalid(`it has ${payloadBytes} bytes, more than the ${this.#payloadBytesMax} allowed`)
  }
}

function invalid(what: string): HotspareError {
  return new HotspareError('entry-invalid', `Malformed frame: ${what}.`)
}
