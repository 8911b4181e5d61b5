/**
 * Where stores were brought beside the log: a store's next transaction follows on that state, and not on the one that
 * its last transaction left. What a log may still take back may need an earlier one, so they are kept as long.
 */
import type { Position, StoreName } from '../stream/entry.ts'
import type { StoreMark } from './log.ts'

export interface Rebase {
  readonly store: StoreName
  /** The last number of the log at that moment. */
  readonly after: number
  readonly position: Position | undefined
}

/** What the store's next transaction follows on. */
export function positionOf(
  store: StoreName,
  mark: StoreMark | undefined,
  rebases: readonly Rebase[],
): Position | undefined {
  const rebase = rebases.findLast(one => one.store === store)
  return rebase === undefined || (mark !== undefined && mark.number > rebase.after)
    ? mark?.position
    : rebase.position
}

/** Those that can matter while the log has `first` and what follows it. */
export function neededRebases(rebases: readonly Rebase[], first: number): readonly Rebase[] {
  return rebases.filter(
    (one, i) => !rebases.some((later, j) => j > i && later.store === one.store && later.after < first),
  )
}
