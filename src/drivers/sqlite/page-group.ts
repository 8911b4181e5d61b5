/**
 * The newest versions of the pages that a group of transactions changes, and beside them those of the transaction that
 * is coming in. They are in memory of its own that is used again: what was received goes back at once, and not when
 * the garbage collector comes to it.
 */

const slabBytesMin = 64 * 1024

type Slots = Map<number, number>
type Page = [page: number, data: Uint8Array]

export class PageGroup {
  readonly #pageBytes: number
  readonly #whole: Slots = new Map()
  readonly #open: Slots = new Map()
  /** Below `#used`, and of nobody. */
  readonly #free: number[] = []
  #used = 0
  #slab = Buffer.alloc(0)

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes
  }

  /** Of the pages of whole transactions. */
  get bytes(): number {
    return this.#whole.size * this.#pageBytes
  }

  /** Takes a copy of a page, for the transaction that is coming in. */
  put(page: number, data: Uint8Array): void {
    const slot = this.#open.get(page) ?? this.#free.pop() ?? this.#used++
    this.#reserve(this.#used * this.#pageBytes)
    this.#slab.set(data, slot * this.#pageBytes)
    this.#open.set(page, slot)
  }

  /** The transaction that came in is whole. */
  fold(): void {
    for (const [page, slot] of this.#open) {
      const older = this.#whole.get(page)
      if (older !== undefined) this.#free.push(older)
      this.#whole.set(page, slot)
    }
    this.#open.clear()
  }

  /** Forgets the transaction that was coming in. */
  drop(): void {
    this.#empty(this.#open)
  }

  /** Forgets the whole transactions. */
  clear(): void {
    this.#empty(this.#whole)
  }

  /** Of the transaction that is coming in. The data is valid until the group changes, here as below. */
  openPages(): Generator<Page, void> {
    return this.#pages(this.#open)
  }

  /** Of the whole transactions. */
  wholePages(): Generator<Page, void> {
    return this.#pages(this.#whole)
  }

  *#pages(slots: Slots): Generator<Page, void> {
    for (const [page, slot] of slots) {
      yield [page, this.#slab.subarray(slot * this.#pageBytes, (slot + 1) * this.#pageBytes)]
    }
  }

  #empty(slots: Slots): void {
    for (const slot of slots.values()) this.#free.push(slot)
    slots.clear()
    if (this.#free.length < this.#used) return
    this.#free.length = 0
    this.#used = 0
  }

  #reserve(bytes: number): void {
    if (this.#slab.length >= bytes) return
    const slab = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#slab.length, slabBytesMin))
    this.#slab.copy(slab)
    this.#slab = slab
  }
}
