/**
 * Looks at a tree, or at what was hinted, through the scanning threads: which directories differ from the index, and how
 * they are now.
 *
 * The look is by level: a directory that moves or goes while it is looked at is looked for again through its parent, a few
 * times; one that never holds still stays `pending` in its parent for the next pass.
 */
import { ENOENT } from '../../os/tree-calls.ts'
import { entryFlag } from './entry-flags.ts'
import { type HintedNames, type TreeHints, watchMask } from './hints.ts'
import { linkedPaths } from './link-groups.ts'
import type { LookAhead } from './look-ahead.ts'
import type { ScanPool } from './scan-pool.ts'
import type { LookAnswer, LookItem } from './scan-protocol.ts'
import { TreeBlock } from './tree-block.ts'
import type { TreeIndex } from './tree-index.ts'

/** So many entries are looked at by one request. */
const entriesAtOnce = 2000
/** A directory of which nothing is known counts as so many. */
const unknownEntries = 200
const requestsEach = 2
const roundsMax = 6
const littleMax = 50

export interface LookOptions {
  readonly pool: ScanPool
  readonly root: number
  readonly index: TreeIndex
  readonly hints: TreeHints | undefined
  /** Has begun already, by this index. */
  readonly ahead: LookAhead | undefined
  readonly racyMs: number
  readonly signal: AbortSignal
  /** No more watches can be added, for this reason. */
  onWatchFailure(reason: string): void
}

export interface TreeDifference {
  /** New blocks of directories that differ. */
  readonly blocks: Map<string, TreeBlock>
  readonly entries: number
}

interface Work {
  readonly path: string
  readonly names?: readonly string[]
  /** Asked after all that was asked before has been answered. */
  readonly again?: true
}

export async function lookAtTree(what: HintedNames | 'all', options: LookOptions): Promise<TreeDifference> {
  const look = new TreeLook(options)
  if (what === 'all') await look.everything()
  else await look.hinted(what)
  return { blocks: look.blocks, entries: look.entries }
}

class TreeLook {
  readonly #options: LookOptions
  readonly blocks = new Map<string, TreeBlock>()
  entries = 0
  #queue: Work[] = []
  /** Directories of which everything is, or will be, looked at. */
  readonly #whole = new Set<string>()
  readonly #gone = new Set<string>()

  constructor(options: LookOptions) {
    this.#options = options
  }

  async everything(): Promise<void> {
    this.#names('.', ['.'])
    const { hints, index, ahead } = this.#options
    hints?.takeLost()
    const begun = ahead?.end(index)
    for (const path of begun?.looked ?? []) this.#whole.add(path)
    this.#all('')
    for (const path of begun?.rest ?? index.directories.keys()) if (path !== '.') this.#all(path)
    await this.#run()
    if (begun !== undefined) {
      this.#take(
        begun.looked.map(path => ({ path })),
        await begun.answer,
      )
      await this.#run()
    }
    await this.#findGone()
  }

  async hinted(names: HintedNames): Promise<void> {
    const { index } = this.#options
    for (const [path, some] of names)
      if (path === '.' || index.directories.has(path)) this.#names(path, [...some])
    if (!index.directories.has('')) this.#all('')
    for (const path of this.#options.hints?.takeLost() ?? []) if (index.directories.has(path)) this.#all(path)
    await this.#run()
    await this.#findGone()
    // a change through one name of a file gives no event for its other names
    const looked = new Map<string, Set<string>>([...names].map(([path, some]) => [path, new Set(some)]))
    for (let round = 1; round <= roundsMax; round++) {
      let more = false
      for (const [path, some] of linkedPaths(index, this.blocks)) {
        const known = looked.get(path) ?? new Set()
        const fresh = this.#whole.has(path) ? [] : [...some].filter(name => !known.has(name))
        if (fresh.length === 0) continue
        more = true
        looked.set(path, new Set([...known, ...fresh]))
        this.#names(path, fresh)
      }
      if (!more) break
      await this.#run()
      await this.#findGone()
    }
  }

  #names(path: string, names: readonly string[]): void {
    this.#queue.push({ path, names })
  }

  #all(path: string): void {
    if (this.#whole.has(path)) return
    this.#whole.add(path)
    this.#queue.push({ path })
  }

  #known(path: string): TreeBlock | undefined {
    return this.blocks.get(path) ?? this.#options.index.directories.get(path)
  }

  /** Until the queue is empty; what is found on the way joins it. */
  async #run(): Promise<void> {
    const { pool, signal } = this.#options
    const running = new Set<Promise<void>>()
    let failure: { readonly error: unknown } | undefined
    while ((this.#queue.length > 0 || running.size > 0) && failure === undefined) {
      const each = pool.isReady ? requestsEach : 1
      const few = running.size === 0 && this.#isLittle()
      while (this.#queue.length > 0 && running.size < pool.threads * each && !few) {
        const request = this.#request(this.#nextWork(), false).catch(error => {
          failure ??= { error }
        })
        running.add(request)
        void request.then(() => running.delete(request))
      }
      // this thread looks along: a look costs little but time in the kernel
      if (this.#queue.length > 0) {
        await this.#request(this.#nextWork(), true).catch(error => {
          failure ??= { error }
        })
      } else await Promise.race(running)
      if (signal.aborted) failure ??= { error: signal.reason }
    }
    await Promise.all(running)
    if (failure !== undefined) throw failure.error
  }

  #nextWork(): Work[] {
    let entries = 0
    let count = 0
    while (count < this.#queue.length && entries < entriesAtOnce) {
      const { path, names } = this.#queue[count++] as Work
      entries += names?.length ?? (this.#known(path)?.count ?? unknownEntries) + 10
    }
    // the shares of all threads are alike when there is little to do
    const share = Math.ceil(this.#queue.length / (this.#options.pool.threads + 1))
    return this.#queue.splice(0, Math.min(count, share))
  }

  /** So little that asking another thread would take longer. */
  #isLittle(): boolean {
    return (
      this.#queue.length <= littleMax &&
      this.#queue.every(({ names }) => names !== undefined && names.length <= littleMax)
    )
  }

  async #request(work: readonly Work[], here: boolean): Promise<void> {
    const { pool, root, hints, racyMs } = this.#options
    const items = work.map(({ path, names }): LookItem => {
      const watch = hints !== undefined && path !== '.' && names === undefined
      const block = this.#known(path)?.bytes
      return names === undefined ? { path, block, watch } : { path, block, names, watch }
    })
    const inotify = hints?.fd ?? -1
    const request = { kind: 'look', root, inotify, watchMask, racyMs, items } as const
    this.#take(work, await (here ? pool.lookHere(request) : pool.look(request)))
  }

  #take(work: readonly Work[], answer: LookAnswer): void {
    const { hints, index } = this.#options
    this.entries += answer.entries
    if (answer.watchFailure !== undefined) this.#options.onWatchFailure(answer.watchFailure)
    for (const [i, watch] of answer.watches.entries())
      if (watch >= 0) hints?.watched((work[i] as Work).path, watch)
    for (const { item, block, directories } of answer.results) {
      const { path, names, again } = work[item] as Work
      // what was known of another directory of this name, with some names looked up in this one: the whole look counts
      if (names !== undefined && again === undefined && this.#whole.has(path)) continue
      if (block === undefined) {
        this.#gone.add(path)
        continue
      }
      this.#gone.delete(path)
      this.blocks.set(path, new TreeBlock(block))
      for (const name of directories) {
        const child = path === '' ? name : `${path}/${name}`
        this.#all(child)
        // another directory under a known name: nothing is known of what it holds
        if (index.directories.has(child)) for (const below of index.subtree(child)) this.#all(below)
      }
    }
  }

  /** A directory that its parent has, and that could not be opened: asks the parent again. */
  async #findGone(): Promise<void> {
    for (let round = 1; this.#gone.size > 0 && round <= roundsMax; round++) {
      const missing = [...this.#gone].filter(path => this.#hasDirectory(path))
      this.#gone.clear()
      if (missing.length === 0) return
      for (const path of missing) {
        const cut = path.lastIndexOf('/')
        if (path === '') throw Object.assign(new Error('the root is gone'), { code: 'ENOENT', errno: ENOENT })
        const parent = cut < 0 ? '' : path.slice(0, cut)
        this.#queue.push({ path: parent, names: [path.slice(cut + 1)], again: true })
      }
      await this.#run()
      for (const path of missing) {
        if (!this.#hasDirectory(path)) continue
        this.#whole.delete(path)
        this.#all(path)
      }
      await this.#run()
    }
    for (const path of this.#gone) this.#markPending(path)
    this.#gone.clear()
  }

  #hasDirectory(path: string): boolean {
    if (path === '' || path === '.') return true
    for (let at = path; at !== ''; ) {
      const cut = at.lastIndexOf('/')
      const parent = this.#known(cut < 0 ? '' : at.slice(0, cut))
      const i = parent?.findName(at.slice(cut + 1)) ?? -1
      if (i < 0 || !parent?.signature(i).isDirectory) return false
      at = cut < 0 ? '' : at.slice(0, cut)
    }
    return true
  }

  /** Never there when it was opened: to be looked for again by the next pass. */
  #markPending(path: string): void {
    if (!this.#hasDirectory(path)) return
    const cut = path.lastIndexOf('/')
    const parent = cut < 0 ? '' : path.slice(0, cut)
    const block = this.blocks.get(parent)
    const i = block?.findName(path.slice(cut + 1)) ?? -1
    if (block !== undefined && i >= 0) block.setFlags(i, block.flags(i) | entryFlag.pending)
  }
}
