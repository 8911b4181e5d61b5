/**
 * Carries out a plan: reads what differs through the scanning threads, a few requests ahead, and gives the entries in
 * order: removals, directories and content by path, further names of files, and at last the attributes of directories,
 * deepest first. They come in groups: what an entry costs on its way is paid a hundred thousand times.
 *
 * Invariant: an entry of a block that is not `pending` says what the copy has once all that was given is applied. What
 * vanished or could not be read whole stays `pending`, and is found by the next look.
 */

import { assert } from '../../os/errors.ts'
import { fileKind } from '../../os/stat-buffer.ts'
import type { AttributesChange, Change, EntryPath, StoreName } from '../../stream/entry.ts'
import { type Arena, type ArenaPool, arenaBytes } from './arena-pool.ts'
import { DirectoryAttributes } from './directory-attributes.ts'
import { attributesChange, sameMetadata, type Xattrs } from './entry-attributes.ts'
import { entryFlag } from './entry-flags.ts'
import type { KnownFile } from './large-file.ts'
import { type DirectoryPlan, deed, type PassPlan, type PlannedLink, pathIn } from './pass-plan.ts'
import { type Reading, readUnit, type Unit, unitsOf } from './pass-units.ts'
import type { ScanPool } from './scan-pool.ts'
import { type ReadAnswer, type ReadItem, readResultWords, readStatus } from './scan-protocol.ts'
import { mergeBlock, type NewEntry, type TreeBlock } from './tree-block.ts'
import type { TreeIndex } from './tree-index.ts'
import { decodeXattrs } from './xattr-bytes.ts'

const requestsEach = 2

export interface PassOptions {
  readonly store: StoreName
  readonly pool: ScanPool
  readonly root: number
  readonly index: TreeIndex
  /** New blocks of directories that differ; changed as the pass goes on. */
  readonly blocks: Map<string, TreeBlock>
  readonly arenas: ArenaPool
  readonly racyMs: number
  /** Read a large file again while it changes. */
  readonly held: boolean
  readonly signal: AbortSignal
  /** The block of this directory was changed. */
  onBlock(directory: string): void
  /** It was changed each time while it was read. */
  onRestless(path: string): void
}

/** Entries that have to be waited for; all others are given without. */
type Later = () => AsyncGenerator<Change[]>

export class PassRun {
  readonly #plan: PassPlan
  readonly #options: PassOptions
  readonly #store: StoreName
  readonly #leaders: ReadonlySet<string>
  readonly #replaced = new Set<string>()
  readonly #failed = new Set<string>()
  readonly #vanished = new Set<string>()
  readonly #attributes = new DirectoryAttributes()
  /** Entries whose place in their block is too small; put in at the end, when no thread writes there any more. */
  readonly #late = new Map<string, Map<string, NewEntry>>()
  /** Files and bytes since the last time that it was asked. */
  files = 0
  bytes = 0

  constructor(plan: PassPlan, options: PassOptions) {
    this.#plan = plan
    this.#options = options
    this.#store = options.store
    this.#leaders = new Set(plan.links.map(link => link.leader.path))
  }

  /** What vanished, or could not be read whole: to be looked at again. */
  get unsettled(): readonly string[] {
    return [...this.#vanished, ...this.#failed]
  }

  /** Gives undefined where a commit may stand. */
  async *entries(): AsyncGenerator<Change[] | undefined> {
    const removed: Change[] = []
    for (const path of this.#plan.removed) {
      this.#attributes.touch(path)
      removed.push({ type: 'remove', store: this.#store, path: path as EntryPath })
    }
    yield removed
    yield* this.#contents()
    const last: Change[] = []
    for (const link of this.#plan.links) this.#link(link, last)
    this.#attributes.finish(last, path => this.#isVanished(path))
    this.#putLate()
    yield last
  }

  async *#contents(): AsyncGenerator<Change[] | undefined> {
    const { pool } = this.#options
    const units = unitsOf(this.#plan.directories)
    const ahead: Reading[] = []
    let ended = false
    try {
      for (;;) {
        while (!ended && ahead.length < pool.threads * requestsEach + 1) {
          const unit = units.next()
          if (unit.done) ended = true
          else ahead.push(readUnit(unit.value, this.#options))
        }
        const reading = ahead.shift()
        if (reading === undefined) return
        this.#options.signal.throwIfAborted()
        const answer = await reading.answer
        for (const item of this.#takeUnit(reading.unit, reading.arena, answer)) {
          if (typeof item === 'function') yield* item()
          else yield item
        }
        reading.arena.done()
        yield undefined
      }
    } finally {
      // nobody may close the root, or use the blocks, while threads are at work on them
      await Promise.allSettled(ahead.map(reading => reading.answer))
    }
  }

  *#takeUnit(unit: Unit, arena: Arena, answer: ReadAnswer): Generator<Change[] | Later> {
    const { results } = answer
    let group: Change[] = []
    let at = 0
    for (const { plan, from, to } of unit.parts) {
      const skipped = this.#isVanished(plan.path)
      for (let n = from; n < to; n++) {
        const what = plan.deeds[n] as number
        if (what !== deed.read) {
          if (what !== deed.large || skipped) continue
          yield group
          group = []
          yield () => this.#large(plan, n)
          continue
        }
        const later = skipped ? undefined : this.#takeResult(plan, n, results, at, arena, group)
        at += readResultWords
        if (later === undefined) continue
        yield group
        group = []
        yield later
      }
      if (!skipped) this.#options.onBlock(plan.path)
    }
    yield group
  }

  /** Adds to the group what needs no waiting. */
  #takeResult(
    plan: DirectoryPlan,
    n: number,
    results: Int32Array,
    at: number,
    arena: Arena,
    group: Change[],
  ): Later | undefined {
    const i = plan.entries[n] as number
    const status = results[at] as number
    if (status === readStatus.large) return () => this.#large(plan, n)
    if (status === readStatus.noRoom) return () => this.#alone(plan, n)
    const path = pathIn(plan, i)
    if (status === readStatus.vanished) {
      this.#vanished.add(path)
      return undefined
    }
    const xattrs = this.#xattrs(plan, n, results, at, arena)
    const kind = (plan.block.words[plan.block.wordOf(i)] as number) & 0o170000
    if (kind === fileKind.directory) this.#directory(plan, n, i, path, xattrs, group)
    else if (kind === fileKind.symlink) this.#symlink(plan, n, i, path, xattrs, group)
    else this.#file(plan, n, i, path, xattrs, results, at, arena, group)
    return undefined
  }

  #file(
    plan: DirectoryPlan,
    n: number,
    i: number,
    path: string,
    xattrs: Xattrs | undefined,
    results: Int32Array,
    at: number,
    arena: Arena,
    group: Change[],
  ): void {
    const status = results[at] as number
    const isNew = plan.isNew[n] === 1
    if (status === readStatus.same) {
      if (this.#metadataDiffers(plan, n, i) || xattrs !== undefined)
        group.push(this.#attributesOf(plan, i, path, xattrs))
    } else {
      const store = this.#store
      const length = results[at + 2] as number
      if (!isNew) group.push({ type: 'replace', store, path: path as EntryPath })
      if (length > 0 || isNew) {
        const data = arena.view(results[at + 1] as number, length)
        group.push({
          type: 'write',
          store,
          path: path as EntryPath,
          offset: 0,
          data,
          recycle: arena.giveBack,
        })
      }
      group.push(this.#attributesOf(plan, i, path, xattrs))
      if (!isNew) group.push({ type: 'replaced', store, path: path as EntryPath })
      this.#sent(path, !isNew, length)
      if (status === readStatus.restless) this.#options.onRestless(path)
    }
    this.#settle(plan.block, i)
  }

  #symlink(
    plan: DirectoryPlan,
    n: number,
    i: number,
    path: string,
    xattrs: Xattrs | undefined,
    group: Change[],
  ): void {
    const target = plan.block.payload(i)
    const old = plan.oldEntries[n] as number
    const same = old >= 0 && plan.old?.payload(old).equals(target) === true
    if (!same) {
      const node = { kind: 'symlink', target: target.toString('latin1') } as const
      group.push({ type: 'node', store: this.#store, path: path as EntryPath, node })
      this.#sent(path, false, 0)
    }
    if (!same || this.#metadataDiffers(plan, n, i) || xattrs !== undefined)
      group.push(this.#attributesOf(plan, i, path, xattrs))
    this.#settle(plan.block, i)
  }

  #directory(
    plan: DirectoryPlan,
    n: number,
    i: number,
    path: string,
    xattrs: Xattrs | undefined,
    group: Change[],
  ): void {
    const unknown = (plan.oldEntries[n] as number) < 0
    if (unknown && path !== '') {
      group.push({
        type: 'node',
        store: this.#store,
        path: path as EntryPath,
        node: { kind: 'directory' },
      })
      this.#sent(path, false, 0)
    }
    this.#attributes.put(path, {
      change: this.#attributesOf(plan, i, path, xattrs),
      differs: unknown || xattrs !== undefined || this.#metadataDiffers(plan, n, i),
      done: () => {
        this.#settle(plan.block, i)
        this.#options.onBlock(plan.path)
      },
    })
  }

  /** Read with memory of its own: the file has grown since it was seen. */
  async *#alone(plan: DirectoryPlan, n: number): AsyncGenerator<Change[]> {
    const { pool, root, racyMs, arenas } = this.#options
    const arena = arenas.take()
    assert(arena.bytes.length === arenaBytes, 'an arena has room for any small file')
    const item: ReadItem = {
      path: plan.path,
      block: plan.block.bytes,
      old: plan.old?.bytes,
      entries: Int32Array.of(plan.entries[n] as number),
      oldEntries: Int32Array.of(plan.oldEntries[n] as number),
    }
    const { results } = await pool.read({ kind: 'read', root, racyMs, items: [item], arena: arena.memory })
    const group: Change[] = []
    const later = this.#takeResult(plan, n, results, 0, arena, group)
    yield group
    if (later !== undefined) yield* later()
    arena.done()
  }

  async *#large(plan: DirectoryPlan, n: number): AsyncGenerator<Change[]> {
    const i = plan.entries[n] as number
    const path = pathIn(plan, i)
    const old = plan.oldEntries[n] as number
    // with what digests need, which a tree of small files does without
    const { LargeFile } = await import('./large-file.ts')
    const file = new LargeFile({
      ...this.#options,
      path,
      old: old < 0 || plan.old === undefined ? undefined : knownFile(plan.old, old),
      isNew: plan.isNew[n] === 1,
    })
    for await (const change of file.entries()) yield [change]
    const { outcome } = file
    if (outcome === undefined) {
      this.#vanished.add(path)
      return
    }
    if (outcome.content) this.#sent(path, outcome.replaced, outcome.bytes)
    if (!outcome.whole) {
      this.#failed.add(path)
      this.#options.onRestless(path)
      return
    }
    if (outcome.restless) this.#options.onRestless(path)
    const entry: NewEntry = { name: plan.block.name(i), ...outcome }
    if (!replaceInPlace(plan.block, i, entry)) {
      const late = this.#late.get(plan.path)
      if (late === undefined) this.#late.set(plan.path, new Map([[entry.name, entry]]))
      else late.set(entry.name, entry)
    }
  }

  #link(link: PlannedLink, group: Change[]): void {
    const { name, leader } = link
    const path = name.path as EntryPath
    if (this.#isVanished(leader.path) || this.#isVanished(name.directory) || this.#failed.has(leader.path))
      return
    if (!link.isLinked || this.#replaced.has(leader.path)) {
      if (link.exists) group.push({ type: 'remove', store: this.#store, path })
      const node = { kind: 'hardlink', to: leader.path as EntryPath } as const
      group.push({ type: 'node', store: this.#store, path, node })
      this.#sent(name.path, false, 0)
    }
    this.#takeOver(link)
  }

  /** What is known of the leader's content is known of its other names, if they still are names of the same file. */
  #takeOver({ name, leader }: PlannedLink): void {
    const { index, blocks } = this.#options
    const late = this.#late.get(leader.directory)?.get(leader.name)
    const from = blocks.get(leader.directory) ?? index.directories.get(leader.directory)
    const fromEntry = from?.findName(leader.name) ?? -1
    let into = blocks.get(name.directory)
    if (into === undefined) {
      const known = index.directories.get(name.directory)
      if (known === undefined) return
      into = mergeBlock(known, new Map())
      blocks.set(name.directory, into)
    }
    const i = into.findName(name.name)
    if (i < 0 || from === undefined || fromEntry < 0) return
    this.#options.onBlock(name.directory)
    const signature = late?.signature ?? from.signature(fromEntry)
    const flags = late?.flags ?? from.flags(fromEntry)
    const payload = late?.payload ?? from.payload(fromEntry)
    const entry: NewEntry = { name: name.name, signature, flags, payload }
    const still = into.signature(i).equals(signature) && (flags & entryFlag.pending) === 0
    if (!still || !replaceInPlace(into, i, entry)) into.setFlags(i, into.flags(i) | entryFlag.pending)
  }

  #putLate(): void {
    const { blocks } = this.#options
    for (const [directory, entries] of this.#late) {
      blocks.set(directory, mergeBlock(blocks.get(directory), entries))
      this.#options.onBlock(directory)
    }
  }

  /** Undefined: as before; none where there were some before is said. */
  #xattrs(plan: DirectoryPlan, n: number, results: Int32Array, at: number, arena: Arena): Xattrs | undefined {
    const length = results[at + 4] as number
    if (length > 0) {
      const start = results[at + 3] as number
      return decodeXattrs(arena.bytes.subarray(start, start + length))
    }
    if (plan.isNew[n] === 1) return undefined
    const old = plan.oldEntries[n] as number
    const known = old < 0 ? undefined : plan.old
    // of what the copy has under the name nothing is known, so perhaps some
    if (known === undefined) return {}
    return (known.flags(old) & entryFlag.xattrs) !== 0 ? {} : undefined
  }

  #metadataDiffers(plan: DirectoryPlan, n: number, i: number): boolean {
    const old = plan.oldEntries[n] as number
    if (old < 0 || plan.old === undefined) return true
    return !sameMetadata(plan.old.signature(old), plan.block.signature(i))
  }

  #attributesOf(plan: DirectoryPlan, i: number, path: string, xattrs: Xattrs | undefined): AttributesChange {
    return attributesChange(this.#store, path, plan.block.signature(i), xattrs)
  }

  /** Something was given for a path. */
  #sent(path: string, replaced: boolean, bytes: number): void {
    this.files++
    this.bytes += bytes
    this.#attributes.touch(path)
    if (replaced && this.#leaders.has(path)) this.#replaced.add(path)
  }

  #settle(block: TreeBlock, i: number): void {
    block.setFlags(i, block.flags(i) & ~entryFlag.pending)
  }

  /** It, or a directory that it is in, was not there any more when it was to be read. */
  #isVanished(path: string): boolean {
    if (this.#vanished.size === 0) return false
    if (this.#vanished.has(path)) return true
    for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1))
      if (this.#vanished.has(path.slice(0, cut))) return true
    return false
  }
}

function knownFile(block: TreeBlock, i: number): KnownFile {
  const signature = block.signature(i)
  return { size: signature.size, payload: block.payload(i), flags: block.flags(i), signature }
}

function replaceInPlace(block: TreeBlock, i: number, entry: NewEntry): boolean {
  if (block.payloadLength(i) !== entry.payload.length) return false
  const at = block.wordOf(i)
  for (let word = 0; word < 16; word++)
    block.words[at + word] = entry.signature.words[entry.signature.at + word] as number
  block.payload(i).set(entry.payload)
  block.setFlags(i, entry.flags ?? 0)
  return true
}
