import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'

export interface StepLimits {
  readonly clock: Clock
  readonly limitMs: number
  /** Ends the step before its time. */
  readonly signal?: AbortSignal
}

/** A step that was told to end gets so long to do so; then it is left to itself. */
const endingMsMax = 6_000

/**
 * Runs one step of a user's application within its time. On the limit or an abort the step is told to end, and waited
 * for: only then nothing of it can take effect later. Rejects with what it failed with, `AbortError`, or a `HotspareError`
 * of the code 'mode-unknown' when it did nothing within its time.
 */
export async function runStep<T>(limits: StepLimits, step: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { clock, limitMs, signal } = limits
  signal?.throwIfAborted()
  const over = new AbortController()
  const ended = new AbortController()
  const stop = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])
  const work = step(stop)
  // who looks at it first is the race below; when that was decided otherwise, its fault is told there
  work.catch(() => undefined)
  try {
    const late = clock.sleep(limitMs, ended.signal).then(async () => {
      if (ended.signal.aborted) return new Promise<never>(() => {})
      over.abort()
      await Promise.race([work.catch(() => undefined), clock.sleep(endingMsMax, ended.signal)])
      throw new HotspareError('mode-unknown', `It took longer than ${limitMs / 1_000} s, and was ended.`)
    })
    const cut =
      signal === undefined
        ? undefined
        : aborted(signal, ended.signal).then(async () => {
            await Promise.race([work.catch(() => undefined), clock.sleep(endingMsMax, ended.signal)])
            throw new DOMException('The step was interrupted.', 'AbortError')
          })
    cut?.catch(() => undefined)
    late.catch(() => undefined)
    return await Promise.race([settled(work, stop), late, ...(cut === undefined ? [] : [cut])])
  } finally {
    ended.abort()
  }
}

/** The step's own outcome, unless it was told to end: then whoever told so says what came of it. */
async function settled<T>(work: Promise<T>, stop: AbortSignal): Promise<T> {
  try {
    const value = await work
    if (!stop.aborted) return value
  } catch (error) {
    if (!stop.aborted) throw error
  }
  return new Promise<never>(() => {})
}

/** Resolves when the signal aborts; never, once `until` has. */
export function aborted(signal: AbortSignal, until?: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) return resolve()
    const listen = () => resolve()
    signal.addEventListener('abort', listen, { once: true })
    until?.addEventListener('abort', () => signal.removeEventListener('abort', listen), { once: true })
  })
}
