/**
 * All that a copy of unknown content lacks or has too much, by comparison with its inventory, to be applied as one
 * transaction: blocks are written in place, files cut, and what the source does not have is removed.
 */

import { blake3 } from '@napi-rs/blake-hash'
import { ChunkPool } from '../../os/chunk-pool.ts'
import type { HotspareError } from '../../os/errors.ts'
import type { Storage } from '../../os/storage.ts'
import { type Entry, type EntryPath, entryPath, nativePath, type StoreName } from '../../stream/entry.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import { digestBytes, firstDifference, isComparable } from './digest-blocks.ts'
import { truncated } from './faults.ts'
import type { Pack } from './pack.ts'
import type { Scan } from './pack-set.ts'
import { readAhead } from './read-ahead.ts'
import { contentIdentity, fileIdentity, type WholeFiles } from './whole-files.ts'
import { usableEnd } from './zero-tail.ts'

export interface DifferenceOptions {
  readonly storage: Storage
  readonly store: StoreName
  readonly root: string
  readonly scan: Scan
  readonly inventory: Inventory
  readonly wholes: WholeFiles
  /** Gets the names of the trees that the copy has afterwards. */
  readonly trees: Set<string>
  readonly signal: AbortSignal
}

/** Sets each pack's `sent`. Ends early when the signal aborts. */
export async function* sendDifference(options: DifferenceOptions): AsyncGenerator<Entry> {
  const { scan, signal } = options
  yield* removals(options)
  const last = scan.packs.at(-1)
  for (const pack of scan.packs) {
    yield* packDifference(options, pack, pack === last)
    if (signal.aborted) return
  }
  for (const name of scan.layout.trees) {
    for await (const entry of options.wholes.sendTree(name)) {
      options.trees.add(name)
      yield entry
    }
  }
  for (const whole of scan.layout.wholes) {
    const recorded = await options.inventory.file(entryPath(whole.name))
    const identity = recorded === undefined ? undefined : await sameFile(options, recorded, whole.content)
    if (identity === undefined) yield* options.wholes.sendOne(whole)
    else options.wholes.know(whole.name, identity)
  }
}

/** What the source does not have, and the trees, which are sent anew. */
async function* removals({ scan, store, inventory }: DifferenceOptions): AsyncGenerator<Entry> {
  const wanted = new Set<string>([
    ...scan.packs.map(pack => pack.path),
    ...scan.layout.wholes.map(whole => whole.name),
  ])
  const removed = new Set<string>()
  for await (const file of inventory.files()) {
    const top = file.path.split('/')[0]!
    if (wanted.has(file.path) || removed.has(top)) continue
    removed.add(top)
    yield { type: 'remove', store, path: entryPath(top) }
  }
}

async function* packDifference(
  options: DifferenceOptions,
  pack: Pack,
  isLast: boolean,
): AsyncGenerator<Entry> {
  const { store, inventory, signal } = options
  const file = await pack.file()
  const { size } = await file.stat()
  const end = isLast ? await usableEnd(file, 0, size, true) : size
  const found = await inventory.file(pack.path)
  const recorded = found !== undefined && isComparable(found) ? found : undefined
  const path: EntryPath = pack.path

  if (found === undefined) yield { type: 'write', store, path, offset: 0, data: Buffer.alloc(0) }
  if (recorded !== undefined) yield* blocksDifference(options, pack, recorded, end)
  const compared = recorded === undefined ? 0 : Math.min(recorded.size, end)
  let offset = compared
  for await (const { data, recycle } of readAhead(new ChunkPool(), file, compared, end)) {
    const { length } = data
    yield { type: 'write', store, path, offset, data, recycle }
    offset += length
    if (signal.aborted) return
  }
  if (offset < end) throw cut(options, pack, offset)
  if (found !== undefined && found.size > end) yield { type: 'truncate', store, path, size: end }
  pack.sent = end
  pack.created = true
  pack.stat = await file.stat()
}

/** The blocks that both have and that differ. */
async function* blocksDifference(
  options: DifferenceOptions,
  pack: Pack,
  recorded: InventoryFile,
  end: number,
): AsyncGenerator<Entry> {
  const { store, signal } = options
  const file = await pack.file()
  const { blockBytes } = recorded
  const both = Math.min(recorded.size, end)
  for (let block = 0; block * blockBytes < both; block++) {
    if (signal.aborted) return
    const offset = block * blockBytes
    const recordedLength = Math.min(blockBytes, recorded.size - offset)
    const data = Buffer.allocUnsafeSlow(Math.min(recordedLength, end - offset))
    const length = await file.read(data, offset)
    if (length < data.length) throw cut(options, pack, offset + length)
    const digest = Buffer.from(await recorded.digests(block, 1)).subarray(0, digestBytes)
    const same = length === recordedLength && blake3(data).equals(digest)
    if (!same) yield { type: 'write', store, path: pack.path, offset, data }
  }
}

/** The pack had more when its comparison began. */
function cut({ root }: DifferenceOptions, pack: Pack, size: number): HotspareError {
  pack.sent = size
  return truncated(root, pack, size)
}

async function sameFile(
  { storage, root }: DifferenceOptions,
  recorded: InventoryFile,
  content: Buffer | undefined,
): Promise<string | undefined> {
  if (!isComparable(recorded)) return undefined
  const file = await storage.open(nativePath(root, recorded.path), 'read')
  try {
    const stat = await file.stat()
    if (stat.size !== recorded.size) return undefined
    if ((await firstDifference(file, recorded)) !== undefined) return undefined
    return content === undefined ? fileIdentity(stat) : contentIdentity(content)
  } finally {
    await file.close()
  }
}
