/**
 * Which faults a follower waits out, how long, how often. Pure.
 *
 * The delay doubles from `firstDelayMs` to the fault's own bound. What only its owner can mend (a full disk, a source
 * that is away, a locked database) is waited for without end, and said; what may be a broken disk is not.
 */
import { type ErrorCode, HotspareError, isTransient } from '../os/errors.ts'

const firstDelayMs = 100

interface Patience {
  readonly delayMsMax: number
  readonly attemptsMax: number
  /** With `once`: whoever waits for the end wants the answer. */
  readonly attemptsMaxOnce: number
}

const forever = Number.POSITIVE_INFINITY
const patience: Readonly<Partial<Record<ErrorCode, Patience>>> = {
  'source-missing': { delayMsMax: 1_000, attemptsMax: forever, attemptsMaxOnce: 0 },
  'source-busy': { delayMsMax: 2_000, attemptsMax: forever, attemptsMaxOnce: 20 },
  'disk-full': { delayMsMax: 5_000, attemptsMax: forever, attemptsMaxOnce: 0 },
  'target-busy': { delayMsMax: 5_000, attemptsMax: 20, attemptsMaxOnce: 3 },
  'io-error': { delayMsMax: 10_000, attemptsMax: 20, attemptsMaxOnce: 3 },
}

/** The delay before attempt number `attempt` (from 1) to repeat what failed; undefined: give up, and throw it. */
export function retryDelayMs(error: unknown, attempt: number, once: boolean): number | undefined {
  if (!(error instanceof HotspareError) || !isTransient(error)) return undefined
  const rule = patience[error.code]
  if (rule === undefined || attempt > (once ? rule.attemptsMaxOnce : rule.attemptsMax)) return undefined
  return Math.min(firstDelayMs * 2 ** Math.min(attempt - 1, 20), rule.delayMsMax)
}
