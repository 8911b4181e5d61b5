/** A set of block numbers, a bit each, in chunks: it costs what is in it, however far apart that is. */
const chunkBlocks = 512

export class BlockSet {
  readonly #chunks = new Map<number, Uint8Array>()

  get isEmpty(): boolean {
    return this.#chunks.size === 0
  }

  add(block: number): void {
    const number = Math.floor(block / chunkBlocks)
    let chunk = this.#chunks.get(number)
    if (chunk === undefined) {
      chunk = new Uint8Array(chunkBlocks / 8)
      this.#chunks.set(number, chunk)
    }
    const at = block % chunkBlocks
    chunk[at >> 3] = (chunk[at >> 3] as number) | (1 << (at & 7))
  }

  addRange(first: number, end: number): void {
    for (let block = first; block < end; block++) this.add(block)
  }

  has(block: number): boolean {
    const chunk = this.#chunks.get(Math.floor(block / chunkBlocks))
    const at = block % chunkBlocks
    return chunk !== undefined && ((chunk[at >> 3] as number) & (1 << (at & 7))) !== 0
  }

  delete(block: number): void {
    const number = Math.floor(block / chunkBlocks)
    const chunk = this.#chunks.get(number)
    if (chunk === undefined) return
    const at = block % chunkBlocks
    chunk[at >> 3] = (chunk[at >> 3] as number) & ~(1 << (at & 7))
    if (isEmpty(chunk)) this.#chunks.delete(number)
  }

  /** Forgets all blocks from `end` on. */
  cut(end: number): void {
    for (const [number, chunk] of this.#chunks) {
      const at = end - number * chunkBlocks
      if (at >= chunkBlocks) continue
      if (at > 0) {
        chunk.fill(0, (at + 7) >> 3)
        if ((at & 7) !== 0) chunk[at >> 3] = (chunk[at >> 3] as number) & ((1 << (at & 7)) - 1)
      }
      if (at <= 0 || isEmpty(chunk)) this.#chunks.delete(number)
    }
  }

  clear(): void {
    this.#chunks.clear()
  }

  /** Ascending. */
  *[Symbol.iterator](): Generator<number> {
    for (const number of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      const chunk = this.#chunks.get(number)
      if (chunk === undefined) continue
      for (let at = 0; at < chunkBlocks; at++) {
        if (((chunk[at >> 3] as number) & (1 << (at & 7))) !== 0) yield number * chunkBlocks + at
      }
    }
  }

  /** Runs of consecutive blocks, ascending. */
  *runs(): Generator<{ readonly first: number; readonly end: number }> {
    let first = -1
    let end = -1
    for (const block of this) {
      if (block !== end) {
        if (first >= 0) yield { first, end }
        first = block
      }
      end = block + 1
    }
    if (first >= 0) yield { first, end }
  }
}

function isEmpty(chunk: Uint8Array): boolean {
  for (let at = 0; at < chunk.length; at++) if (chunk[at] !== 0) return false
  return true
}
