/** In a scanning thread: reads blocks of a large, open file, and puts those that differ into shared memory. */
import { blake3 } from '@napi-rs/blake-hash'
import { nextData, nextHole, readAt } from '../../os/tree-calls.ts'
import { blockBytes, blockDigestBytes } from './entry-flags.ts'
import type { BlocksAnswer, BlocksRequest } from './scan-protocol.ts'

export function readBlocks(request: BlocksRequest): BlocksAnswer {
  const { fd, firstBlock, old, oldSize, end } = request
  const arena = Buffer.from(request.arena)
  const digests = Buffer.alloc(request.blocks * blockDigestBytes)
  const segments: number[] = []
  let bytes = 0
  let used = 0
  for (let n = 0; n < request.blocks; n++) {
    const block = firstBlock + n
    const offset = block * blockBytes
    const into = arena.subarray(used, used + Math.max(0, Math.min(blockBytes, end - offset)))
    const length = readAt(fd, into, offset)
    if (length === 0) break
    bytes += length
    const data = into.subarray(0, length)
    const digest = blake3(data)
    digests.set(digest, n * blockDigestBytes)
    const known = old?.subarray(block * blockDigestBytes, (block + 1) * blockDigestBytes)
    const same = known?.length === blockDigestBytes && digest.equals(known)
    if (!same) {
      if (offset < oldSize) segments.push(offset, used, length)
      else pushData(fd, offset, length, used, segments)
      used += length
    }
    if (length < blockBytes) break
  }
  return {
    digests: digests.subarray(0, Math.ceil(bytes / blockBytes) * blockDigestBytes),
    bytes,
    segments: Float64Array.from(segments),
  }
}

/** Where the copy has zeros anyway, holes are not sent. */
function pushData(fd: number, offset: number, length: number, used: number, segments: number[]): void {
  const end = offset + length
  for (let at = offset; at < end; ) {
    const data = nextData(fd, at)
    if (data === undefined || data >= end) return
    const hole = Math.min(nextHole(fd, data) ?? end, end)
    segments.push(data, used + (data - offset), hole - data)
    at = hole
  }
}
