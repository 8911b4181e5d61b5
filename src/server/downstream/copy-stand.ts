/** Which transaction of the log a copy stands at. Pure. */
import type { Position } from '../../stream/entry.ts'
import { parseNumberedPosition } from '../../stream/numbered-position.ts'
import type { StoreState } from '../state.ts'

/**
 * A copy that was made equal beside the log has the bare position of its base until it has taken a transaction of the
 * log, which then says its number itself. Undefined: the copy is at no state that this log goes on from.
 */
export function numberOf(
  position: Position | undefined,
  base: StoreState['base'],
  log: { readonly durable: number; readonly epoch: { readonly number: number } },
): number | undefined {
  if (position === undefined || base === undefined) return undefined
  const numbered = parseNumberedPosition(position)
  const isBase = (numbered?.position ?? position) === base.position
  // nothing differed when it was made equal, so that its last transaction still stands there
  if (isBase && (numbered === undefined || numbered.number <= base.number)) return base.number
  if (numbered === undefined || numbered.number <= base.number) return undefined
  // it was cut, or lost what it had said to be durable
  if (numbered.number > log.durable || numbered.epoch > log.epoch.number) return undefined
  return numbered.number
}

/**
 * All of a store up to this number is in a copy that stands at `number`; undefined: the log may not keep what it lacks.
 * What was acknowledged for the copies is no proof: a log that is full goes on without them.
 */
export function throughOf(at: {
  readonly number: number
  /** The store's last transaction in the log. */
  readonly last: number | undefined
  readonly first: number
  readonly durable: number
  /** The store's last transaction before `first`; undefined: not known. */
  readonly lastBefore: number | undefined
}): number | undefined {
  if (at.number >= (at.last ?? 0)) return Math.max(at.number, at.durable)
  if (at.number + 1 >= at.first) return at.number
  return at.lastBefore !== undefined && at.number >= at.lastBefore ? at.first - 1 : undefined
}
