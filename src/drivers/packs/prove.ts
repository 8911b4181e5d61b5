/**
 * Proves, before anything is sent, that what the sink has is a prefix of the source: of every pack the recorded size and
 * the digest of the last recorded block, of the newest pack also the digest in the position. Throws `diverged` naming
 * pack and offset when it is not; then only a comparison (resync) helps.
 */
import { HotspareError } from '../../os/errors.ts'
import type { FileStat, Storage } from '../../os/storage.ts'
import { displayPath, type EntryPath, entryPath, nativePath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import { blockCount, firstDifference, isComparable, tailDifference } from './digest-blocks.ts'
import type { Pack } from './pack.ts'
import type { Scan } from './pack-set.ts'
import { type PacksPosition, tailDigest } from './position.ts'
import type { Profile } from './profile.ts'
import { TailWindow } from './tail-window.ts'
import { contentIdentity, type FileIdentity, fileIdentity } from './whole-files.ts'

/** An engine that drops an incomplete end drops at most this much of it. */
const cutBlocksMax = 64

export interface ProofOptions {
  readonly root: string
  readonly storage: Storage
  readonly profile: Profile
  readonly position: PacksPosition
  readonly scan: Scan
  readonly inventory: Inventory | undefined
}

/** What of the copy needs no sending; the packs know for themselves. */
export interface Proved {
  readonly trees: Set<string>
  readonly wholes: ReadonlyMap<string, FileIdentity>
  readonly strays: Set<EntryPath>
  /**
   * The newest pack that the copy has, which may be newer than the position's: then that one is whole on the copy,
   * because a pack is begun there only when the one before it is complete and durable.
   */
  readonly newest: EntryPath | undefined
}

export async function proveContinuity(options: ProofOptions): Promise<Proved> {
  const { position, scan, inventory } = options
  const proved = inventory === undefined ? trustPosition(options) : await proveInventory(options, inventory)
  const newest = scan.packs.find(pack => pack.path === position.newest?.path)
  if (newest !== undefined && wasRemoved(options, newest, proved)) newest.removed = true
  else if (newest !== undefined && newest.cutTo === undefined) await proveTail(options, newest)
  requireWhole(options)
  return proved
}

/** A sink that can't say what it has: the position says it, since packs are sent in ascending order. */
function trustPosition({ position, scan }: ProofOptions): Proved {
  const { newest } = position
  const at = scan.packs.findIndex(pack => pack.path === newest?.path)
  for (const [index, pack] of scan.packs.entries()) {
    if (newest === undefined || index > at) break
    pack.sent = index === at ? newest.offset : pack.stat.size
    pack.created = true
  }
  return { trees: new Set(), wholes: new Map(), strays: new Set(), newest: newest?.path }
}

async function proveInventory(options: ProofOptions, inventory: Inventory): Promise<Proved> {
  const { scan } = options
  const packs = new Map<string, Pack>(scan.packs.map(pack => [pack.path, pack]))
  const wholeNames = new Set(scan.layout.wholes.map(whole => whole.name))
  const treeNames = new Set(scan.layout.trees)
  const wholes = new Map<string, FileIdentity>()
  const treeFiles = new Map<string, InventoryFile[]>()
  const strays = new Set<EntryPath>()
  const copied = new Map<string, FileStat>()

  for await (const file of inventory.files()) {
    copied.set(file.path, statOf(file))
    const pack = packs.get(file.path)
    const top = file.path.split('/')[0]!
    if (pack !== undefined && isSpent(options, pack)) {
      strays.add(pack.path)
    } else if (pack !== undefined) {
      await provePack(options, pack, file)
    } else if (wholeNames.has(file.path)) {
      const identity = await sameWhole(options, file)
      if (identity !== undefined) wholes.set(file.path, identity)
    } else if (treeNames.has(top)) {
      treeFiles.set(top, [...(treeFiles.get(top) ?? []), file])
    } else {
      strays.add(entryPath(top))
    }
  }

  const trees = new Set<string>()
  for (const [name, files] of treeFiles) {
    if (await sameTree(options, name, files)) trees.add(name)
    else strays.add(entryPath(name))
  }
  const copy = await options.profile.layout({ entries: copied, readSmall: async () => undefined })
  return { trees, wholes, strays, newest: copy?.packs.at(-1) as EntryPath | undefined }
}

/** As much of a stat as a layout looks at. */
function statOf({ size }: InventoryFile): FileStat {
  const nothing = {
    allocatedBytes: size,
    mtimeNs: 0n,
    ctimeNs: 0n,
    inode: 0n,
    device: 0n,
    links: 1,
    mode: 0,
    uid: 0,
    gid: 0,
  }
  return { kind: 'file', size, ...nothing }
}

async function provePack(
  { root, profile, scan }: ProofOptions,
  pack: Pack,
  recorded: InventoryFile,
): Promise<void> {
  const file = await pack.file()
  const { size } = await file.stat()
  if (profile.tailMayShrink && pack === scan.packs.at(-1) && isComparable(recorded)) {
    return proveCutTail(root, pack, recorded)
  }
  if (size < recorded.size) {
    throw diverged(root, pack.name, size, `it has ${size} bytes there, the copy has ${recorded.size}`)
  }
  if (isComparable(recorded)) {
    const at = await tailDifference(file, recorded)
    if (at !== undefined) throw diverged(root, pack.name, at, 'the bytes from there differ')
  }
  pack.sent = recorded.size
  pack.created = true
}

/**
 * The engine may have cut an incomplete end off and gone on from there, so the last blocks may differ. The first of
 * them that does is where the copy is to be cut.
 */
async function proveCutTail(root: string, pack: Pack, recorded: InventoryFile): Promise<void> {
  const file = await pack.file()
  const count = blockCount(recorded)
  const first = Math.max(0, count - cutBlocksMax)
  const at = await firstDifference(file, recorded, { first, count: count - first })
  if (at !== undefined && at === first * recorded.blockBytes && first > 0) {
    throw diverged(root, pack.name, at, 'the bytes from there differ')
  }
  pack.sent = recorded.size
  pack.cutTo = at
  pack.created = true
}

/** Gone at the source with its descriptor, and whole on the copy as the position says: only its removal is left. */
function isSpent({ profile, position }: ProofOptions, pack: Pack): boolean {
  const { newest } = position
  return pack.vanished && !pack.held && newest !== undefined && profile.compare(pack.path, newest.path) < 0
}

/** Its removal reached the copy, which has newer ones, and the commit after it did not. */
function wasRemoved({ profile }: ProofOptions, pack: Pack, { newest }: Proved): boolean {
  return pack.vanished && !pack.created && newest !== undefined && profile.compare(newest, pack.path) > 0
}

/** The position's own digest, which needs no inventory. A sink that applies in order may have more than its position says. */
async function proveTail({ root, position }: ProofOptions, pack: Pack): Promise<void> {
  const newest = position.newest!
  if (pack.sent < newest.offset) {
    throw diverged(root, pack.name, newest.offset, `the copy has ${pack.sent} bytes of it`)
  }
  const tail = new TailWindow()
  const whole = await tail.load(await pack.file(), newest.offset)
  if (!whole || tailDigest(tail.bytes) !== newest.tailDigest) {
    throw diverged(root, pack.name, newest.offset - tail.bytes.length, 'the bytes from there differ')
  }
}

/** Every pack before the newest must be whole on the copy: nothing is ever appended to it again. */
function requireWhole({ root, profile, position, scan }: ProofOptions): void {
  const { newest } = position
  if (newest === undefined || profile.vanished === 'drop') return
  for (const pack of scan.packs) {
    if (profile.compare(pack.path, newest.path) >= 0) return
    if (!pack.created && pack.vanished) {
      // it is to be removed, or its removal reached the copy and the commit after it did not
      pack.removed = true
      continue
    }
    if (!pack.created) throw diverged(root, pack.name, 0, 'the copy does not have it')
    if (pack.sent !== pack.stat.size) {
      throw diverged(root, pack.name, pack.sent, `the copy ends there, the pack has ${pack.stat.size} bytes`)
    }
    pack.finished = true
  }
}

async function sameWhole(options: ProofOptions, recorded: InventoryFile): Promise<FileIdentity | undefined> {
  const { storage, root, scan } = options
  const stat = scan.view.entries.get(recorded.path)
  if (stat === undefined || stat.size !== recorded.size || !isComparable(recorded)) return undefined
  const file = await storage.open(nativePath(root, recorded.path), 'read')
  try {
    const opened = await file.stat()
    if (fileIdentity(opened) !== fileIdentity(stat)) return undefined
    if ((await firstDifference(file, recorded)) !== undefined) return undefined
  } finally {
    await file.close()
  }
  const content = scan.layout.wholes.find(whole => whole.name === recorded.path)?.content
  return content === undefined ? fileIdentity(stat) : contentIdentity(content)
}

/** A tree never changes, so names, sizes and tails tell. */
async function sameTree(options: ProofOptions, name: string, recorded: InventoryFile[]): Promise<boolean> {
  const { storage, root } = options
  const names = await storage.list(nativePath(root, entryPath(name)))
  if (names.length !== recorded.length) return false
  for (const one of recorded) {
    if (!isComparable(one)) return false
    const stat = await storage.stat(nativePath(root, one.path))
    if (stat === undefined || stat.size !== one.size) return false
    const file = await storage.open(nativePath(root, one.path), 'read')
    try {
      if ((await tailDifference(file, one)) !== undefined) return false
    } finally {
      await file.close()
    }
  }
  return true
}

function diverged(root: string, pack: string, offset: number, found: string): HotspareError {
  return new HotspareError(
    'diverged',
    `The copy is not a prefix of ${root}: pack ${displayPath(pack)} at offset ${offset}: ${found}. Use --resync to compare and send the difference.`,
    { details: { pack, offset } },
  )
}
