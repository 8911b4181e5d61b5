/**
 * What has to be done to a copy that is as the index says, to make it as the tree was found: decided before any of it is
 * read. Pure, but for flags in the new blocks.
 *
 * An inode of the copy belongs to the inode of the source that it was made from. So of the names that shared an inode,
 * those that left it get a new version wholly, and the others are linked to the one that keeps it.
 */
import { fileKind } from '../../os/stat-buffer.ts'
import { entryFlag, isSmall } from './entry-flags.ts'
import { foundLinkGroups, knownLinkGroups, type LinkedName } from './link-groups.ts'
import { compareEntries, mergeBlock, type TreeBlock } from './tree-block.ts'
import type { TreeIndex } from './tree-index.ts'

/** What is done about an entry. */
export const deed = {
  /** Its content or metadata are read by a scanning thread. */
  read: 0,
  /** A large file, read block by block. */
  large: 1,
  /** Nothing here: another name of a file, linked at the end. */
  link: 2,
  /** Not copied: neither file, directory nor link. */
  special: 3,
} as const

export interface DirectoryPlan {
  readonly path: string
  readonly old: TreeBlock | undefined
  readonly block: TreeBlock
  /** Entries of the block that differ, ascending, with what follows for each. */
  readonly entries: number[]
  /** The entry of the old block that the copy has, or -1. */
  readonly oldEntries: number[]
  /** 1: the copy has nothing under this name. */
  readonly isNew: number[]
  readonly deeds: number[]
}

export interface PlannedLink {
  readonly name: LinkedName
  readonly leader: LinkedName
  /** The copy has it as a name of the leader already. */
  readonly isLinked: boolean
  /** The copy has something under this name. */
  readonly exists: boolean
}

export interface PassPlan {
  /** In the order of their paths. */
  readonly removed: readonly string[]
  /** Directories of the index that are not there any more. */
  readonly gone: readonly string[]
  /** In the order of their paths. */
  readonly directories: readonly DirectoryPlan[]
  readonly links: readonly PlannedLink[]
  readonly special: readonly string[]
}

const unsettled = entryFlag.pending | entryFlag.racy

/** `blocks` gains the parents of directories that differ, and loses what is in no directory. */
export function planPass(index: TreeIndex, blocks: Map<string, TreeBlock>): PassPlan {
  dropOrphans(index, blocks)
  includeOwnEntries(index, blocks)
  const removed: string[] = []
  const gone: string[] = []
  const special: string[] = []
  const plans = new Map<string, DirectoryPlan>()
  let linked = false
  for (const path of [...blocks.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))) {
    const block = blocks.get(path) as TreeBlock
    const old = index.directories.get(path)
    const plan: DirectoryPlan = { path, old, block, entries: [], oldEntries: [], isNew: [], deeds: [] }
    plans.set(path, plan)
    const childPath = (name: string): string => (path === '' || path === '.' ? name : `${path}/${name}`)
    const remove = (i: number): void => {
      const before = (old as TreeBlock).signature(i)
      if (!isCopied(before.kind)) return
      const child = childPath((old as TreeBlock).name(i))
      removed.push(child)
      if (before.isDirectory) gone.push(...index.subtree(child))
    }
    let next = 0
    for (let i = 0; i < block.count; i++) {
      let same = -1
      if (old !== undefined) {
        while (next < old.count) {
          const order = compareEntries(old, next, block, i)
          if (order > 0) break
          if (order === 0) same = next
          else remove(next)
          next++
          if (order === 0) break
        }
      }
      const flags = block.flags(i)
      if ((flags & unsettled) === 0) continue
      const kind = (block.words[block.wordOf(i)] as number) & 0o170000
      const oldKind =
        same < 0 || old === undefined ? undefined : (old.words[old.wordOf(same)] as number) & 0o170000
      let isNew = same < 0
      if (oldKind !== undefined && oldKind !== kind) {
        remove(same)
        // what was removed may be kept at the copy all the same: so it does not count as new where that matters
        isNew = kind !== fileKind.file
        same = -1
      }
      const unknown = same >= 0 && ((old as TreeBlock).flags(same) & entryFlag.pending) !== 0
      const links = (b: TreeBlock, e: number): boolean =>
        kind === fileKind.file && (b.words[b.wordOf(e) + 3] as number) > 1
      linked ||= links(block, i) || (same >= 0 && links(old as TreeBlock, same))
      plan.entries.push(i)
      plan.oldEntries.push(unknown ? -1 : same)
      plan.isNew.push(isNew ? 1 : 0)
      plan.deeds.push(deedFor(block, i, kind))
      if (isCopied(kind)) continue
      if ((flags & entryFlag.pending) !== 0 && oldKind !== kind) special.push(childPath(block.name(i)))
      block.setFlags(i, 0)
    }
    if (old !== undefined) for (; next < old.count; next++) remove(next)
  }
  const links = linked ? planLinks(index, blocks, new Set(gone), plans) : []
  const directories = [...plans.values()].filter(plan => plan.entries.length > 0)
  removed.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  return { removed: withoutInner(removed), gone, directories, links, special }
}

/** Nothing has to be done at the copy. */
export function isEmptyPlan({ removed, directories, links }: PassPlan): boolean {
  return removed.length === 0 && directories.length === 0 && links.length === 0
}

export function isCopied(kind: number): boolean {
  return kind === fileKind.file || kind === fileKind.directory || kind === fileKind.symlink
}

function deedFor(block: TreeBlock, i: number, kind: number): number {
  if (!isCopied(kind)) return deed.special
  return kind === fileKind.file && !isSmall(block.signature(i).size) ? deed.large : deed.read
}

/**
 * A directory that was moved while the tree was looked at may have been seen where its parent, looked at before or after,
 * does not have it. The next look finds it where it is.
 */
function dropOrphans(index: TreeIndex, blocks: Map<string, TreeBlock>): void {
  const known = new Map<string, boolean>([['', true]])
  const exists = (path: string): boolean => {
    const before = known.get(path)
    if (before !== undefined) return before
    const cut = path.lastIndexOf('/')
    const parent = cut < 0 ? '' : path.slice(0, cut)
    const block = exists(parent) ? (blocks.get(parent) ?? index.directories.get(parent)) : undefined
    const i = block?.findName(path.slice(cut + 1)) ?? -1
    const is = block !== undefined && i >= 0 && block.signature(i).isDirectory
    known.set(path, is)
    return is
  }
  for (const path of [...blocks.keys()]) if (path !== '.' && !exists(path)) blocks.delete(path)
}

/**
 * What happens in a directory of the copy changes its times there, so that they have to be set again: its own entry, in
 * its parent, is looked at too.
 */
function includeOwnEntries(index: TreeIndex, blocks: Map<string, TreeBlock>): void {
  for (const path of [...blocks.keys()]) {
    if (path === '.') continue
    const cut = path.lastIndexOf('/')
    const parent = path === '' ? '.' : cut < 0 ? '' : path.slice(0, cut)
    let block = blocks.get(parent)
    if (block === undefined) {
      const known = index.directories.get(parent)
      if (known === undefined) continue
      block = mergeBlock(known, new Map())
      blocks.set(parent, block)
    }
    const i = block.findName(path === '' ? '.' : path.slice(cut + 1))
    if (i >= 0) block.setFlags(i, block.flags(i) | entryFlag.racy)
  }
}

/** One removal of a directory takes all that is in it. */
function withoutInner(sorted: readonly string[]): string[] {
  const all = new Set(sorted)
  return sorted.filter(path => {
    for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1))
      if (all.has(path.slice(0, cut))) return false
    return true
  })
}

function planLinks(
  index: TreeIndex,
  blocks: ReadonlyMap<string, TreeBlock>,
  gone: ReadonlySet<string>,
  plans: ReadonlyMap<string, DirectoryPlan>,
): PlannedLink[] {
  const before = knownLinkGroups(index.directories)
  const oldIdentity = new Map<string, string>()
  for (const [identity, group] of before)
    if (group.length > 1) for (const { path } of group) oldIdentity.set(path, identity)
  const now = new Map(index.directories)
  for (const path of gone) now.delete(path)
  for (const [path, block] of blocks) now.set(path, block)
  now.delete('.')
  const groups = foundLinkGroups(now)

  // names that left their inode, or have got another: nothing of what the copy has under them may be built on
  for (const plan of plans.values()) {
    for (const [n, i] of plan.entries.entries()) {
      if ((plan.oldEntries[n] as number) < 0) continue
      const path = pathIn(plan, i)
      const former = oldIdentity.get(path)
      if (former !== undefined && former !== plan.block.signature(i).identity) plan.oldEntries[n] = -1
    }
  }

  const links: PlannedLink[] = []
  for (const [identity, group] of groups) {
    if (group.length < 2 || !group.some(one => planned(plans, one) !== undefined)) continue
    const keeper = group.find(one => isKept(index, plans, one, identity))
    const leader = keeper ?? (group[0] as LinkedName)
    const leaderLinked = oldIdentity.get(leader.path) === identity
    for (const name of group) {
      if (name === leader) continue
      const plan = planned(plans, name)
      if (plan !== undefined) plan.plan.deeds[plan.n] = deed.link
      const exists = plan === undefined || plan.plan.isNew[plan.n] === 0
      const isLinked = leaderLinked && oldIdentity.get(name.path) === identity
      links.push({ name, leader, isLinked, exists })
    }
  }
  return links.sort((a, b) => (a.name.path < b.name.path ? -1 : 1))
}

/** True when the copy has this name with the content of this very inode, as far as the index knows. */
function isKept(
  index: TreeIndex,
  plans: ReadonlyMap<string, DirectoryPlan>,
  name: LinkedName,
  identity: string,
): boolean {
  const plan = planned(plans, name)
  if (plan === undefined) {
    const found = index.find(name.path)
    return found !== undefined && (found.block.flags(found.i) & unsettled & ~entryFlag.racy) === 0
  }
  const old = plan.plan.oldEntries[plan.n] as number
  if (old < 0 || plan.plan.old === undefined) return false
  const comparable = (plan.plan.old.flags(old) & entryFlag.compare) !== 0
  return comparable || plan.plan.old.signature(old).identity === identity
}

function planned(
  plans: ReadonlyMap<string, DirectoryPlan>,
  name: LinkedName,
): { readonly plan: DirectoryPlan; readonly n: number } | undefined {
  const plan = plans.get(name.directory)
  if (plan === undefined) return undefined
  const i = plan.block.findName(name.name)
  const n = lowerBound(plan.entries, i)
  return plan.entries[n] === i ? { plan, n } : undefined
}

function lowerBound(sorted: readonly number[], value: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] as number) < value) low = middle + 1
    else high = middle
  }
  return low
}

export function pathIn(plan: DirectoryPlan, i: number): string {
  const name = plan.block.name(i)
  if (plan.path === '.') return ''
  return plan.path === '' ? name : `${plan.path}/${name}`
}
