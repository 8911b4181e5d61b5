/**
 * The newest bytes of the segment that is being written, so that who follows the log closely reads no file. Only what the
 * file has is here; memory is bounded.
 */
const bytesMax = 1024 * 1024

export class RecentBytes {
  #pieces: Buffer[] = []
  #begin = 0
  #end = 0

  /** What was written at `offset`: behind what is here, or else that counts for nothing any more. */
  add(data: Buffer, offset: number): void {
    if (offset !== this.#end) this.#pieces = []
    if (this.#pieces.length === 0) this.#begin = offset
    this.#pieces.push(data)
    this.#end = offset + data.length
    while (this.#end - this.#begin > bytesMax) this.#begin += this.#pieces.shift()?.length ?? 0
  }

  /** Fills the whole of `buffer`; false when not all of it is here. */
  read(buffer: Uint8Array, offset: number): boolean {
    if (offset < this.#begin || offset + buffer.length > this.#end) return false
    let at = this.#begin
    for (const piece of this.#pieces) {
      const from = Math.max(offset, at)
      const to = Math.min(offset + buffer.length, at + piece.length)
      if (from < to) buffer.set(piece.subarray(from - at, to - at), from - offset)
      at += piece.length
    }
    return true
  }
}
