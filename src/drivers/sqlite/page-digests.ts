/**
 * The digest of each page of a database, and the rolling digest of all of them: what a source sends with each commit
 * and a copy verifies. A pure function of the content: whoever holds the same pages has the same state, whatever the
 * way that led there.
 *
 * Per page xxh64 of its bytes (0 where there is no page, 1 where it is all zeros; both read as zeros, and count as
 * nothing in the state). The state is the XOR of all, each mixed with its page number
 * so that exchanged pages don't cancel. It guards against faults, not against forgery.
 *
 * Memory is bounded: blocks of 64 KiB in a cache of `blocksMax`, the rest in a file.
 */
import { closeSync, constants, fdatasyncSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs'
import { xxh64 } from '@node-rs/xxhash'
import { assert } from '../../os/errors.ts'
import type { StateDigest } from '../../stream/entry.ts'

const blockEntries = 8192
const blockBytes = blockEntries * 8
const blocksMaxDefault = 256
const zeroPage = 1

const zeroDigests = new Map<number, bigint>()

function zeroDigest(bytes: number): bigint {
  const known = zeroDigests.get(bytes)
  if (known !== undefined) return known
  const digest = xxh64(Buffer.alloc(bytes))
  zeroDigests.set(bytes, digest)
  return digest
}

interface Block {
  /** Pairs of high and low word. */
  readonly words: Uint32Array
  dirty: boolean
}

export class PageDigests {
  readonly #fd: number
  readonly #blocksMax: number
  /** In order of last use, the oldest first. */
  readonly #blocks = new Map<number, Block>()
  #pages = 0
  #high = 0
  #low = 0

  /** Opens (or makes) the file that holds what the cache doesn't. Its content is void until `restore`. */
  constructor(path: string, options: { blocksMax?: number } = {}) {
    this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    this.#blocksMax = options.blocksMax ?? blocksMaxDefault
  }

  /** Size of the database in pages. */
  get pages(): number {
    return this.#pages
  }

  get state(): StateDigest {
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0')
    return `xxh64:${hex(this.#high)}${hex(this.#low)}:${this.#pages}` as StateDigest
  }

  /** Takes a page's new bytes; true when they differ from what was there. */
  update(page: number, data: Uint8Array): boolean {
    const digest = xxh64(data)
    if (digest === zeroDigest(data.length)) return this.set(page, 0, zeroPage)
    return this.set(page, Number(digest >> 32n), Number(digest & 0xffffffffn))
  }

  set(page: number, high: number, low: number): boolean {
    assert(page >= 1, 'pages are numbered from 1')
    if (page > this.#pages) this.#pages = page
    const block = this.#block(page)
    const at = ((page - 1) % blockEntries) * 2
    const oldHigh = block.words[at] as number
    const oldLow = block.words[at + 1] as number
    if (oldHigh === high && oldLow === low) return false
    this.#toggle(page, oldHigh, oldLow)
    this.#toggle(page, high, low)
    block.words[at] = high
    block.words[at + 1] = low
    block.dirty = true
    return true
  }

  /** Sets the size of the database: pages beyond it are dropped, missing ones are absent. */
  resize(pages: number): void {
    for (let page = pages + 1; page <= this.#pages; page++) this.set(page, 0, 0)
    this.#pages = pages
  }

  /** The digests of `count` pages from `first`, 8 bytes each, big-endian (zeros: no such page). */
  read(first: number, count: number): Buffer {
    const bytes = Buffer.alloc(count * 8)
    for (let i = 0; i < count && first + i <= this.#pages; i++) {
      const block = this.#block(first + i)
      const at = ((first + i - 1) % blockEntries) * 2
      bytes.writeUInt32BE(block.words[at] as number, i * 8)
      bytes.writeUInt32BE(block.words[at + 1] as number, i * 8 + 4)
    }
    return bytes
  }

  /** Takes digests in the form that `read` gives. */
  load(first: number, bytes: Buffer): void {
    for (let i = 0; i < bytes.length; i += 8) {
      this.set(first + i / 8, bytes.readUInt32BE(i), bytes.readUInt32BE(i + 4))
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#blocks.clear()
    ftruncateSync(this.#fd, 0)
    this.#pages = 0
    this.#high = 0
    this.#low = 0
  }

  /** Takes the file's content, as an earlier `flush` left it, for a database of so many pages. */
  restore(pages: number): void {
    this.#blocks.clear()
    // what stands beyond is from a later time: a page that comes there anew must find nothing
    ftruncateSync(this.#fd, pages * 8)
    this.#pages = pages
    this.#high = 0
    this.#low = 0
    for (let page = 1; page <= pages; page++) {
      const words = this.#block(page).words
      const at = ((page - 1) % blockEntries) * 2
      this.#toggle(page, words[at] as number, words[at + 1] as number)
    }
  }

  /** Writes all that changed to the file and makes it durable. */
  flush(): void {
    for (const [number, block] of this.#blocks) this.#writeBack(number, block)
    fdatasyncSync(this.#fd)
  }

  close(): void {
    closeSync(this.#fd)
  }

  #toggle(page: number, high: number, low: number): void {
    if (high === 0 && low <= zeroPage) return
    this.#high ^= mix(high ^ Math.imul(page, 0x9e3779b1), low)
    this.#low ^= mix(low ^ Math.imul(page, 0x85ebca77), high)
  }

  #block(page: number): Block {
    const number = Math.floor((page - 1) / blockEntries)
    const cached = this.#blocks.get(number)
    if (cached !== undefined) {
      if (this.#blocks.size >= this.#blocksMax) {
        this.#blocks.delete(number)
        this.#blocks.set(number, cached)
      }
      return cached
    }
    if (this.#blocks.size >= this.#blocksMax) this.#evict()
    const words = new Uint32Array(blockEntries * 2)
    readSync(this.#fd, words, 0, blockBytes, number * blockBytes)
    const block = { words, dirty: false }
    this.#blocks.set(number, block)
    return block
  }

  #evict(): void {
    for (const [number, block] of this.#blocks) {
      this.#writeBack(number, block)
      this.#blocks.delete(number)
      return
    }
  }

  #writeBack(number: number, block: Block): void {
    if (!block.dirty) return
    const written = writeSync(this.#fd, block.words, 0, blockBytes, number * blockBytes)
    if (written !== blockBytes) throw Object.assign(new Error('short write'), { code: 'ENOSPC' })
    block.dirty = false
  }
}

/** A 32-bit finaliser (murmur3's), over two words. */
function mix(a: number, b: number): number {
  let h = a ^ Math.imul(b, 0xcc9e2d51)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}
