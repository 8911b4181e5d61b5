import type { Clock } from '../os/clock.ts'

/** What is not used for so long is not saved up. */
const burstMs = 250

/** A bound on bytes a second, kept over any stretch of time but for `burstMs`. */
export class TokenBucket {
  readonly #bytesPerMs: number
  readonly #clock: Clock
  #paidUntilMs: number

  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#clock = clock
    this.#paidUntilMs = clock.nowMs()
  }

  /** So much may be sent at once, that it goes steadily. */
  get sliceBytes(): number {
    return Math.max(64, Math.floor(this.#bytesPerMs * 100))
  }

  /** Resolves when so many bytes may be sent, or on abort. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const nowMs = this.#clock.nowMs()
    this.#paidUntilMs = Math.max(this.#paidUntilMs, nowMs - burstMs) + bytes / this.#bytesPerMs
    if (this.#paidUntilMs > nowMs) await this.#clock.sleep(this.#paidUntilMs - nowMs, signal)
  }
}
