/** Those who sleep in a test's own time, which stands still while nobody wakes them. */
interface Sleeper {
  readonly untilMs: number
  wake(): void
}

export class Sleepers {
  #nowMs = 1_000_000
  readonly #sleepers = new Set<Sleeper>()

  get nowMs(): number {
    return this.#nowMs
  }

  get count(): number {
    return this.#sleepers.size
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const wake = () => {
        signal?.removeEventListener('abort', wake)
        this.#sleepers.delete(sleeper)
        resolve()
      }
      const sleeper = { untilMs: this.#nowMs + ms, wake }
      this.#sleepers.add(sleeper)
      signal?.addEventListener('abort', wake, { once: true })
    })
  }

  /** Time leaps to the end of the sleep that ends first, of equals the one that began first; false: none ends by `endMs`. */
  wakeNext(endMs = Number.POSITIVE_INFINITY): boolean {
    const [next] = [...this.#sleepers]
      .filter(({ untilMs }) => untilMs <= endMs)
      .sort((a, b) => a.untilMs - b.untilMs)
    if (next === undefined) return false
    this.#nowMs = Math.max(this.#nowMs, next.untilMs)
    next.wake()
    return true
  }

  /** Nobody's sleep ends before. */
  leap(nowMs: number): void {
    this.#nowMs = nowMs
  }
}
