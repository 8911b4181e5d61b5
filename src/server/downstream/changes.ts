/** Wakes those who wait until something is so: each change is told, and each who waits looks for himself. */
export class Changes {
  readonly #closing: AbortSignal
  readonly #waiting = new Set<() => void>()

  /** When `closing` aborts nobody waits any more; it is to be told, too. */
  constructor(closing: AbortSignal) {
    this.#closing = closing
  }

  tell(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  /** Resolves when it is so, or at the closing. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#closing.aborted) {
      await new Promise<void>(resolve => {
        this.#waiting.add(resolve)
      })
    }
  }

  /** Resolves when it is so; rejects when the signal aborts, and at the closing. */
  async untilSo(signal: AbortSignal, condition: () => boolean): Promise<void> {
    const aborted = () => this.tell()
    signal.addEventListener('abort', aborted, { once: true })
    await this.until(() => signal.aborted || condition())
    signal.removeEventListener('abort', aborted)
    signal.throwIfAborted()
    this.#closing.throwIfAborted()
  }
}
