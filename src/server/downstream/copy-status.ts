/** `status.json` beside a standby's copy, for `hotspare status`: written at most once a second, while something moves. */
import type { ConsistentCommit } from '../../drivers/driver.ts'
import type { Clock } from '../../os/clock.ts'
import type { FollowerStatus } from '../../replica/status-file.ts'
import type { Position } from '../../stream/entry.ts'
import type { ReplicaPlace } from './replica-place.ts'

const intervalMs = 1_000

export class CopyStatus {
  readonly #place: ReplicaPlace
  readonly #clock: Clock
  readonly #startedMs: number
  readonly #ended = new AbortController()
  #position: Position | undefined
  #consistent: ConsistentCommit | undefined
  #transactions = 0
  #isLive = false
  #due = false
  #ticking: Promise<void> | undefined

  constructor(place: ReplicaPlace, clock: Clock) {
    this.#place = place
    this.#clock = clock
    this.#startedMs = clock.nowMs()
  }

  moved(position: Position, consistent: ConsistentCommit | undefined): void {
    if (position === this.#position) return
    this.#transactions++
    this.#position = position
    this.#consistent = consistent
    this.#isLive = false
    this.#tickSoon()
  }

  caughtUp(): void {
    if (this.#isLive) return
    this.#isLive = true
    this.#tickSoon()
  }

  async close(): Promise<void> {
    this.#ended.abort()
    await this.#ticking
    await this.#write('stopped')
  }

  #tickSoon(): void {
    this.#due = true
    this.#ticking ??= this.#tick().finally(() => {
      this.#ticking = undefined
    })
  }

  async #tick(): Promise<void> {
    while (this.#due && !this.#ended.signal.aborted) {
      await this.#clock.sleep(intervalMs, this.#ended.signal)
      this.#due = false
      if (!this.#ended.signal.aborted) await this.#write(this.#isLive ? 'live' : 'behind')
    }
  }

  async #write(state: FollowerStatus['state']): Promise<void> {
    if (this.#position === undefined) return
    await this.#place.tellStatus({
      pid: process.pid,
      state,
      updatedMs: this.#clock.nowMs(),
      startedMs: this.#startedMs,
      position: this.#position,
      ...(this.#consistent === undefined ? {} : { consistent: { ...this.#consistent } }),
      ...(this.#isLive ? { lagMs: 0 } : {}),
      bytes: 0,
      transactions: this.#transactions,
    })
  }
}
