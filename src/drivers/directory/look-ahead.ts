/**
 * Looks at a tree before it is known that a look is wanted: while a command finds its places and loads its code, one thread
 * would stand idle. So the thread takes the index as it lies beside the copy, and begins.
 *
 * Invariant: what was looked at counts only for the first read after, and only when then, under the copy's lock, the file of
 * the index is the one that was read, its last group is what the copy has, and the root of the tree is the same directory.
 * The look began after whoever asked for it did, so that nothing is missed that had been written before that. In all other
 * cases it is as if it had not been.
 */
import { existsSync, realpathSync } from 'node:fs'
import type { ScanPool } from './scan-pool.ts'
import type { LoadedAhead, LookAnswer } from './scan-protocol.ts'
import { indexPathOf } from './scan-thread.ts'
import type { TreeIndex } from './tree-index.ts'

/** What was begun longer ago is too old to say how the tree is now. */
const ageMsMax = 1_000

let begun: Promise<LookAhead | undefined> | undefined

/** Begins when there is an index where the copy of a directory would have one; absolute paths, as they were given. */
export function lookAhead(source: string, target: string, nowMs: number): void {
  const indexPath = indexPathOf(target)
  if (existsSync(indexPath)) begun = LookAhead.begin(source, indexPath, nowMs).catch(() => undefined)
}

/** What was begun, for who reads this tree; once. */
export async function takeLookAhead(path: string, nowMs: number): Promise<LookAhead | undefined> {
  const ahead = await begun
  begun = undefined
  if (ahead === undefined) return undefined
  if (ahead.path === path && nowMs - ahead.startedMs <= ageMsMax) return ahead
  await ahead.pool.close()
  return undefined
}

export class LookAhead {
  readonly path: string
  readonly startedMs: number
  readonly pool: ScanPool
  /** The index; undefined when there is none that can be used. */
  readonly loaded: Promise<LoadedAhead | undefined>
  /** What the thread has looked at by its end: all, or what it had claimed. */
  readonly answer: Promise<LookAnswer>
  readonly #claimed = new SharedArrayBuffer(4)

  private constructor(path: string, startedMs: number, pool: ScanPool, indexPath: string) {
    this.path = path
    this.startedMs = startedMs
    this.pool = pool
    const { loaded, looked } = pool.ahead({ kind: 'load', indexPath, path }, this.#claimed)
    // what is wrong with it is found, and told, by the usual way
    this.loaded = loaded.then(
      answer => answer.loaded,
      () => undefined,
    )
    this.answer = looked
    looked.catch(() => undefined)
  }

  static async begin(source: string, indexPath: string, startedMs: number): Promise<LookAhead> {
    const path = realpathSync(source)
    const { ScanPool } = await import('./scan-pool.ts')
    return new LookAhead(path, startedMs, new ScanPool(path), indexPath)
  }

  /** It ends: what it has looked at, and what not. */
  end(index: TreeIndex): {
    readonly looked: readonly string[]
    readonly answer: Promise<LookAnswer>
    readonly rest: readonly string[]
  } {
    const paths = [...index.directories.keys()].filter(path => path !== '.')
    const claimed = Atomics.exchange(new Int32Array(this.#claimed), 0, paths.length)
    return { looked: paths.slice(0, claimed), answer: this.answer, rest: paths.slice(claimed) }
  }

  /** It counts for nothing: its thread is free for others. */
  stop(): void {
    Atomics.store(new Int32Array(this.#claimed), 0, 2 ** 31 - 1)
  }
}

/** A source's look ahead, if it has one: for its first look alone. */
export class AheadUse {
  #ahead: LookAhead | undefined
  #index: TreeIndex | undefined

  constructor(ahead: LookAhead | undefined) {
    this.#ahead = ahead
  }

  /** The index that the look went by, when `load` finds it to be the right one; of the root that is open now. */
  async index(
    root: string,
    load: (read: LoadedAhead) => TreeIndex | undefined,
  ): Promise<TreeIndex | undefined> {
    const read = await this.#ahead?.loaded
    this.#index = read === undefined || read.root !== root ? undefined : load(read)
    return this.#index
  }

  /** The first read is over. */
  end(): void {
    this.#ahead?.stop()
    this.#ahead = undefined
    this.#index = undefined
  }

  /** Once, at the first look; `counts`: that look may build on one that began before. */
  take(index: TreeIndex, counts: boolean): LookAhead | undefined {
    const ahead = counts && index === this.#index ? this.#ahead : undefined
    if (ahead !== undefined) this.#ahead = undefined
    this.end()
    return ahead
  }
}
