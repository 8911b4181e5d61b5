/**
 * Who has a copy: one at a time, the applying itself, or somebody who asked for it (a synchronisation beside the log,
 * somebody who looks at it while it rests). Whoever asks makes the applying stop, which goes on when nobody asks any more.
 */
import { Turns } from '../../log/turns.ts'

/** now: wherever the copy is. consistent: where it may rest. */
export type ClaimStop = 'now' | 'consistent'

interface Claim {
  readonly stop: ClaimStop
}

export class CopyClaims {
  readonly #turns = new Turns()
  readonly #claims = new Set<Claim>()
  readonly #asked: () => void
  readonly #left: () => void

  /** `asked`: the applying is to look whether it has to stop. `left`: it may go on. */
  constructor(on: { asked(): void; left(): void }) {
    this.#asked = on.asked
    this.#left = on.left
  }

  /** Somebody asks for it, or has it. */
  get isAsked(): boolean {
    return this.#claims.size > 0
  }

  get isAskedNow(): boolean {
    return [...this.#claims].some(({ stop }) => stop === 'now')
  }

  /** Does `work` when nobody else has the copy, which is closed then. */
  async use<T>(stop: ClaimStop, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const claim: Claim = { stop }
    this.#claims.add(claim)
    try {
      this.#asked()
      return await this.#turns.run(() => {
        signal.throwIfAborted()
        return work()
      })
    } finally {
      this.#claims.delete(claim)
      this.#left()
    }
  }

  /** Of the applying, which asks for nothing. */
  apply(work: () => Promise<void>): Promise<void> {
    return this.#turns.run(work)
  }
}
