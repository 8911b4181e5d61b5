/** One after another: what is run here begins when all before it has ended, in whatever way. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  #waiting = 0

  get isFree(): boolean {
    return this.#waiting === 0
  }

  /** Rejects with the signal's reason when that aborts before the turn has come; nothing is done then. */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    let hasBegun = false
    const ended = this.#take(
      this.#last.then(() => {
        signal?.throwIfAborted()
        hasBegun = true
        return work()
      }),
    )
    return signal === undefined ? ended : orGivenUp(ended, signal, () => !hasBegun)
  }

  /** As `run`, and begins within this call when nothing is before it. */
  runAtOnce<T>(work: () => Promise<T>): Promise<T> {
    return this.isFree ? this.#take(work()) : this.run(work)
  }

  #take<T>(turn: Promise<T>): Promise<T> {
    this.#waiting++
    const ended = turn.finally(() => {
      this.#waiting--
    })
    this.#last = ended.catch(() => undefined) // whoever asked for it hears of it
    return ended
  }
}

function orGivenUp<T>(ended: Promise<T>, signal: AbortSignal, mayGiveUp: () => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      if (mayGiveUp()) reject(signal.reason)
    }
    signal.addEventListener('abort', aborted, { once: true })
    ended.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted))
  })
}
