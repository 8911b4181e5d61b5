/**
 * When a log was looked at, and how far it was committed then: so that of a place that was taken it can be said up to
 * which moment it has everything, while the look that began with it has not been taken to its end yet.
 */

/** Looks that were not taken to their end yet. When there are so many, later ones wait for room. */
const looksMax = 64

export class CommitLooks {
  readonly #looks: { atMs: number; readonly frame: number }[] = []

  /** All that was committed at `atMs` ends with `frame`. Neither goes back. */
  add(atMs: number, frame: number): void {
    const last = this.#looks.at(-1)
    if (last?.frame === frame) last.atMs = atMs
    else if (this.#looks.length < looksMax) this.#looks.push({ atMs, frame })
  }

  /** All up to `frame` was taken: up to which moment that is everything, where that is known anew. */
  taken(frame: number): number | undefined {
    let upToMs: number | undefined
    for (let look = this.#looks[0]; look !== undefined && look.frame <= frame; look = this.#looks[0]) {
      upToMs = look.atMs
      this.#looks.shift()
    }
    return upToMs
  }

  /** Another log is read. */
  clear(): void {
    this.#looks.length = 0
  }
}
