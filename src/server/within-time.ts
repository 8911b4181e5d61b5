import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'

/** Does the work with a signal that ends with `signal`, or after `ms`: then rejects with `timed-out`, which says `what`. */
export async function withinTime<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController()
  const late = new HotspareError('timed-out', `${what} (${Math.round(ms / 100) / 10} s).`)
  const working = work(AbortSignal.any([signal, over.signal]))
  const timer = new AbortController()
  const timing = clock.sleep(ms, timer.signal).then(() => {
    if (timer.signal.aborted) return
    over.abort(late)
  })
  try {
    const result = await working
    // some works resolve when they are aborted
    if (over.signal.aborted) throw late
    signal.throwIfAborted()
    return result
  } catch (error) {
    throw over.signal.aborted ? late : error
  } finally {
    timer.abort()
    await timing
  }
}
