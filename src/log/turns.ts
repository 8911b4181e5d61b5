/** One after another: what is run here begins when all before it has ended, in whatever way. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve()
  #waiting = 0

  get isFree(): boolean {
    return this.#waiting === 0
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++
    const ended = this.#last.then(work).finally(() => {
      this.#waiting--
    })
    this.#last = ended.catch(() => undefined) // whoever asked for it hears of it
    return ended
  }
}
