import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../clock.ts'

/** Time that passes when the test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000
  #sleepers: { readonly untilMs: number; wake(): void }[] = []
  /** Since the beginning. */
  sleeps = 0

  /** How many are asleep. */
  get sleeping(): number {
    return this.#sleepers.length
  }

  nowMs(): number {
    return this.#nowMs
  }

  turn(): Promise<void> {
    return Promise.resolve()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeps++
    if (signal?.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const sleeper = { untilMs: this.#nowMs + ms, wake: resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter(other => other !== sleeper)
        resolve()
      })
    })
  }

  /** Lets time pass, and all that it wakes run. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    for (;;) {
      await setImmediate()
      const next = this.#sleepers
        .filter(({ untilMs }) => untilMs <= endMs)
        .sort((a, b) => a.untilMs - b.untilMs)[0]
      if (next === undefined) break
      this.#nowMs = next.untilMs
      this.#sleepers = this.#sleepers.filter(sleeper => sleeper !== next)
      next.wake()
    }
    this.#nowMs = endMs
  }
}
