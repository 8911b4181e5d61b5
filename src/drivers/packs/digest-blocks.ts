/** Compares a file of the source with what the sink has recorded of it, block by block. */
import { blake3 } from '@napi-rs/blake-hash'
import type { StorageFile } from '../../os/storage.ts'
import { writeBytesMax } from '../../stream/entry.ts'
import type { InventoryFile } from '../../stream/sink.ts'

export const digestBytes = 32

/** False when its digests are of a kind that this driver can't make. */
export function isComparable(file: InventoryFile): boolean {
  return file.digest === 'blake3-256' && file.blockBytes > 0 && file.blockBytes <= writeBytesMax
}

export function blockCount(file: InventoryFile): number {
  return Math.ceil(file.size / file.blockBytes)
}

/**
 * The offset of the first block of `blocks` (all of the file when absent) that differs between the source's bytes and
 * the inventory, or undefined when none does. Bytes after the inventory's size do not count.
 */
export async function firstDifference(
  source: StorageFile,
  recorded: InventoryFile,
  blocks: { readonly first: number; readonly count: number } = { first: 0, count: blockCount(recorded) },
): Promise<number | undefined> {
  if (blocks.count <= 0) return undefined
  const digests = await recorded.digests(blocks.first, blocks.count)
  const buffer = Buffer.allocUnsafe(Math.min(recorded.blockBytes, recorded.size))
  for (let i = 0; i < blocks.count; i++) {
    const offset = (blocks.first + i) * recorded.blockBytes
    const block = buffer.subarray(0, Math.min(recorded.blockBytes, recorded.size - offset))
    const length = await source.read(block, offset)
    const expected = digests.subarray(i * digestBytes, (i + 1) * digestBytes)
    if (length < block.length || !blake3(block).equals(expected)) return offset
  }
  return undefined
}

/** The last block only: where a file that only grows is the same, its start is. */
export function tailDifference(source: StorageFile, recorded: InventoryFile): Promise<number | undefined> {
  const last = blockCount(recorded) - 1
  return firstDifference(source, recorded, { first: Math.max(0, last), count: last < 0 ? 0 : 1 })
}
