/**
 * Time that stands still while anything can be done without it, and then leaps to the next thing that waits for it. So a
 * run of minutes takes milliseconds, and the same seed gives the same run.
 */
import type { Clock } from '../../src/os/clock.ts'

/** A run of 200 steps has some ten thousand: with many more, something goes round for ever in ever so little time. */
const wakesMax = 200_000

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
}

export class VirtualTime {
  #nowMs: number
  #order = 0
  #wakes = 0
  #timers: Timer[] = []

  constructor(nowMs = 1_000_000_000_000) {
    this.#nowMs = nowMs
  }

  get nowMs(): number {
    return this.#nowMs
  }

  /** Gives what takes it back. */
  after(ms: number, fire: () => void): () => void {
    const timer = { atMs: this.#nowMs + Math.max(ms, 0), order: this.#order++, fire }
    // a binary heap would be faster; there are some dozens
    let at = this.#timers.length
    while (at > 0 && isLater(this.#timers[at - 1] as Timer, timer)) at--
    this.#timers.splice(at, 0, timer)
    return () => {
      const index = this.#timers.indexOf(timer)
      if (index >= 0) this.#timers.splice(index, 1)
    }
  }

  /** Runs until `done`, or until so much time has passed; gives whether it is done. */
  async run(done: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.#nowMs + limitMs
    for (;;) {
      await settled()
      if (done()) return true
      const next = this.#timers[0]
      if (next === undefined || next.atMs > endMs) {
        this.#nowMs = Math.max(this.#nowMs, endMs)
        return false
      }
      if (++this.#wakes > wakesMax) throw new Error(`no rest after ${wakesMax} things that waited for time`)
      this.#timers.shift()
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.fire()
    }
  }
}

/** Resolves when all that can go on without time has gone on. */
function settled(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

function isLater(a: Timer, b: Timer): boolean {
  return a.atMs > b.atMs || (a.atMs === b.atMs && a.order > b.order)
}

/** The clock of one machine: when that is down, nobody there wakes up any more. */
export class MachineClock implements Clock {
  readonly #time: VirtualTime
  /** It may go wrong by so much. */
  readonly #skewMs: number
  /** What lets go of each that sleeps. */
  readonly #sleeping = new Set<() => void>()
  #isDown = false

  constructor(time: VirtualTime, skewMs: number) {
    this.#time = time
    this.#skewMs = skewMs
  }

  nowMs(): number {
    return this.#time.nowMs + this.#skewMs
  }

  turn(): Promise<void> {
    return Promise.resolve()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const letGo = () => {
        forget()
        signal?.removeEventListener('abort', wake)
        this.#sleeping.delete(letGo)
      }
      const wake = () => {
        letGo()
        resolve()
      }
      if (this.#isDown) return
      const forget = this.#time.after(ms, wake)
      signal?.addEventListener('abort', wake, { once: true })
      this.#sleeping.add(letGo)
    })
  }

  /** Nothing that sleeps is held any more: a signal that combines others would hold it, and the world with it. */
  stop(): void {
    this.#isDown = true
    for (const letGo of this.#sleeping) letGo()
  }
}
