import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../clock.ts'

/** Time that passes by itself whenever nothing else is to be done: hours take no time. */
export class VirtualClock implements Clock {
  #nowMs = 1_000_000
  #sleepers: { readonly untilMs: number; wake(): void }[] = []
  #running = false

  nowMs(): number {
    return this.#nowMs
  }

  turn(): Promise<void> {
    return Promise.resolve()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const sleeper = { untilMs: this.#nowMs + ms, wake: resolve }
      this.#sleepers.push(sleeper)
      signal?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter(other => other !== sleeper)
        resolve()
      })
      void this.#run()
    })
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    while (this.#sleepers.length > 0) {
      // everything that can happen without time passing happens first
      for (let turn = 0; turn < 5; turn++) await setImmediate()
      const [next] = this.#sleepers.sort((a, b) => a.untilMs - b.untilMs)
      if (next === undefined) break
      this.#nowMs = Math.max(this.#nowMs, next.untilMs)
      this.#sleepers = this.#sleepers.filter(sleeper => sleeper !== next)
      next.wake()
    }
    this.#running = false
  }
}
