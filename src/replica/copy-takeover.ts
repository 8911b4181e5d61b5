/**
 * Takes a copy as it is on disk (`--resync`): its names, and the digests of its bytes. What is recorded of a file is
 * believed where its times are those that were recorded; everything else is read.
 */
import type { Storage } from '../os/storage.ts'
import { nativePath } from '../stream/entry.ts'
import { type CopyFile, CopyTree, type FileMark } from './copy-tree.ts'
import { type Found, walkCopy } from './copy-walk.ts'

export async function takeOver(
  storage: Storage,
  root: string,
  recorded: CopyTree | undefined,
  blockBytes: number,
): Promise<CopyTree> {
  const tree = new CopyTree(blockBytes)
  const byInode = new Map<bigint, CopyFile>()
  for await (const found of walkCopy(storage, root)) {
    const { path, stat } = found
    if (stat.kind === 'directory') {
      tree.apply({ kind: 'directory', path })
      await storage.syncDirectory(nativePath(root, path))
    } else if (stat.kind === 'other') tree.apply({ kind: 'other', path })
    else if (stat.kind === 'symlink') {
      const target = (await storage.readlink(nativePath(root, path))).toString('latin1')
      tree.apply({ kind: 'symlink', path, target })
    } else {
      const file = byInode.get(stat.inode) ?? tree.addFile()
      tree.apply({ kind: 'file', path, file: file.id })
      if (stat.links > 1) {
        if (byInode.has(stat.inode)) continue
        byInode.set(stat.inode, file)
      }
      await takeFile(storage, root, found, file, recorded)
    }
  }
  return tree
}

async function takeFile(
  storage: Storage,
  root: string,
  { path, stat }: Found,
  file: CopyFile,
  recorded: CopyTree | undefined,
): Promise<void> {
  file.mark = { mtimeNs: stat.mtimeNs, ctimeNs: stat.ctimeNs, inode: stat.inode }
  const known = recorded?.findFile(path)
  if (known !== undefined && known.size === stat.size && isSame(known.mark, file.mark)) {
    file.blocks.restore(known.size, 0, known.blocks.slice(0, known.blocks.count))
    return
  }
  const open = await storage.open(nativePath(root, path), 'read')
  try {
    const buffer = Buffer.allocUnsafe(file.blocks.blockBytes)
    for (let offset = 0; ; offset += buffer.length) {
      const length = await open.read(buffer, offset)
      file.blocks.append(buffer.subarray(0, length))
      if (length < buffer.length) break
    }
    // nothing is recorded that a power failure could take away
    await open.sync()
  } finally {
    await open.close()
  }
}

function isSame(a: FileMark | undefined, b: FileMark): boolean {
  return a?.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.inode === b.inode
}
