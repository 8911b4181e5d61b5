/**
 * The newest versions of the pages that a group of transactions changes, in memory of its own that is used again: what
 * was received goes back at once, and not when the garbage collector comes to it.
 */

const slabBytesMin = 64 * 1024

export class PageGroup {
  readonly #pageBytes: number
  readonly #slots = new Map<number, number>()
  #slab = Buffer.alloc(0)

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes
  }

  get bytes(): number {
    return this.#slots.size * this.#pageBytes
  }

  /** Takes a copy of a page; of a page that is there already it replaces the content. */
  put(page: number, data: Uint8Array): void {
    const slot = this.#slots.get(page) ?? this.#slots.size
    this.#reserve((slot + 1) * this.#pageBytes)
    this.#slab.set(data, slot * this.#pageBytes)
    this.#slots.set(page, slot)
  }

  /** The data is valid until the group changes. */
  *pages(): Generator<[page: number, data: Uint8Array], void> {
    for (const [page, slot] of this.#slots) {
      yield [page, this.#slab.subarray(slot * this.#pageBytes, (slot + 1) * this.#pageBytes)]
    }
  }

  clear(): void {
    this.#slots.clear()
  }

  #reserve(bytes: number): void {
    if (this.#slab.length >= bytes) return
    const slab = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#slab.length, slabBytesMin))
    this.#slab.copy(slab)
    this.#slab = slab
  }
}
