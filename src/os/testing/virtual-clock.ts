import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { Sleepers } from './sleepers.ts'

/** Time that passes by itself whenever nothing else is to be done: hours take no time. */
export class VirtualClock implements Clock {
  readonly #sleepers = new Sleepers()
  #running = false

  nowMs(): number {
    return this.#sleepers.nowMs
  }

  turn(): Promise<void> {
    return Promise.resolve()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const slept = this.#sleepers.sleep(ms, signal)
    void this.#run()
    return slept
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    while (this.#sleepers.count > 0) {
      // everything that can happen without time passing happens first
      for (let turn = 0; turn < 5; turn++) await setImmediate()
      this.#sleepers.wakeNext()
    }
    this.#running = false
  }
}
