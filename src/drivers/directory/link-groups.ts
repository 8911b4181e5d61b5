/** Which names are names of one file. */
import { fileKind } from '../../os/stat-buffer.ts'
import { entryFlag } from './entry-flags.ts'
import { signatureAt, type TreeBlock } from './tree-block.ts'
import type { TreeIndex } from './tree-index.ts'

const known = entryFlag.pending | entryFlag.compare

function isFile(block: TreeBlock, i: number): boolean {
  return ((block.words[block.wordOf(i)] as number) & 0o170000) === fileKind.file
}

/** Entries of a block that are files with several names. */
function* linkedEntries(block: TreeBlock): Generator<number> {
  for (let i = 0; i < block.count; i++)
    if ((block.words[block.wordOf(i) + signatureAt.links] as number) >= 2 && isFile(block, i)) yield i
}

/** What changes with a change through another name; a symbolic link too, though a copy has it once for each name. */
function* sharedEntries(block: TreeBlock): Generator<number> {
  for (let i = 0; i < block.count; i++) {
    const at = block.wordOf(i)
    if ((block.words[at + signatureAt.links] as number) < 2) continue
    if (((block.words[at] as number) & 0o170000) !== fileKind.directory) yield i
  }
}

export interface LinkedName {
  readonly directory: string
  readonly name: string
  readonly path: string
}

/** Names by inode, in the order of their paths. */
export type LinkGroups = Map<string, LinkedName[]>

type Directories = ReadonlyMap<string, TreeBlock>

/** Of files with several names, those of which the copy's state is known. */
export function knownLinkGroups(directories: Directories): LinkGroups {
  return groupsOf(directories, function* (block) {
    for (const i of linkedEntries(block)) if ((block.flags(i) & known) === 0) yield i
  })
}

/**
 * All that were found. A name that was looked at before the file got its second one says that it has none: it belongs to
 * the others all the same, for when it is read it may say otherwise.
 */
export function foundLinkGroups(directories: Directories): LinkGroups {
  const identities = new Set<string>()
  const inodes = new Set<number>()
  for (const block of directories.values()) {
    for (const i of linkedEntries(block)) {
      identities.add(block.signature(i).identity)
      inodes.add(block.words[block.wordOf(i) + signatureAt.inodeLow] as number)
    }
  }
  if (inodes.size === 0) return new Map()
  return groupsOf(directories, function* (block) {
    for (let i = 0; i < block.count; i++) {
      if (!inodes.has(block.words[block.wordOf(i) + signatureAt.inodeLow] as number)) continue
      if (isFile(block, i) && identities.has(block.signature(i).identity)) yield i
    }
  })
}

function groupsOf(directories: Directories, entriesOf: (block: TreeBlock) => Iterable<number>): LinkGroups {
  const groups: LinkGroups = new Map()
  for (const [directory, block] of directories) {
    for (const i of entriesOf(block)) {
      const identity = block.signature(i).identity
      const name = block.name(i)
      const one = { directory, name, path: directory === '' ? name : `${directory}/${name}` }
      const group = groups.get(identity)
      if (group === undefined) groups.set(identity, [one])
      else group.push(one)
    }
  }
  for (const group of groups.values()) group.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  return groups
}

/** All names, as far as they are known, of the files that differ in some of these blocks, or had a name in what is gone. */
export function linkedPaths(
  index: TreeIndex,
  blocks: ReadonlyMap<string, TreeBlock>,
): Map<string, Set<string>> {
  const touched = new Set<string>()
  const inodes = new Set<number>()
  const touch = (block: TreeBlock, i: number): void => {
    touched.add(block.signature(i).identity)
    inodes.add(block.words[block.wordOf(i) + signatureAt.inodeLow] as number)
  }
  for (const [path, block] of blocks) {
    const old = index.directories.get(path)
    for (const i of sharedEntries(block))
      if ((block.flags(i) & (entryFlag.pending | entryFlag.racy)) !== 0) touch(block, i)
    if (old === undefined) continue
    for (const i of sharedEntries(old)) {
      const now = block.findName(old.name(i))
      const same = now >= 0 && block.signature(now).equals(old.signature(i))
      if (!same) touch(old, i)
    }
  }
  for (const old of goneBlocks(index, blocks)) for (const i of sharedEntries(old)) touch(old, i)
  const paths = new Map<string, Set<string>>()
  if (touched.size === 0) return paths
  // a file that has got its second name now is known with one
  for (const [directory, block] of index.directories) {
    for (let i = 0; i < block.count; i++) {
      if (!inodes.has(block.words[block.wordOf(i) + signatureAt.inodeLow] as number)) continue
      if (!touched.has(block.signature(i).identity)) continue
      const names = paths.get(directory)
      if (names === undefined) paths.set(directory, new Set([block.name(i)]))
      else names.add(block.name(i))
    }
  }
  return paths
}

/** What the index has of directories that these blocks do not have any more: nobody looks there. */
function* goneBlocks(index: TreeIndex, blocks: ReadonlyMap<string, TreeBlock>): Generator<TreeBlock> {
  const gone = new Set<string>()
  for (const [path, block] of blocks) {
    const old = index.directories.get(path)
    for (let i = 0; old !== undefined && path !== '.' && i < old.count; i++) {
      if (((old.words[old.wordOf(i)] as number) & 0o170000) !== fileKind.directory) continue
      const name = old.name(i)
      const now = block.findName(name)
      if (now < 0 || !block.signature(now).isDirectory) gone.add(path === '' ? name : `${path}/${name}`)
    }
  }
  if (gone.size === 0) return
  for (const [path, old] of index.directories) {
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
      if (!gone.has(path.slice(0, end))) continue
      yield old
      break
    }
  }
}
