/**
 * The source of a directory: what differs between the tree and what the copy has of it.
 *
 * Reading is by level. An index (`tree-index.ts`) says what was given up to a position; a read looks at the tree, or at what
 * inotify hinted, and gives the difference as entries. The index of every commit that was given lately is kept, so that the
 * one that the copy turns out to have can be gone on from; when it is not there, the copy's inventory takes its place, and
 * all is compared.
 *
 * Invariant: the index at a position says of every entry what the copy has at that position, or that it is not known. What
 * was read of an abandoned iteration is forgotten with the index in memory, which is loaded anew.
 *
 * A commit is `consistent` only when writers were held from before the look until nothing had changed after everything was
 * read.
 */
import { randomUUID } from 'node:crypto'
import { describeSystemError, HotspareError, isSystemError } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { statFd } from '../../os/tree-calls.ts'
import { type Change, type Commit, displayPath, type Entry, type Position } from '../../stream/entry.ts'
import type { Hold, ReadOptions, Source } from '../../stream/source.ts'
import type { SourceOptions } from '../driver.ts'
import { ArenaPool } from './arena-pool.ts'
import { GroupedEntries } from './grouped-entries.ts'
import type { HintedNames } from './hints.ts'
import { IndexStore } from './index-store.ts'
import { AheadUse, type LookAhead } from './look-ahead.ts'
import { isEmptyPlan, type PassPlan, pathIn, planPass } from './pass-plan.ts'
import type { PassOptions, PassRun } from './pass-run.ts'
import { type DirectoryPosition, decodePosition, encodePosition } from './position.ts'
import { ScanPool } from './scan-pool.ts'
import { SilentFiles } from './silent-files.ts'
import { Signature, type TreeBlock } from './tree-block.ts'
import { lookAtTree } from './tree-difference.ts'
import { type TreeChange, TreeIndex } from './tree-index.ts'
import type { TreeBytes } from './tree-load.ts'
import { TreeNotices } from './tree-notices.ts'
import { TreeRoot } from './tree-root.ts'
import { TreeWatcher } from './tree-watcher.ts'

/** A long pass can be resumed from its last commit. */
const commitBytesMax = 64 * 1024 * 1024
const commitFilesMax = 20_000
/** A tree that still changes after so many rounds, though writers are held, does not hold still. */
const roundsMax = 8
/**
 * Changes through a mapping of memory, or through a name that is not in the tree, give no event. A whole look that takes
 * no longer than this finds them, and is well spent while writers are held.
 */
const heldWalkMsMax = 20
/** The index's file is written anew when it has so many times the size of what it says. */
const growthMax = 3
const closingGrowthMax = 1.3
const lastMax = 10_000

export interface DirectorySource extends Source {
  /**
   * From now on until `release` the caller guarantees that the application does not write: the reads in between are
   * inside a window.
   */
  hold(): Promise<DirectoryHold>
  /**
   * The next read looks at everything, and watches it from then on, as after the first `wait`: further reads cost what
   * changed. For the read before a window.
   */
  watch(): void
}

export interface DirectoryHold extends Hold {
  /** Paths (for people) that somebody wrote between `hold` and now all the same; empty when the tree held still. */
  changed(): Promise<readonly string[]>
  release(): Promise<void>
}

interface Held {
  /** By the clock that the times of files are from. */
  readonly sinceMs: number
  readonly changed: Set<string>
}

/** What a round of a read is about. */
interface Round {
  readonly index: TreeIndex
  readonly blocks: Map<string, TreeBlock>
  readonly gone: ReadonlySet<string>
}

/** The pool is the source's from now on. */
export async function openDirectorySource(
  options: SourceOptions,
  pool = new ScanPool(options.path),
  ahead?: LookAhead,
): Promise<DirectorySource> {
  return new TreeSource(options, pool, ahead)
}

class TreeSource implements DirectorySource {
  readonly #options: SourceOptions
  readonly #root: TreeRoot
  readonly #pool: ScanPool
  readonly #watcher: TreeWatcher
  readonly #store: IndexStore
  readonly #arenas = new ArenaPool()
  /** What the copy has at `#at`, when the last read came to its end. */
  #index: TreeIndex | undefined
  #at: DirectoryPosition | undefined
  /** Names the index in the commits that follow; anew after each loading and comparing, so that no two states have the same name. */
  #name = randomUUID() as string
  #held: Held | undefined
  readonly #ahead: AheadUse
  #reading = false
  #walkMs = 0
  /** Every directory has had its watch since the last look at everything. */
  #wasWatched = false
  #closed = false
  readonly #silent = new SilentFiles()
  readonly #notices: TreeNotices

  constructor(options: SourceOptions, pool: ScanPool, ahead: LookAhead | undefined) {
    this.#options = options
    this.#ahead = new AheadUse(ahead)
    this.#root = new TreeRoot(options.path)
    this.#pool = pool
    this.#watcher = new TreeWatcher(options)
    this.#notices = new TreeNotices(options)
    this.#store = new IndexStore(options.scratch, error =>
      options.onNotice({
        code: 'index-lost',
        message: `The index of ${options.path} could not be kept (${error instanceof Error ? error.message : String(error)}); without it source and copy are compared.`,
      }),
    )
  }

  read(from: Position | undefined, options: ReadOptions): AsyncIterable<Entry> {
    return new GroupedEntries(this.#read(from, options))
  }

  async *#read(from: Position | undefined, options: ReadOptions): AsyncGenerator<readonly Entry[]> {
    if (this.#reading) throw new Error('one iteration at a time')
    this.#reading = true
    const { clock } = this.#options
    const startedMs = clock.nowMs()
    let whole = false
    let ended = false
    try {
      const other = this.#root.open()
      const known = await this.#find(from, options)
      this.#checkRoot()
      const hinted = this.#watcher.take()
      const what = other || !known ? 'all' : this.#withSilent(hinted)
      whole = what === 'all'
      ended = yield* this.#pass(from, what, startedMs, options.signal)
    } catch (error) {
      if (options.signal.aborted && (isAbort(error) || error === options.signal.reason)) return
      throw this.#described(error)
    } finally {
      this.#reading = false
      this.#ahead.end()
      if (!ended) {
        // what was read is not what the copy has: the index of its position is loaded when it is known
        this.#at = undefined
        this.#watcher.lost()
      }
      this.#watcher.passTook(clock.nowMs() - startedMs, whole ? this.#walkMs : undefined)
      if (whole) this.#wasWatched = ended && this.#watcher.hints !== undefined
    }
  }

  wait(signal: AbortSignal): Promise<void> {
    this.#pool.warm()
    return this.#watcher.wait(signal)
  }

  watch(): void {
    this.#pool.warm()
    this.#watcher.start()
    this.#watcher.lost()
  }

  async acknowledge(position: Position): Promise<void> {
    // while a pass goes on, the index in memory is still that of its beginning
    if (this.#reading || this.#index === undefined || this.#at === undefined) return
    if (position !== encodePosition(this.#at)) return
    this.#store.settle(this.#at, this.#index, growthMax)
  }

  async hold(): Promise<DirectoryHold> {
    if (this.#held !== undefined) throw new Error('held already')
    // the clock gives whole milliseconds, times of files are finer: what was written in this one may have come before
    const held: Held = { sinceMs: Date.now() + 1, changed: new Set() }
    this.#held = held
    this.#watcher.hints?.startRecording()
    return {
      changed: async () => {
        const paths = new Set([...(this.#watcher.hints?.recorded() ?? []), ...held.changed])
        return [...paths].sort().map(path => (path === '' ? '.' : displayPath(path)))
      },
      release: async () => {
        if (this.#held !== held) return
        this.#held = undefined
        this.#watcher.hints?.stopRecording()
      },
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#watcher.close()
    await this.#pool.close()
    // the next start reads no more than it has to
    if (this.#at?.complete && this.#index !== undefined)
      this.#store.settle(this.#at, this.#index, closingGrowthMax)
    this.#store.close()
    this.#root.close()
  }

  /** Sees to it that the index is that of a position. False when it is not the one of the read before. */
  async #find(from: Position | undefined, options: ReadOptions): Promise<boolean> {
    const position = from === undefined ? undefined : decodePosition(from)
    if (position !== undefined) {
      const { pass, index } = position
      if (this.#index !== undefined && this.#at?.pass === pass && this.#at.index === index) {
        this.#at = position
        return true
      }
      const load = (read: TreeBytes) => this.#store.loadRead(position, read)
      this.#index = (await this.#ahead.index(this.#root.identity, load)) ?? this.#store.load(position)
      if (this.#index !== undefined) {
        this.#name = randomUUID()
        this.#at = position
        return false
      }
    }
    const inventory = await options.inventory()
    if (inventory === undefined && from !== undefined) {
      throw new HotspareError(
        'diverged',
        `It is not known any more what the copy of ${this.#options.path} has, and the copy does not say. Use --resync to compare and go on.`,
      )
    }
    if (inventory === undefined) this.#index = new TreeIndex()
    else {
      const { indexOfInventory } = await import('./inventory-index.ts')
      this.#index = await indexOfInventory(inventory)
    }
    // what another copy stands at may be a pass of the index that was: never one of this one
    this.#name = randomUUID()
    this.#at = { index: this.#name, pass: 0, complete: false, held: false }
    this.#store.clear()
    return false
  }

  /** An empty directory in place of a full one is a file system that is not mounted sooner than a tree that was emptied. */
  #checkRoot(): void {
    const known = this.#index?.directories.get('.')
    if (known === undefined || known.count === 0 || (this.#index?.directories.get('')?.count ?? 0) === 0)
      return
    const { path, fd } = this.#root
    if (known.signature(0).sameInode(rootSignature(fd)) || !this.#root.isEmpty()) return
    throw new HotspareError(
      'source-missing',
      `${path} is empty, and another directory than the one that was copied: is its file system not mounted? If it is meant, use --resync.`,
      { details: { path } },
    )
  }

  /** True when it came to its end. */
  async *#pass(
    from: Position | undefined,
    first: HintedNames | 'all',
    startedMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Entry[], boolean> {
    const index = this.#index as TreeIndex
    const held = this.#held
    const unsaved = new Set<string>()
    const restless = new Set<string>()
    let what = first
    let given = 0
    let still = false
    for (let round = 1; ; round++) {
      restless.clear()
      const current = await this.#look(what, index, signal)
      const plan = planPass(index, current.blocks)
      const gone = new Set(plan.gone)
      const { hints: watched } = this.#watcher
      const wasWatched = watched !== undefined && this.#wasWatched && !watched.overflowed
      if (round === 1 && what === 'all' && from !== undefined && wasWatched) this.#silent.note(plan, watched)
      this.#notePlan(plan, held, round)
      for (const path of [...current.blocks.keys(), ...gone]) unsaved.add(path)
      const run = await this.#runOf(plan, {
        store: this.#options.store,
        pool: this.#pool,
        root: this.#root.fd,
        index,
        blocks: current.blocks,
        arenas: this.#arenas,
        racyMs: this.#root.racyMs,
        held: held !== undefined,
        signal,
        onBlock: path => void unsaved.add(path),
        onRestless: path => void restless.add(path),
      })
      let roundGiven = 0
      const last = new Set<string>()
      for await (const group of run?.entries() ?? []) {
        if (group !== undefined) {
          roundGiven += group.length
          if (held !== undefined) noteLast(group, last)
          yield group
        } else if (run !== undefined && (run.bytes >= commitBytesMax || run.files >= commitFilesMax)) {
          run.files = 0
          run.bytes = 0
          yield [this.#commit({ index, blocks: current.blocks, gone }, unsaved, startedMs, 'unfinished')]
        }
      }
      signal.throwIfAborted()
      for (const path of gone) this.#forget(index, path)
      for (const [path, block] of current.blocks) index.directories.set(path, block)
      const unsettled = run?.unsettled ?? []
      for (const path of unsettled) this.#lookAgain(path)
      given += roundGiven
      if (held === undefined) break
      if (round > 1) for (const path of last) held.changed.add(path)
      const { hints } = this.#watcher
      what = hints === undefined ? 'all' : hints.take()
      still = roundGiven === 0 || (what !== 'all' && what.size === 0 && !hints?.hasLost)
      if (still && restless.size === 0 && unsettled.length === 0) break
      still = false
      if (round < roundsMax) continue
      for (const path of last) restless.add(path)
      this.#watcher.lost()
      break
    }
    this.#notices.restless(restless, held !== undefined)
    const complete = this.#at?.complete === true && from !== undefined
    if (given === 0 && complete && held === undefined) {
      // flags may have changed: the same state of the copy
      if (unsaved.size > 0) this.#save({ index, blocks: new Map(), gone: new Set() }, unsaved)
      return true
    }
    const kind = held === undefined ? 'complete' : still ? 'held' : 'complete'
    yield [this.#commit({ index, blocks: new Map(), gone: new Set() }, unsaved, startedMs, kind)]
    return true
  }

  /** Undefined when there is nothing to do; what doing it needs is loaded only then. */
  async #runOf(plan: PassPlan, options: PassOptions): Promise<PassRun | undefined> {
    if (isEmptyPlan(plan)) return undefined
    const { PassRun } = await import('./pass-run.ts')
    return new PassRun(plan, options)
  }

  /** What has to be looked at besides what was hinted. */
  #withSilent(hinted: HintedNames | 'all'): HintedNames | 'all' {
    if (hinted === 'all') return hinted
    const quick = this.#held !== undefined && this.#walkMs > 0 && this.#walkMs <= heldWalkMsMax
    if (quick || this.#silent.areMany) return 'all'
    this.#silent.addTo(hinted)
    return hinted
  }

  async #look(
    what: HintedNames | 'all',
    index: TreeIndex,
    signal: AbortSignal,
  ): Promise<{ readonly blocks: Map<string, TreeBlock> }> {
    const startedMs = this.#options.clock.nowMs()
    const { hints } = this.#watcher
    // writers that are held now, or events that were asked for, were not when a look ahead began
    const ahead = this.#ahead.take(index, what === 'all' && this.#held === undefined && hints === undefined)
    const difference = await lookAtTree(what, {
      pool: this.#pool,
      root: this.#root.fd,
      index,
      hints,
      ahead,
      racyMs: this.#root.racyMs,
      signal,
      onWatchFailure: reason =>
        this.#watcher.degrade(
          `no more inotify watches are allowed (${reason}; see fs.inotify.max_user_watches)`,
        ),
    })
    if (what === 'all') {
      this.#walkMs = this.#options.clock.nowMs() - startedMs
    }
    return difference
  }

  #commit(
    round: Round,
    unsaved: Set<string>,
    startedMs: number,
    kind: 'unfinished' | 'complete' | 'held',
  ): Commit {
    const before = this.#at as DirectoryPosition
    const complete = kind !== 'unfinished'
    const at = { index: this.#name, pass: before.pass + 1, complete, held: kind === 'held' }
    this.#at = at
    this.#save(round, unsaved)
    const { store } = this.#options
    return { type: 'commit', store, position: encodePosition(at), consistent: at.held, timeMs: startedMs }
  }

  #save({ index, blocks, gone }: Round, unsaved: Set<string>): void {
    const now = (path: string): TreeBlock | undefined =>
      gone.has(path) ? undefined : (blocks.get(path) ?? index.directories.get(path))
    const changes: TreeChange[] = [...unsaved].map(path => [path, now(path)])
    this.#store.commit(this.#at as DirectoryPosition, changes, () => {
      const whole = new TreeIndex()
      for (const path of new Set([...index.directories.keys(), ...blocks.keys()])) {
        const block = now(path)
        if (block !== undefined) whole.directories.set(path, block)
      }
      return whole
    })
    unsaved.clear()
  }

  #forget(index: TreeIndex, path: string): void {
    index.directories.delete(path)
    this.#watcher.hints?.unwatch(path)
  }

  #lookAgain(path: string): void {
    const cut = path.lastIndexOf('/')
    if (path === '') this.#watcher.hints?.add('.', '.')
    else this.#watcher.hints?.add(cut < 0 ? '' : path.slice(0, cut), path.slice(cut + 1))
  }

  #notePlan(plan: PassPlan, held: Held | undefined, round: number): void {
    this.#notices.special(plan.special)
    if (held === undefined) return
    // times are coarse: what is later than the hold was surely written after it
    const watched = this.#watcher.hints !== undefined
    for (const directory of plan.directories) {
      for (const i of directory.entries) {
        const signature = directory.block.signature(i)
        if (watched && signature.isDirectory) continue
        if (Number(signature.ctimeNs / 1000n) / 1000 > held.sinceMs) held.changed.add(pathIn(directory, i))
      }
    }
    if (round > 1) for (const path of plan.removed) held.changed.add(path)
  }

  #described(error: unknown): unknown {
    if (error instanceof HotspareError) return error
    if (isSystemError(error, 'ENOENT'))
      return new HotspareError('source-missing', `${this.#options.path} is gone.`, { cause: error })
    return describeSystemError(error, `Reading ${this.#options.path}`)
  }
}

/** The attributes of directories follow from what is in them. */
function noteLast(group: readonly Change[], last: Set<string>): void {
  for (const change of group) {
    if (last.size >= lastMax) return
    if (change.type !== 'attributes' || last.size === 0) last.add(change.path)
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}

function rootSignature(fd: number): Signature {
  const stat = new StatBuffer()
  statFd(fd, stat)
  return Signature.of(stat)
}
