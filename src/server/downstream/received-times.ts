/** When which transactions arrived: how long it is that a copy has not got the next one. Bounded. */
const samplesMax = 256
const intervalMs = 100

export class ReceivedTimes {
  /** Ascending: transaction `number` arrived then, and the ones after it up to the next sample not much later. */
  #samples: { readonly number: number; readonly atMs: number }[] = []

  arrived(number: number, atMs: number): void {
    const last = this.#samples.at(-1)
    if (last !== undefined && number > last.number && atMs - last.atMs < intervalMs) return
    if (last !== undefined && number <= last.number) this.#samples = []
    this.#samples.push({ number, atMs })
    // from so many on the old ones are told apart less well
    if (this.#samples.length > samplesMax) this.#samples = this.#samples.filter((_, index) => index % 2 === 0)
  }

  /** All up to `through` is had by all. */
  forget(through: number): void {
    const index = this.#samples.findLastIndex(({ number }) => number <= through)
    if (index > 0) this.#samples.splice(0, index)
  }

  /** When the first transaction after `through` arrived, at the earliest; undefined: not known. */
  firstAfter(through: number): number | undefined {
    const index = this.#samples.findIndex(({ number }) => number > through)
    // the one after it may be of the same sample
    return this.#samples[index < 0 ? this.#samples.length - 1 : index === 0 ? 0 : index - 1]?.atMs
  }
}
