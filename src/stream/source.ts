import type { Entry, Position } from './entry.ts'
import type { Inventory, InventoryPurpose } from './sink.ts'

export interface ReadOptions {
  readonly signal: AbortSignal
  /**
   * What the sink has, so that a source which can't prove continuity from its position sends only the difference.
   * Asked for only then, or to look again at what was sent, which is said; resolves undefined when the sink has nothing
   * or can't say.
   */
  inventory(purpose?: InventoryPurpose): Promise<Inventory | undefined>
  /** True while somebody waits for what is committed. Else transactions may be kept for milliseconds, to be given as one. */
  isAwaited?(): boolean
}

/** How far the source is ahead of what it gave. */
export interface Backlog {
  readonly bytes: number
}

/** Writers are stopped from `hold` to `release`, for a cut over several stores. */
export interface Hold {
  release(): Promise<void>
}

/**
 * Gives a live store's entries in order. Reading is by level: `read` looks at the store as it is now, and no event
 * is trusted to be complete.
 */
export interface Source {
  /**
   * All entries since `from` (undefined: since nothing), ending after the last commit when caught up or when the
   * signal aborts. Changes are always followed by their commit; what comes after the last commit of an
   * abandoned iteration is void. Continuity with `from` is proved; in doubt the difference to the inventory is sent
   * as one transaction. One iteration at a time.
   */
  read(from: Position | undefined, options: ReadOptions): AsyncIterable<Entry>
  /** Resolves when there may be more, when a slow safety interval has passed, or on abort: a hint, never the truth. */
  wait(signal: AbortSignal): Promise<void>
  /** All up to this commit is durable downstream and may be released here. Idempotent; never moves back. */
  acknowledge(position: Position): Promise<void>
  backlog?(): Promise<Backlog>
  /** Stops writers for milliseconds. */
  hold?(): Promise<Hold>
  close(): Promise<void>
}
