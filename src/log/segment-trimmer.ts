/**
 * Removes a log's oldest segments when every subscriber has what they have, and they need not be kept for their age or
 * for history.
 *
 * Invariant: a segment is removed only after the state says, durably, that the log begins behind it; so what a crash
 * leaves is removed at the next opening. Which ones may go is decided and noted without waiting, so that nobody can
 * subscribe in between to what is being removed.
 */
import type { Clock } from '../os/clock.ts'
import type { Storage } from '../os/storage.ts'
import type { LogLimits, LogNotice } from './log.ts'
import { removableCount } from './retention.ts'
import type { SegmentList } from './segment-list.ts'
import type { StateKeeper } from './state-keeper.ts'
import { Turns } from './turns.ts'

/** What it needs of its log. */
export interface TrimmedLog {
  readonly limits: LogLimits
  readonly bytes: number
  readonly durable: number
  /** A transaction has begun, and not ended. */
  readonly isInside: boolean
  /** Begins a new segment; only when no transaction has begun. */
  roll(): Promise<void>
  /** There is more room than before. */
  removed(): void
}

export interface TrimmerMachine {
  readonly storage: Storage
  readonly clock: Clock
  readonly directory: string
  onNotice(notice: LogNotice): void
}

export class SegmentTrimmer {
  readonly #log: TrimmedLog
  readonly #machine: TrimmerMachine
  readonly #segments: SegmentList
  readonly #state: StateKeeper
  readonly #turns = new Turns()
  #trimming: Promise<void> | undefined
  #isEnded = false

  constructor(log: TrimmedLog, machine: TrimmerMachine, segments: SegmentList, state: StateKeeper) {
    this.#log = log
    this.#machine = machine
    this.#segments = segments
    this.#state = state
  }

  /** Removes what need not be kept, when it can; nobody waits for it. */
  soon(): void {
    this.#trimming ??= this.#trim(true)
      .catch(error => this.#noticeFailed(error)) // tried again with the next segment, or acknowledgement
      .finally(() => {
        this.#trimming = undefined
      })
  }

  /** Removes all that everybody has, history too; the caller holds the turn to append. */
  async makeRoom(): Promise<void> {
    await this.#trim(false)
    const newest = this.#segments.newest
    const isAcknowledged = this.#state.subscribers.least(newest.last) >= newest.last
    if (!isAcknowledged || newest.isEmpty || this.#log.isInside) return
    await this.#log.roll()
    await this.#trim(false)
  }

  /** Nothing is removed until `work` has ended. */
  hold<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(work)
  }

  /** Nothing more is removed, but for what was begun; resolves when that has ended. */
  async end(): Promise<void> {
    this.#isEnded = true
    await this.#trimming
  }

  #trim(history: boolean): Promise<void> {
    return this.#turns.run(() => this.#trimNow(history))
  }

  async #trimNow(history: boolean): Promise<void> {
    const count = this.#removable(history)
    if (count === 0 || this.#isEnded) return
    if (!history && this.#removable(true) < count) this.#noticeKeptLess()
    const removed = this.#segments.takeOldest(count)
    try {
      const { first, chainBefore } = this.#segments.oldest.start
      await this.#state.setFirst(first, chainBefore)
    } catch (error) {
      this.#segments.putBack(removed)
      throw error
    }
    try {
      for (const segment of removed) await this.#machine.storage.remove(segment.path)
    } finally {
      this.#log.removed() // what could not be removed is not of the log any more, and goes at the next opening
    }
  }

  #removable(history: boolean): number {
    return removableCount(
      this.#segments.all.map(({ last, end, newestTimeMs }) => ({ last, bytes: end, newestTimeMs })),
      this.#state.subscribers.least(this.#log.durable),
      this.#log.limits,
      this.#machine.clock.nowMs(),
      history,
    )
  }

  #noticeKeptLess(): void {
    this.#machine.onNotice({
      level: 'warning',
      code: 'log-kept-less',
      message: 'The log is full: what everybody has is kept less long than was asked for.',
      details: { bytes: this.#log.bytes, bytesMax: this.#log.limits.bytesMax },
    })
  }

  #noticeFailed(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error)
    this.#machine.onNotice({
      level: 'warning',
      code: 'log-state-unwritten',
      message: `What everybody has cannot be removed from the log, and will be tried again: ${why}`,
      details: { directory: this.#machine.directory },
    })
  }
}
