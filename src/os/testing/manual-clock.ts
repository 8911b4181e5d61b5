import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { Sleepers } from './sleepers.ts'

/** Time that passes when the test says so. */
export class ManualClock implements Clock {
  readonly #sleepers = new Sleepers()
  /** Since the beginning. */
  sleeps = 0

  /** How many are asleep. */
  get sleeping(): number {
    return this.#sleepers.count
  }

  nowMs(): number {
    return this.#sleepers.nowMs
  }

  turn(): Promise<void> {
    return Promise.resolve()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeps++
    return this.#sleepers.sleep(ms, signal)
  }

  /** Lets time pass, and all that it wakes run. */
  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs() + ms
    do await setImmediate()
    while (this.#sleepers.wakeNext(endMs))
    this.#sleepers.leap(endMs)
  }
}
