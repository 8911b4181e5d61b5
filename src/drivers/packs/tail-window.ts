/** The last bytes that were sent of one pack. */
import type { StorageFile } from '../../os/storage.ts'
import { tailBytesMax } from './position.ts'

export class TailWindow {
  readonly #buffer = Buffer.alloc(tailBytesMax)
  #length = 0

  /** At most `tailBytesMax`; valid until the next change. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  push(data: Buffer): void {
    if (data.length >= tailBytesMax) {
      data.copy(this.#buffer, 0, data.length - tailBytesMax)
      this.#length = tailBytesMax
      return
    }
    const keep = Math.min(this.#length, tailBytesMax - data.length)
    this.#buffer.copy(this.#buffer, 0, this.#length - keep, this.#length)
    data.copy(this.#buffer, keep)
    this.#length = keep + data.length
  }

  /** Takes the bytes before `offset` from the file. False when the file is shorter. */
  async load(file: StorageFile, offset: number): Promise<boolean> {
    const length = Math.min(offset, tailBytesMax)
    this.#length = await file.read(this.#buffer.subarray(0, length), offset - length)
    return this.#length === length
  }
}
