/**
 * How far a copy is behind, and when that is worth a word. Pure: events in, figures out.
 *
 * A source looks at its store, and gives all that is there; when the last of it is durable, everything that was
 * committed before that look is in the copy. So the time since the last finished look began bounds the lag from above.
 * While a look takes long, because the source is never idle, what is left to take divided by the pace says it closer; the
 * lesser of the two counts.
 */
export interface LagFigures {
  readonly lagMs: number
  readonly backlogBytes?: number
}

/** The pace is that of so many measurements, lest a moment's pause looks like a standstill. */
const paceSamples = 10

export class LagMeter {
  readonly #behindMs: number
  #caughtUp = false
  #lookBeganMs: number | undefined
  #knownMs: number | undefined
  #live = false
  #behind = false
  #interrupted = false
  #backlogBytes: number | undefined
  #samples: { readonly timeMs: number; readonly bytes: number }[] = []

  /** Further behind than `behindMs` is told. `knownMs`: when an earlier follower had all that there was. */
  constructor(behindMs: number, knownMs?: number) {
    this.#behindMs = behindMs
    this.#knownMs = knownMs
  }

  get live(): boolean {
    return this.#live
  }

  get caughtUp(): boolean {
    return this.#caughtUp
  }

  /** The copy has everything that was committed before this; undefined: it can't be told. */
  get knownMs(): number | undefined {
    return this.#knownMs
  }

  /** Something came; called often. The first time after the end of a look, the next one has begun. */
  moved(nowMs: () => number): void {
    if (this.#lookBeganMs !== undefined && !this.#caughtUp) return
    const now = nowMs()
    this.#lookBeganMs = now
    // idle until this moment: nothing was missing, however long ago the last commit is
    if (this.#caughtUp) this.#knownMs = now
    this.#caughtUp = false
  }

  /** A fault ended the flow; the next time of being caught up is told. */
  interrupted(): void {
    this.#caughtUp = false
    this.#lookBeganMs = undefined
    this.#interrupted = this.#live
    this.#samples = []
    this.#backlogBytes = undefined
  }

  /** From time to time: what is left, where that is known, and what has been taken since the start. */
  measured(nowMs: number, takenBytes: number, backlogBytes: number | undefined): void {
    this.#backlogBytes = backlogBytes
    this.#samples.push({ timeMs: nowMs, bytes: takenBytes })
    if (this.#samples.length > paceSamples) this.#samples.shift()
  }

  /** What is to be told of having caught up, with a copy that is consistent or not. */
  reachedEnd(nowMs: number, consistent: boolean): 'live' | 'caught-up' | undefined {
    this.#knownMs = this.#caughtUp ? nowMs : (this.#lookBeganMs ?? nowMs)
    this.#caughtUp = true
    this.#backlogBytes = undefined
    if (!consistent) return undefined
    if (!this.#live) {
      this.#live = true
      return 'live'
    }
    if (!this.#behind && !this.#interrupted) return undefined
    this.#behind = false
    this.#interrupted = false
    return 'caught-up'
  }

  figures(nowMs: number): LagFigures {
    if (this.#caughtUp) return { lagMs: 0 }
    const byTimeMs = this.#knownMs === undefined ? 0 : Math.max(0, nowMs - this.#knownMs)
    const left = this.#backlogBytes
    if (left === undefined) return { lagMs: byTimeMs }
    return { lagMs: Math.min(byTimeMs, left / this.#paceBytesPerMs()), backlogBytes: left }
  }

  /** What is to be told now, of a copy that is live and has not reached the end. */
  judge(nowMs: number): 'behind' | 'caught-up' | undefined {
    if (!this.#live || this.#caughtUp) return undefined
    const { lagMs } = this.figures(nowMs)
    if (!this.#behind && lagMs > this.#behindMs) {
      this.#behind = true
      return 'behind'
    }
    // a source that is never idle never ends: well under the threshold is as good
    if (this.#behind && lagMs < this.#behindMs / 2) {
      this.#behind = false
      this.#interrupted = false
      return 'caught-up'
    }
    return undefined
  }

  /** Tiny rather than zero at a standstill, so that nothing left is no lag even then. */
  #paceBytesPerMs(): number {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)]
    if (first === undefined || last === undefined || last.timeMs === first.timeMs) return Number.MIN_VALUE
    return Math.max((last.bytes - first.bytes) / (last.timeMs - first.timeMs), Number.MIN_VALUE)
  }
}
