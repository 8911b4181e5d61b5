/**
 * Goes through the frames of a file's range by large reads, without waiting between two frames that were read at once.
 */
import type { StorageFile } from '../os/storage.ts'
import { type FrameRead, readFrame } from '../stream/frame.ts'

const readBytesDefault = 512 * 1024

export type Readable = Pick<StorageFile, 'read'>

export class FrameCursor {
  readonly #file: Readable
  /** Bytes from here on are not read. */
  readonly #limit: number
  readonly #readBytes: number
  #buffer: Buffer = Buffer.alloc(0)
  #base: number
  #at = 0

  constructor(file: Readable, offset: number, limit: number, readBytes = readBytesDefault) {
    this.#file = file
    this.#base = offset
    this.#limit = limit
    this.#readBytes = readBytes
  }

  get offset(): number {
    return this.#base + this.#at
  }

  /** The frame at `offset`; `end` when more bytes are needed: see `fill`. Its payload stays valid. */
  frame(): FrameRead {
    return readFrame(this.#buffer, this.#at)
  }

  /** Goes behind the frame that `frame` gave, and gives its bytes with the header. */
  pass(frame: { readonly end: number }): Buffer {
    const bytes = this.#buffer.subarray(this.#at, frame.end)
    this.#at = frame.end
    return bytes
  }

  /** The bytes from one offset to another that were passed since the last `fill`. */
  passed(from: number, to: number): Buffer {
    return this.#buffer.subarray(from - this.#base, to - this.#base)
  }

  /** Reads on; false when there are no more bytes. What was given before stays valid. */
  async fill(missingBytes: number): Promise<boolean> {
    const rest = this.#buffer.subarray(this.#at)
    const from = this.offset + rest.length
    const wanted = Math.min(Math.max(missingBytes, this.#readBytes), this.#limit - from)
    if (wanted <= 0) return false
    const grown = Buffer.allocUnsafe(rest.length + wanted)
    rest.copy(grown)
    const length = await this.#file.read(grown.subarray(rest.length), from)
    if (length === 0) return false
    this.#base = this.offset
    this.#at = 0
    this.#buffer = grown.subarray(0, rest.length + length)
    return true
  }
}
