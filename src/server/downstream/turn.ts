/** Something that one at a time may have, in the order of asking. */
export class Turn {
  #last: Promise<void> = Promise.resolve()

  /** Resolves with what gives it back, once. */
  async take(): Promise<() => void> {
    const before = this.#last
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#last = promise
    await before
    return resolve
  }
}
