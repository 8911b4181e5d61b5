/**
 * The packs of a source directory as they are now, every unfinished one open: a pack that is deleted can still be read
 * to its end. What the engine of an append-only store never does (rename over, truncate, grow after a successor, leave
 * a hole in the sequence) is named here, and nothing of it reaches the copy.
 */
import type { Clock } from '../../os/clock.ts'
import { describeSystemError, HotspareError, isSystemError } from '../../os/errors.ts'
import type { FileStat, Storage } from '../../os/storage.ts'
import { openFilesMax } from '../../os/syscalls.ts'
import { displayPath, type EntryPath, entryPath } from '../../stream/entry.ts'
import { viewDirectory } from './directory-view.ts'
import { grownAfterSuccessor, replaced, truncated } from './faults.ts'
import { Pack } from './pack.ts'
import type { DirectoryView, Layout, Profile } from './profile.ts'

/** However many files the process may have open. */
const heldPacksMax = 16_384
const scanTriesMax = 200
const scanRetryMs = 10

export interface Scan {
  readonly view: DirectoryView
  readonly layout: Layout
  /** In order: those of the layout, and vanished ones that are still to be finished. */
  readonly packs: readonly Pack[]
}

export class PackSet {
  readonly #storage: Storage
  readonly #clock: Clock
  readonly #root: string
  readonly #profile: Profile
  /** Unfinished packs beyond this many are opened only as earlier ones are finished. */
  readonly #heldMax: number
  readonly #packs = new Map<string, Pack>()

  constructor(options: {
    storage: Storage
    clock: Clock
    root: string
    profile: Profile
    /** Half of the files that the process may have open, unless told otherwise. */
    heldMax?: number
  }) {
    this.#storage = options.storage
    this.#clock = options.clock
    this.#root = options.root
    this.#profile = options.profile
    this.#heldMax = options.heldMax ?? Math.min(heldPacksMax, Math.floor(openFilesMax() / 2))
  }

  all(): Pack[] {
    return [...this.#packs.values()]
  }

  get(path: EntryPath): Pack | undefined {
    return this.#packs.get(path)
  }

  forget(pack: Pack): void {
    this.#packs.delete(pack.path)
  }

  /**
   * Lists and opens until a second listing agrees (`isSettled`). Finished packs are looked at only when `thorough`.
   */
  async scan(signal: AbortSignal, thorough: boolean): Promise<Scan | undefined> {
    for (let tries = 0; tries < scanTriesMax; tries++) {
      if (signal.aborted) return undefined
      const view = await this.#view(thorough ? undefined : name => this.#finishedStat(name))
      const layout = await this.#profile.layout(view)
      if (layout !== undefined && (await this.#admit(layout, view))) {
        const again = await this.#profile.layout(await this.#view(name => view.entries.get(name)))
        if (again !== undefined && this.#isSettled(layout, again)) {
          this.#markVanished(layout)
          return { view, layout, packs: this.#inOrder(layout) }
        }
        continue
      }
      await this.#clock.sleep(scanRetryMs, signal)
    }
    throw new HotspareError(
      'source-busy',
      `${this.#root} did not hold still: ${scanTriesMax} listings in sequence each found it in the middle of a change${this.#profile.name === 'redis-aof' ? ' (its manifest is not valid, or names files that are not there)' : ''}.`,
      { details: { path: this.#root } },
    )
  }

  async close(): Promise<void> {
    for (const pack of this.#packs.values()) await pack.release()
  }

  /**
   * A listing may miss a name that was made meanwhile, and show a later one. So a second one must show nothing new among
   * those that the first one gave. What came after them is for the next look, and what went away is open: an engine
   * that never rests is followed all the same. Where a manifest says what there is, both must agree.
   */
  #isSettled(layout: Layout, again: Layout): boolean {
    if (!sameList(layout.trees, again.trees)) return false
    if (this.#profile.vanished === 'drop') return sameList(layout.packs, again.packs)
    const last = layout.packs.at(-1)
    if (last === undefined) return again.packs.length === 0
    const known = new Set(layout.packs)
    return again.packs.every(name => known.has(name) || this.#profile.compare(name, last) > 0)
  }

  #finishedStat(name: string): FileStat | undefined {
    const pack = this.#packs.get(name)
    return pack?.finished && !pack.vanished ? pack.stat : undefined
  }

  async #view(known?: (name: string) => FileStat | undefined): Promise<DirectoryView> {
    try {
      return await viewDirectory(this.#storage, this.#root, known)
    } catch (error) {
      if (isSystemError(error, 'ENOENT', 'ENOTDIR')) throw sourceMissing(this.#root)
      throw describeSystemError(error, `listing ${this.#root}`)
    }
  }

  /** False when a name went away before it could be opened: the listing is stale. All others are opened nevertheless. */
  async #admit(layout: Layout, view: DirectoryView): Promise<boolean> {
    let held = this.all().filter(pack => pack.held).length
    let isStale = false
    for (const name of layout.packs) {
      const stat = view.entries.get(name)!
      const known = this.#packs.get(name)
      if (known !== undefined) this.#compareLook(known, stat)
      const pack = known ?? new Pack(this.#storage, this.#root, entryPath(name), stat)
      if (!pack.held && !pack.finished && held < this.#heldMax) {
        if (!(await pack.hold())) {
          isStale = true
          continue
        }
        held++
      }
      this.#packs.set(name, pack)
      pack.vanished = false
    }
    return !isStale
  }

  #compareLook(pack: Pack, stat: FileStat): void {
    if (stat.inode !== pack.inode) throw replaced(this.#root, pack)
    if (!pack.finished) return
    if (stat.size < pack.sent) throw truncated(this.#root, pack, stat.size)
    if (stat.size > pack.sent) throw grownAfterSuccessor(this.#root, pack, stat.size)
    if (stat.mtimeNs !== pack.stat.mtimeNs) pack.followed = true
    pack.stat = stat
  }

  #markVanished(layout: Layout): void {
    const there = new Set(layout.packs)
    for (const pack of this.#packs.values()) if (!there.has(pack.path)) pack.vanished = true
  }

  #inOrder(layout: Layout): Pack[] {
    const listed = layout.packs.map(name => this.#packs.get(name)!)
    if (this.#profile.vanished === 'drop') return listed
    const unfinished = this.all().filter(pack => pack.vanished && !pack.finished && !pack.removed)
    if (unfinished.length === 0) return listed
    return [...listed, ...unfinished].sort((a, b) => this.#profile.compare(a.path, b.path))
  }
}

export function sourceMissing(root: string): HotspareError {
  return new HotspareError(
    'source-missing',
    `There is no directory ${displayPath(Buffer.from(root).toString('latin1'))}.`,
    {
      details: { path: root },
    },
  )
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index])
}
