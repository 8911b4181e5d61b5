import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises'

/** Time, passed in, so that a simulator can own it. */
export interface Clock {
  /** Wall clock in milliseconds since 1970, with a fraction. */
  nowMs(): number
  /** Resolves after `ms`, or at once when the signal aborts: it never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Resolves when all that waits for its turn in this process, as sockets do, has had it. */
  turn(): Promise<void>
}

export const systemClock: Clock = {
  nowMs: () => performance.timeOrigin + performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal })
    } catch {
      // only an abort ends a sleep early, and whoever aborted looks at the signal itself
    }
  },
  turn: () => immediate(),
}
