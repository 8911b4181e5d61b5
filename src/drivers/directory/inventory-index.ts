/**
 * An index made from what the sink says it has, for a source that has lost its own: kinds, sizes and digests are known,
 * metadata is not, so that every entry is looked at, every content compared, and only what differs is sent.
 */
import { fileKind } from '../../os/stat-buffer.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import { blockBytes, entryFlag } from './entry-flags.ts'
import { BlockBuilder, type NewEntry, Signature, signatureAt, signatureWords } from './tree-block.ts'
import { TreeIndex } from './tree-index.ts'

const digestsAtOnce = 4096

export async function indexOfInventory(inventory: Inventory): Promise<TreeIndex> {
  const tree = new Map<string, Map<string, NewEntry>>()
  directoryOf(tree, '')
  for await (const file of inventory.files()) {
    const known = file.digest === 'blake3-256' && file.blockBytes === blockBytes
    const payload = known ? await allDigests(file) : Buffer.alloc(0)
    put(tree, file.path, fileKind.file, file.size, payload, known ? entryFlag.compare : entryFlag.pending)
  }
  if (inventory.others !== undefined) {
    for await (const { path, kind } of inventory.others()) {
      if (path === '') continue
      if (kind === 'directory') {
        directoryOf(tree, path)
        continue
      }
      // what is not a file of its own is made anew, which costs no content
      const mode = kind === 'symlink' ? fileKind.symlink : kind === 'hardlink' ? fileKind.file : 0
      put(tree, path, mode, 0, Buffer.alloc(0), entryFlag.pending)
    }
  }
  const index = new TreeIndex()
  const builder = new BlockBuilder()
  for (const [path, entries] of tree) {
    const names = [...entries.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
    for (const name of names) builder.add(entries.get(name) as NewEntry)
    index.directories.set(path, builder.finish())
  }
  return index
}

async function allDigests(file: InventoryFile): Promise<Buffer> {
  const blocks = Math.ceil(file.size / blockBytes)
  const parts: Uint8Array[] = []
  for (let block = 0; block < blocks; block += digestsAtOnce)
    parts.push(await file.digests(block, Math.min(digestsAtOnce, blocks - block)))
  return parts.length === 1 ? Buffer.from(parts[0] as Uint8Array) : Buffer.concat(parts)
}

function directoryOf(tree: Map<string, Map<string, NewEntry>>, path: string): Map<string, NewEntry> {
  const known = tree.get(path)
  if (known !== undefined) return known
  const entries = new Map<string, NewEntry>()
  tree.set(path, entries)
  if (path !== '') put(tree, path, fileKind.directory, 0, Buffer.alloc(0), entryFlag.compare)
  return entries
}

function put(
  tree: Map<string, Map<string, NewEntry>>,
  path: string,
  mode: number,
  size: number,
  payload: Uint8Array,
  flags: number,
): void {
  const cut = path.lastIndexOf('/')
  const name = path.slice(cut + 1)
  const words = new Int32Array(signatureWords)
  words[signatureAt.mode] = mode
  words[signatureAt.sizeLow] = size | 0
  words[signatureAt.sizeHigh] = Math.floor(size / 2 ** 32)
  words[signatureAt.links] = 1
  // it may have had some: the copy is told what there is now
  const entry = { name, signature: new Signature(words), payload, flags: flags | entryFlag.xattrs }
  directoryOf(tree, cut < 0 ? '' : path.slice(0, cut)).set(name, entry)
}
