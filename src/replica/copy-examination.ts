/**
 * Compares a copy with what its state says, before it is gone on with: was it changed by somebody else?
 *
 * Names and sizes are always compared. The bytes of a file are, by their digests, when its times are not those that
 * were recorded: all of them when it should have been finished, its last blocks when it was being written up to the
 * end. A file may be longer than is recorded only where a crash can leave that.
 */
import type { Storage } from '../os/storage.ts'
import { type EntryPath, nativePath } from '../stream/entry.ts'
import type { CopyFile, TreeNode } from './copy-tree.ts'
import { type Found, walkCopy } from './copy-walk.ts'
import { changed } from './direct-changes.ts'
import type { CopyState } from './state-log.ts'

/** Of a file that was being written, so many blocks from its end are compared. */
const tailBlocks = 2

export interface Examination {
  /** Real sizes of files that are longer than what is recorded of them. */
  readonly excess: Map<CopyFile, number>
}

/** Throws `target-changed`, naming the first difference. */
export async function examineCopy(
  storage: Storage,
  root: string,
  state: CopyState,
  mayExceed: boolean,
): Promise<Examination> {
  const excess = new Map<CopyFile, number>()
  const verified = new Set<CopyFile>()
  let matched = 0
  for await (const found of walkCopy(storage, root)) {
    const node = state.tree.find(found.path)
    if (node === undefined) throw changed(root, found.path, 'was put there by somebody else')
    matched++
    await examineNode(storage, root, found, node)
    if (node.kind !== 'file' || verified.has(node.file)) continue
    verified.add(node.file)
    await examineFile(storage, root, state, found, node.file)
    if (found.stat.size === node.file.size) continue
    if (!mayExceed || state.closed)
      throw changed(root, found.path, `has ${found.stat.size} bytes; ${node.file.size} were copied`)
    excess.set(node.file, found.stat.size)
  }
  if (matched < [...state.tree.walk()].length) {
    for (const { path } of state.tree.walk())
      if ((await storage.stat(nativePath(root, path))) === undefined)
        throw changed(root, path, 'is gone: somebody else removed it')
  }
  return { excess }
}

async function examineNode(
  storage: Storage,
  root: string,
  { path, stat }: Found,
  node: TreeNode,
): Promise<void> {
  if (stat.kind !== node.kind) throw changed(root, path, `is a ${stat.kind} now, and was a ${node.kind}`)
  if (node.kind !== 'symlink') return
  const target = (await storage.readlink(nativePath(root, path))).toString('latin1')
  if (target !== node.target) throw changed(root, path, 'is a symbolic link that leads elsewhere now')
}

async function examineFile(
  storage: Storage,
  root: string,
  state: CopyState,
  { path, stat }: Found,
  file: CopyFile,
): Promise<void> {
  if (stat.size < file.size) throw changed(root, path, `has ${stat.size} bytes; ${file.size} were copied`)
  const { mark } = file
  const untouched =
    mark !== undefined &&
    mark.mtimeNs === stat.mtimeNs &&
    mark.ctimeNs === stat.ctimeNs &&
    mark.inode === stat.inode
  if (untouched) return
  const writing = state.hot.has(file) && !state.closed && mark?.inode === stat.inode
  const block = await findDifference(storage, root, path, file, writing ? file.blocks.count - tailBlocks : 0)
  if (block === undefined) return
  const offset = block * file.blocks.blockBytes
  throw changed(root, path, `differs from what was copied, in its bytes from ${offset}`)
}

/** The first block from `first` on that is not as recorded. */
export async function findDifference(
  storage: Storage,
  root: string,
  path: EntryPath,
  file: CopyFile,
  first: number,
): Promise<number | undefined> {
  const { blocks } = file
  const open = await storage.open(nativePath(root, path), 'read')
  try {
    const buffer = Buffer.allocUnsafe(blocks.blockBytes)
    for (let block = Math.max(0, first); block < blocks.count; block++) {
      const bytes = buffer.subarray(0, blocks.blockLength(block))
      const length = await open.read(bytes, block * blocks.blockBytes)
      if (length < bytes.length || !blocks.matches(block, bytes)) return block
    }
    return undefined
  } finally {
    await open.close()
  }
}
