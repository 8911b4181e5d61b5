/** Turns pages into changes: neighbours become one write, and the digests follow. */
import {
  type Change,
  type EntryPath,
  type StoreName,
  type WriteChange,
  writeBytesMax,
} from '../../stream/entry.ts'
import { ChangeMemory } from './change-memory.ts'
import { markWalMode } from './database-header.ts'
import type { PageDigests } from './page-digests.ts'
import type { PageRun } from './page-scan.ts'

const path = '' as EntryPath

export class PageChanges {
  readonly #store: StoreName
  readonly #pageBytes: number
  readonly #digests: PageDigests
  readonly #memory = new ChangeMemory()

  constructor(store: StoreName, pageBytes: number, digests: PageDigests) {
    this.#store = store
    this.#pageBytes = pageBytes
    this.#digests = digests
  }

  /** Changes for the pages that differ from what was sent before. Copies the data. */
  *ofPages(pages: ReadonlyMap<number, Uint8Array>): Generator<Change> {
    let run: { first: number; data: Uint8Array[] } | undefined
    for (const [page, data] of pages) {
      if (page === 1) markWalMode(data)
      if (!this.#digests.update(page, data)) continue
      const full = run !== undefined && (run.data.length + 1) * this.#pageBytes > writeBytesMax
      if (run !== undefined && (full || run.first + run.data.length !== page)) {
        yield this.#copied(run.first, run.data)
        run = undefined
      }
      if (run === undefined) run = { first: page, data: [data] }
      else run.data.push(data)
    }
    if (run !== undefined) yield this.#copied(run.first, run.data)
  }

  /** The same for a run of pages; `skip` leaves pages out. The run's memory goes back with the write, if it is one. */
  *ofRun({ firstPage, bytes, recycle }: PageRun, skip: (page: number) => boolean): Generator<Change> {
    const count = bytes.length / this.#pageBytes
    const parts: { start: number; end: number }[] = []
    for (let i = 0; i < count; i++) {
      const data = bytes.subarray(i * this.#pageBytes, (i + 1) * this.#pageBytes)
      if (skip(firstPage + i) || !this.#differs(firstPage + i, data)) continue
      const last = parts.at(-1)
      if (last?.end === i) last.end = i + 1
      else parts.push({ start: i, end: i + 1 })
    }
    if (parts.length === 0) recycle()
    for (const { start, end } of parts) {
      const write = this.#write(
        firstPage + start,
        bytes.subarray(start * this.#pageBytes, end * this.#pageBytes),
      )
      yield parts.length === 1 ? { ...write, recycle } : write
    }
  }

  size(pages: number): Change {
    this.#digests.resize(pages)
    return { type: 'truncate', store: this.#store, path, size: pages * this.#pageBytes }
  }

  #differs(page: number, data: Uint8Array): boolean {
    if (page === 1) markWalMode(data)
    return this.#digests.update(page, data)
  }

  #copied(first: number, pages: readonly Uint8Array[]): WriteChange {
    const { data, recycle } = this.#memory.take(pages.length * this.#pageBytes)
    for (const [i, page] of pages.entries()) data.set(page, i * this.#pageBytes)
    const write = this.#write(first, data)
    return recycle === undefined ? write : { ...write, recycle }
  }

  #write(first: number, data: Uint8Array): WriteChange {
    return { type: 'write', store: this.#store, path, offset: (first - 1) * this.#pageBytes, data }
  }
}

/** One bit a page, growing. */
export class PageSet {
  #bits = new Uint8Array(1024)

  add(page: number): void {
    const at = page >>> 3
    if (at >= this.#bits.length) {
      const larger = new Uint8Array(Math.max(at + 1, this.#bits.length * 2))
      larger.set(this.#bits)
      this.#bits = larger
    }
    this.#bits[at] = (this.#bits[at] as number) | (1 << (page & 7))
  }

  has(page: number): boolean {
    return ((this.#bits[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0
  }
}
