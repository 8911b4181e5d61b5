/**
 * Those who wait until all that was committed before they came is durable in the log.
 *
 * What they wait for is known in two ways: a commit says up to which moment it has everything (`upToMs`), or all was read
 * by a reading that began after they had come.
 */
import type { Clock } from '../../os/clock.ts'
import type { Source } from '../../stream/source.ts'

interface Drain {
  readonly sinceMs: number
  resolve(): void
  reject(error: unknown): void
}

export class Drains {
  readonly #clock: Clock
  #waiting: Drain[] = []
  /** They had come when the reading began. */
  #begun: readonly Drain[] = []
  /** Ends a rest. */
  #rest: AbortController | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /** Ends a rest. Rejects with the signal's reason when that aborts. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => signal.removeEventListener('abort', aborted)
      const drain: Drain = {
        sinceMs: this.#clock.nowMs(),
        resolve: () => {
          done()
          resolve()
        },
        reject: error => {
          done()
          reject(error)
        },
      }
      const aborted = () => {
        this.#waiting = this.#waiting.filter(one => one !== drain)
        drain.reject(signal.reason)
      }
      if (signal.aborted) return aborted()
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiting.push(drain)
      this.#rest?.abort()
    })
  }

  /** Somebody waits for a commit that has all up to this moment. */
  isWanted(upToMs: number | undefined): boolean {
    return upToMs !== undefined && this.#waiting.some(({ sinceMs }) => sinceMs < upToMs)
  }

  /** All up to this moment is durable. */
  durable(upToMs: number | undefined): void {
    if (upToMs !== undefined) this.#answer(({ sinceMs }) => sinceMs < upToMs)
  }

  /** All that was committed before the last reading began is durable. */
  caughtUp(): void {
    const begun = this.#begun
    this.#begun = []
    this.#answer(drain => begun.includes(drain))
  }

  reject(error: unknown): void {
    for (const drain of this.#waiting.splice(0)) drain.reject(error)
  }

  /** The source, of which each reading begins for those who have come, and whose waits end when somebody comes. */
  reading(source: Source): Source {
    return {
      read: (from, options) => {
        this.#begun = [...this.#waiting]
        return source.read(from, options)
      },
      // whoever came while it was read is not answered yet
      wait: async signal => {
        if (this.isEmpty) await this.resting(signal, resting => source.wait(resting))
      },
      acknowledge: position => source.acknowledge(position),
      close: () => source.close(),
    }
  }

  /** Does `work` with a signal that aborts when somebody comes, too. */
  async resting(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const rest = new AbortController()
    const end = () => rest.abort()
    signal.addEventListener('abort', end, { once: true })
    if (signal.aborted) end()
    this.#rest = rest
    try {
      await work(rest.signal)
    } finally {
      this.#rest = undefined
      signal.removeEventListener('abort', end)
    }
  }

  #answer(isIn: (drain: Drain) => boolean): void {
    const answered = this.#waiting.filter(isIn)
    this.#waiting = this.#waiting.filter(drain => !isIn(drain))
    for (const drain of answered) drain.resolve()
  }
}
