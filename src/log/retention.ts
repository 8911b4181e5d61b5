/** What a log may remove, decided without touching anything. */
import type { LogLimits } from './log.ts'

export interface Removable {
  readonly last: number
  readonly bytes: number
  readonly newestTimeMs: number
}

/**
 * How many of the oldest segments may go. `acknowledged` by every subscriber that is kept for; the last segment is
 * written to and stays. `history` false: what was acknowledged is kept no longer, since the log is full.
 */
export function removableCount(
  segments: readonly Removable[],
  acknowledged: number,
  limits: Pick<LogLimits, 'keepMs' | 'keepBytes'>,
  nowMs: number,
  history = true,
): number {
  let laterBytes = segments.reduce((sum, segment) => sum + segment.bytes, 0)
  let count = 0
  for (const segment of segments.slice(0, -1)) {
    laterBytes -= segment.bytes
    if (segment.last > acknowledged) break
    const isYoung = limits.keepMs > 0 && nowMs - segment.newestTimeMs < limits.keepMs
    if (history && (isYoung || laterBytes < limits.keepBytes)) break
    count++
  }
  return count
}
