/**
 * What a change means for a copy's tree: which names it changes, which file's bytes. Pure, and the same each time for
 * the same tree and change, so that a journal that is read again gives the same tree.
 */
import { HotspareError, unreachable } from '../os/errors.ts'
import { displayPath, type EntryPath, type NodeChange } from '../stream/entry.ts'
import { BlockDigests } from './block-digests.ts'
import type { CopyFile, CopyTree, NameOp } from './copy-tree.ts'
import type { JournalEntry } from './redo-journal.ts'

/** Beyond this no file system that we know can hold a file; it bounds what a size in an entry can make us allocate. */
export const fileBytesMax = 2 ** 44

/** The changes of names that make `path` a file, its directories included; none when it is one. */
export function opsToMakeFile(tree: CopyTree, path: EntryPath): NameOp[] {
  const node = tree.find(path)
  if (node?.kind === 'file') return []
  if (node !== undefined) throw refuse(path, `it is a ${node.kind}, not a file`)
  return [...opsToMakeParents(tree, path), { kind: 'file', path, file: tree.addFile().id }]
}

export function opsToMakeParents(tree: CopyTree, path: EntryPath): NameOp[] {
  return tree.missingParents(path).map(parent => ({ kind: 'directory', path: parent }))
}

/** The changes of names that a change asks for; none when all is so already. */
export function opsOfChange(
  tree: CopyTree,
  change: Extract<JournalEntry, { type: 'remove' | 'rename' | 'node' }>,
): NameOp[] {
  const { path } = change
  const present = tree.find(path)
  switch (change.type) {
    case 'remove':
      return present === undefined ? [] : [{ kind: 'remove', path }]
    case 'rename': {
      if (present === undefined) throw refuse(path, 'there is nothing of this name to rename')
      if (path === change.to) return []
      return [...opsToMakeParents(tree, change.to), { kind: 'rename', path, to: change.to }]
    }
    case 'node': {
      const { node } = change
      const parents = opsToMakeParents(tree, path)
      if (node.kind === 'directory')
        return present?.kind === 'directory' ? [] : [...parents, { kind: 'directory', path }]
      if (node.kind === 'symlink') {
        if (present?.kind === 'symlink' && present.target === node.target) return []
      } else {
        const existing = tree.findFile(node.to)
        if (existing === undefined)
          throw refuse(path, `there is no file '${displayPath(node.to)}' to link to`)
        if (present?.kind === 'file' && present.file === existing) return []
      }
      return [...parents, opOfNode(path, node)]
    }
    default:
      return unreachable(change)
  }
}

export function opOfNode(path: EntryPath, node: NodeChange['node']): NameOp {
  if (node.kind === 'directory') return { kind: 'directory', path }
  if (node.kind === 'symlink') return { kind: 'symlink', path, target: node.target }
  return { kind: 'link', path, to: node.to }
}

/** Carries a change out on the tree alone, for a journal. Blocks that it changes become stale. */
export function changeTree(
  tree: CopyTree,
  entry: JournalEntry,
  taken?: BlockDigests,
): { readonly ops: readonly NameOp[]; readonly file?: CopyFile } {
  switch (entry.type) {
    case 'write':
    case 'truncate': {
      const size = entry.type === 'write' ? entry.offset + entry.data.length : entry.size
      checkSize(entry.path, size)
      const ops = applied(tree, opsToMakeFile(tree, entry.path))
      const file = tree.findFile(entry.path) as CopyFile
      if (entry.type === 'write') file.blocks.touch(entry.offset, entry.data.length)
      else file.blocks.resize(entry.size)
      return { ops, file }
    }
    case 'take': {
      const parents = opsToMakeParents(tree, entry.path)
      const blocks = taken ?? new BlockDigests(tree.blockBytes)
      if (taken === undefined) blocks.touch(0, entry.size)
      const file = tree.addFile(blocks)
      const take = { kind: 'take', path: entry.path, file: file.id, stage: entry.stage } as const
      return { ops: applied(tree, [...parents, take]), file }
    }
    case 'remove':
    case 'rename':
    case 'node': {
      const ops = applied(tree, opsOfChange(tree, entry))
      const file = tree.findFile(entry.type === 'rename' ? entry.to : entry.path)
      return file === undefined ? { ops } : { ops, file }
    }
    case 'attributes': {
      const node = tree.find(entry.path)
      if (node === undefined) throw refuse(entry.path, 'there is nothing of this name')
      return node.kind === 'file' ? { ops: [], file: node.file } : { ops: [] }
    }
    case 'commit':
      return { ops: [] }
    default:
      return unreachable(entry)
  }
}

function applied(tree: CopyTree, ops: NameOp[]): NameOp[] {
  for (const op of ops) tree.apply(op)
  return ops
}

export function checkSize(path: EntryPath, size: number): void {
  if (size > fileBytesMax) throw refuse(path, `a file of ${size} bytes is beyond the ${fileBytesMax} allowed`)
}

export function refuse(path: EntryPath, why: string): HotspareError {
  return new HotspareError('entry-invalid', `Refused a change of '${displayPath(path)}': ${why}.`, {
    details: { path },
  })
}
