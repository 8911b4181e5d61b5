/**
 * The digest of a file's content as an archive carries it: BLAKE3-256 of the content up to 1 MiB (what `b3sum` prints);
 * of a larger file, BLAKE3-256 of the digests of its blocks of 1 MiB, one after another. So it is known from a copy's
 * record before the content is read.
 */
import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash'
import { assert } from '../os/errors.ts'

const blockBytes = 1024 * 1024
export const digestBytes = 32

const digestOfNothing = blake3(Buffer.alloc(0))
let zeros: Buffer | undefined
let digestOfZeros: Buffer | undefined

function zeroBlock(): Buffer {
  zeros ??= Buffer.alloc(blockBytes)
  return zeros
}

/** From the digests of a file's blocks. */
export function contentDigest(blockDigests: Uint8Array): Uint8Array {
  if (blockDigests.length === 0) return digestOfNothing
  if (blockDigests.length === digestBytes) return blockDigests
  return blake3(Buffer.from(blockDigests.buffer, blockDigests.byteOffset, blockDigests.length))
}

/** Of content that comes in pieces, some of which are holes. */
export class ContentDigest {
  #whole: Blake3Hasher | undefined
  #block: Blake3Hasher | undefined
  #inBlock = 0
  #last = digestOfNothing
  #blocks = 0

  update(data: Buffer): void {
    let done = 0
    while (done < data.length) {
      const length = Math.min(data.length - done, blockBytes - this.#inBlock)
      const piece = data.subarray(done, done + length)
      if (length === blockBytes) this.#end(blake3(piece))
      else {
        this.#block ??= new Blake3Hasher()
        this.#block.update(piece)
        this.#inBlock += length
        if (this.#inBlock === blockBytes) this.#endBlock()
      }
      done += length
    }
  }

  /** A hole of many TiB costs a digest of digests, not the reading of zeros. */
  updateZeros(length: number): void {
    let rest = length
    while (rest > 0) {
      if (this.#inBlock === 0 && rest >= blockBytes) {
        digestOfZeros ??= blake3(zeroBlock())
        this.#end(digestOfZeros)
        rest -= blockBytes
        continue
      }
      const step = Math.min(rest, blockBytes - this.#inBlock)
      this.update(zeroBlock().subarray(0, step))
      rest -= step
    }
  }

  #endBlock(): void {
    const digest = this.#block?.digestBuffer()
    assert(digest !== undefined, 'a block without bytes')
    this.#block = undefined
    this.#inBlock = 0
    this.#end(digest)
  }

  #end(digest: Buffer): void {
    if (this.#blocks === 0) this.#last = digest
    else {
      this.#whole ??= new Blake3Hasher().update(this.#last)
      this.#whole.update(digest)
    }
    this.#blocks++
  }

  /** Once. */
  digest(): Buffer {
    if (this.#inBlock > 0) this.#endBlock()
    assert(this.#blocks <= 1 || this.#whole !== undefined, 'blocks without a digest over them')
    return this.#whole?.digestBuffer() ?? this.#last
  }
}
