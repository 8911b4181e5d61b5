/**
 * The BLAKE3-256 digests of a file's blocks, kept as the file grows.
 *
 * Bytes that are appended are digested as they pass; a block that changed in any other way is *stale* until it has
 * been read again. A digest is never given for a stale block, and one that was given covers exactly the bytes below
 * `size`.
 */
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash'
import { assert } from '../os/errors.ts'
import { BlockSet } from './block-set.ts'

export const digestBytes = 32
export const defaultBlockBytes = 1024 * 1024

export class BlockDigests {
  readonly blockBytes: number
  #size = 0
  #digests = new Uint8Array(0)
  /** Over the bytes of the last block, when it is not full; undefined when they have to be read first. */
  #tail: Blake3Hasher | undefined
  #tailSealed = true
  readonly #stale = new BlockSet()
  readonly #changed = new BlockSet()

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes
  }

  get size(): number {
    return this.#size
  }

  get count(): number {
    return Math.ceil(this.#size / this.blockBytes)
  }

  /** Blocks whose digest is not known. */
  get stale(): Iterable<number> {
    return this.#stale
  }

  /** Blocks that differ from what was last recorded. */
  get changed(): BlockSet {
    return this.#changed
  }

  /** Bytes of the last block that `append` has to be given first, with `loadTail`; undefined when it has them. */
  get missingTail(): { readonly offset: number; readonly length: number } | undefined {
    const length = this.#size % this.blockBytes
    if (length === 0 || this.#tail !== undefined || this.#stale.has(this.count - 1)) return undefined
    return { offset: this.#size - length, length }
  }

  /** Takes the bytes that `missingTail` asked for; false when they are not those that were digested. */
  loadTail(bytes: Buffer): boolean {
    const missing = this.missingTail
    assert(missing !== undefined && bytes.length === missing.length, 'a tail of another length')
    if (
      !blake3(bytes).equals(this.#digests.subarray((this.count - 1) * digestBytes, this.count * digestBytes))
    )
      return false
    this.#tail = new Blake3Hasher().update(bytes)
    this.#tailSealed = true
    return true
  }

  /** Memory of the last block's state, given back; it is read again when it is needed. */
  dropTail(): void {
    this.#sealTail()
    this.#tail = undefined
  }

  append(data: Buffer): void {
    assert(this.missingTail === undefined, 'an append to a block whose bytes were not loaded')
    let done = 0
    while (done < data.length) {
      const block = Math.floor(this.#size / this.blockBytes)
      const inBlock = this.#size % this.blockBytes
      const length = Math.min(data.length - done, this.blockBytes - inBlock)
      const bytes = data.subarray(done, done + length)
      if (!this.#stale.has(block)) this.#digestAppended(block, inBlock, bytes)
      this.#size += length
      this.#changed.add(block)
      done += length
    }
  }

  #digestAppended(block: number, inBlock: number, bytes: Buffer): void {
    if (inBlock === 0 && bytes.length === this.blockBytes) {
      this.#put(block, blake3(bytes))
      return
    }
    this.#tail ??= new Blake3Hasher()
    this.#tail.update(bytes)
    this.#tailSealed = false
    if (inBlock + bytes.length < this.blockBytes) return
    this.#put(block, this.#tail.digestBuffer())
    this.#tail = undefined
    this.#tailSealed = true
  }

  appendZeros(length: number): void {
    let rest = length
    const zeros = Buffer.alloc(Math.min(rest, this.blockBytes))
    const digestOfZeros = length >= this.blockBytes ? blake3(Buffer.alloc(this.blockBytes)) : undefined
    while (rest > 0) {
      const inBlock = this.#size % this.blockBytes
      if (inBlock === 0 && rest >= this.blockBytes && digestOfZeros !== undefined) {
        const block = this.#size / this.blockBytes
        this.#put(block, digestOfZeros)
        this.#changed.add(block)
        this.#size += this.blockBytes
        rest -= this.blockBytes
        continue
      }
      const step = Math.min(rest, this.blockBytes - inBlock)
      this.append(zeros.subarray(0, step))
      rest -= step
    }
  }

  /** Bytes in this range were, or will be, changed in place: their blocks are stale. Extends the size when beyond it. */
  touch(offset: number, length: number): void {
    if (length === 0) return
    this.resize(Math.max(this.#size, offset + length))
    this.#markStale(Math.floor(offset / this.blockBytes), Math.ceil((offset + length) / this.blockBytes))
  }

  /** Sets the size; a block that this cuts or extends is stale. */
  resize(size: number): void {
    if (size === this.#size) return
    const least = Math.min(size, this.#size)
    this.#size = size
    this.#stale.cut(this.count)
    this.#changed.cut(this.count)
    this.#markStale(Math.floor(least / this.blockBytes), this.count)
    this.#tail = undefined
    this.#tailSealed = true
  }

  #markStale(first: number, end: number): void {
    this.#stale.addRange(first, end)
    this.#changed.addRange(first, end)
    if (end === this.count) {
      this.#tail = undefined
      this.#tailSealed = true
    }
  }

  /** Gives the digest of a stale block, from its bytes as they are. */
  refresh(block: number, bytes: Buffer): void {
    assert(bytes.length === this.blockLength(block), `block ${block} has another length`)
    this.#put(block, blake3(bytes))
    this.#stale.delete(block)
  }

  blockLength(block: number): number {
    return Math.min(this.blockBytes, this.#size - block * this.blockBytes)
  }

  /** The digests of the blocks from `first` to `end`, one after another. None of them may be stale. */
  slice(first: number, end: number): Uint8Array {
    assert(first <= end && end <= this.count, `blocks ${first} to ${end} of ${this.count}`)
    this.#sealTail()
    for (let block = first; block < end; block++) {
      assert(!this.#stale.has(block), `the digest of block ${block} is not known`)
    }
    return this.#digests.slice(first * digestBytes, end * digestBytes)
  }

  isStale(block: number): boolean {
    return this.#stale.has(block)
  }

  matches(block: number, bytes: Buffer): boolean {
    return blake3(bytes).equals(this.slice(block, block + 1))
  }

  /** Takes what was recorded: the size, and digests of some blocks. */
  restore(size: number, first: number, digests: Uint8Array): void {
    if (size !== this.#size) {
      this.#size = size
      this.#reserve(this.count)
    }
    this.#tail = undefined
    this.#tailSealed = true
    this.#reserve(first + digests.length / digestBytes)
    this.#digests.set(digests, first * digestBytes)
  }

  #sealTail(): void {
    if (this.#tailSealed || this.#tail === undefined) return
    this.#put(this.count - 1, this.#tail.digestBuffer())
    this.#tailSealed = true
  }

  #put(block: number, digest: Uint8Array): void {
    this.#reserve(block + 1)
    this.#digests.set(digest, block * digestBytes)
  }

  #reserve(blocks: number): void {
    const needed = blocks * digestBytes
    if (needed <= this.#digests.length) return
    const grown = new Uint8Array(
      Math.max(needed, Math.min(this.#digests.length * 2, this.#digests.length + 2 ** 20)),
    )
    grown.set(this.#digests)
    this.#digests = grown
  }
}
