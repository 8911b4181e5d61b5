/**
 * Knows when the source has to be looked at again, and looks.
 *
 * Invariant: events are hints. What they do not tell is seen by a look every second while packs grow, and by a thorough
 * one, which looks at finished packs too, every few seconds; so a lost event costs that much, never data.
 */
import type { Clock } from '../../os/clock.ts'
import type { Storage } from '../../os/storage.ts'
import { openWatcher, type Watcher, watchEvent } from '../../os/watch.ts'
import { displayPath } from '../../stream/entry.ts'
import { rootReplaced } from './faults.ts'
import { type PackSet, type Scan, sourceMissing } from './pack-set.ts'

const safetyPollMs = 5000
/** While packs are growing, everything else is looked at this often. */
const scanIntervalMs = 1000

const watchedEvents =
  watchEvent.modify |
  watchEvent.attributes |
  watchEvent.moved |
  watchEvent.create |
  watchEvent.delete |
  watchEvent.deleteSelf |
  watchEvent.moveSelf

/** After these, finished packs are looked at too; else that is done with the safety poll. */
const touchingEvents = watchEvent.moved | watchEvent.attributes | watchEvent.overflow

export interface LookoutOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly root: string
  /** Each code is said once. */
  notice(code: string, message: string): void
}

export class Lookout {
  readonly #options: LookoutOptions
  readonly #packs: PackSet
  readonly #watcher: Watcher = openWatcher()
  #rootInode: bigint | undefined
  #lookedMs = 0
  #searchedMs = 0
  #isThorough = true
  /** Something came up after the last look that wants another thorough one. */
  #isThoroughNext = false

  constructor(options: LookoutOptions, packs: PackSet) {
    this.#options = options
    this.#packs = packs
  }

  /** To be called once, before anything else. */
  async begin(): Promise<void> {
    const { storage, root, notice } = this.#options
    const stat = await storage.stat(root)
    if (stat === undefined) throw sourceMissing(root)
    this.#rootInode = stat.inode
    // watch first, then look: what happens in between gives a hint
    this.#watcher.add(root, watchedEvents)
    await this.#packs.scan(new AbortController().signal, true)
    const reason = this.#watcher.pollingReason
    if (reason !== undefined) notice('polling', `${root} is polled: ${reason}.`)
  }

  /** A thorough look is due, or was made and all that it found is not given yet. */
  get isThorough(): boolean {
    return this.#isThorough
  }

  /** More than the newest pack has to be looked at. */
  isDue(): boolean {
    const events = this.#watcher.takeEvents()
    const nowMs = this.#options.clock.nowMs()
    if ((events & touchingEvents) !== 0 || nowMs - this.#searchedMs >= safetyPollMs) this.#isThorough = true
    return (
      this.#isThorough ||
      (events & ~(watchEvent.modify | watchEvent.closeWrite)) !== 0 ||
      this.#watcher.pollingReason !== undefined ||
      nowMs - this.#lookedMs >= scanIntervalMs
    )
  }

  /** What there is now; undefined when the signal aborts. */
  async look(signal: AbortSignal): Promise<Scan | undefined> {
    const { storage, clock, root, notice } = this.#options
    const stat = await storage.stat(root)
    if (stat === undefined) throw sourceMissing(root)
    if (stat.inode !== this.#rootInode) throw rootReplaced(root)
    const events = this.#watcher.takeEvents()
    const scan = await this.#packs.scan(signal, this.#isThorough || (events & touchingEvents) !== 0)
    if (scan === undefined) return undefined
    this.#lookedMs = clock.nowMs()
    for (const name of scan.layout.leftOut) {
      const path = displayPath(name)
      notice(`not-copied:${path}`, `${path} in ${root} is not a plain file, and is not copied.`)
    }
    return scan
  }

  /** Within a long copy: what was made meanwhile is opened at once, lest it be deleted unseen. */
  async openNew(signal: AbortSignal): Promise<void> {
    const events = this.#watcher.takeEvents()
    if ((events & ~watchEvent.modify) === 0) return
    this.#isThorough = true
    if ((events & touchingEvents) !== 0) this.#isThoroughNext = true
    await this.#packs.scan(signal, false)
  }

  /** What was seen is not there any more. */
  lookThoroughly(): void {
    this.#isThoroughNext = true
  }

  /** All that the last look found was given. */
  given(): void {
    if (this.#isThorough) this.#searchedMs = this.#options.clock.nowMs()
    this.#isThorough = this.#isThoroughNext
    this.#isThoroughNext = false
  }

  /** Resolves when there may be something new, when it is time to look, or so many milliseconds later. */
  async wait(signal: AbortSignal, dueMs: number): Promise<void> {
    const result = await this.#watcher.wait(signal, Math.min(safetyPollMs, dueMs))
    if (result === 'timeout' || result === 'overflow') this.#isThorough = true
  }

  close(): void {
    this.#watcher.close()
  }
}
