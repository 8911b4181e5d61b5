/** Those who wait until a transaction that follows a number is durable. */

interface Waiter {
  readonly number: number
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class LogWaiters {
  #waiters: Waiter[] = []

  /** Resolves when more than `number` is durable, or the signal is aborted; rejects with what `end` was given. */
  wait(number: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = {
        number,
        resolve: () => done(resolve),
        reject: (error: unknown) => done(() => reject(error)),
      }
      const aborted = () => {
        this.#waiters = this.#waiters.filter(one => one !== waiter)
        resolve()
      }
      const done = (settle: () => void) => {
        signal.removeEventListener('abort', aborted)
        settle()
      }
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiters.push(waiter)
    })
  }

  /** All up to `number` is durable. */
  wake(number: number): void {
    const waiters = this.#waiters
    this.#waiters = waiters.filter(waiter => waiter.number >= number)
    for (const waiter of waiters) if (waiter.number < number) waiter.resolve()
  }

  end(error: unknown): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }
}
