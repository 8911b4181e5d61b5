/**
 * Watches one follower: turns what the pump reports into events and `status.json`.
 *
 * Nothing runs on a timer while nothing moves: the first report after a pause arms one tick, and a tick arms the next
 * only while there is something new to say or something left to take.
 */
import type { ConsistentCommit, Replica } from '../drivers/driver.ts'
import type { Clock } from '../os/clock.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import type { Storage } from '../os/storage.ts'
import { type FollowerStatus, writeStatusFile } from '../replica/status-file.ts'
import type { Commit, Position } from '../stream/entry.ts'
import type { PumpProgress } from '../stream/pump.ts'
import type { Source } from '../stream/source.ts'
import type { FollowEvent, FollowEventBody } from './events.ts'
import { LagMeter } from './lag.ts'

const tickMs = 500
const statusIntervalMs = 1_000

export interface MonitorOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly behindMs: number
  onEvent(event: FollowEvent): void
}

export class FollowMonitor {
  readonly #storage: Storage
  readonly #clock: Clock
  readonly #onEvent: (event: FollowEvent) => void
  readonly #behindMs: number
  #lag: LagMeter
  readonly #startedMs: number
  readonly #ended = new AbortController()
  #sidecar: string | undefined
  #source: Source | undefined
  #replica: Replica | undefined
  #state: FollowerStatus['state'] = 'starting'
  #position: Position | undefined
  #consistent: ConsistentCommit | undefined
  #complete = false
  #windowed = false
  #lastError: FollowerStatus['lastError']
  #before: PumpProgress = { bytes: 0, transactions: 0 }
  #now: PumpProgress = { bytes: 0, transactions: 0 }
  #ticking: Promise<void> | undefined
  #changed = false
  #statusDue = true
  #statusWrittenMs = 0

  constructor(options: MonitorOptions) {
    this.#storage = options.storage
    this.#clock = options.clock
    this.#onEvent = options.onEvent
    this.#behindMs = options.behindMs
    this.#lag = new LagMeter(options.behindMs)
    this.#startedMs = options.clock.nowMs()
  }

  get bytes(): number {
    return this.#before.bytes + this.#now.bytes
  }
  get transactions(): number {
    return this.#before.transactions + this.#now.transactions
  }
  get position(): Position | undefined {
    return this.#position
  }
  get consistent(): ConsistentCommit | undefined {
    return this.#consistent
  }
  /** Consistent only as of maintenance windows. */
  get windowed(): boolean {
    return this.#windowed
  }
  /** The copy has all that the source had at some moment of this run, or is known to be a valid store. */
  get complete(): boolean {
    return this.#complete || this.#consistent !== undefined
  }

  emit(body: FollowEventBody): void {
    this.#onEvent({ timeMs: this.#clock.nowMs(), ...body })
  }

  /** A sidecar is ours to write the status into. Goes on with what the last follower said of the same copy. */
  attach(sidecar: string, last: FollowerStatus | undefined): void {
    this.#sidecar = sidecar
    this.#lag = new LagMeter(this.#behindMs, last?.knownMs)
    this.#complete = last?.complete ?? false
  }

  /** An attempt begins with these, at the replica's own position. */
  opened(source: Source, replica: Replica, position: Position | undefined): void {
    this.#source = source
    this.#replica = replica
    this.#position = position
    this.#consistent = replica.consistent()
    this.#enter(this.#lag.live ? 'behind' : 'copying')
  }

  readonly onProgress = (progress: PumpProgress): void => {
    this.#now = progress
    this.#lag.moved(this.#readClock)
    this.#touch()
  }

  readonly onDurable = (commit: Commit, progress: PumpProgress): void => {
    this.#now = progress
    this.#position = commit.position
    this.#consistent = this.#replica?.consistent() ?? this.#consistent
    this.#lag.moved(this.#readClock)
    this.#touch()
  }

  readonly onCaughtUp = (progress: PumpProgress): void => {
    this.#now = progress
    const nowMs = this.#clock.nowMs()
    // what is consistent only inside a window is complete without one as well
    const windowed = this.#source?.hold !== undefined
    this.#windowed = windowed
    this.#complete ||= windowed
    const word = this.#lag.reachedEnd(nowMs, windowed || this.#replica?.consistent() !== undefined)
    if (word === 'live') {
      const elapsedMs = nowMs - this.#startedMs
      this.emit({ event: 'live', ...this.#totals(), elapsedMs, ...(windowed ? { windowed } : {}) })
      if (windowed) this.#tellOfWindows()
    } else if (word === 'caught-up') {
      this.emit({ event: 'caught-up', lagMs: 0 })
    }
    if (this.#lag.live && this.#state !== 'live') this.#enter('live')
  }

  #tellOfWindows(): void {
    const last = this.#consistent
    const when =
      last === undefined ? 'there was none yet' : `the last one was at ${new Date(last.timeMs).toISOString()}`
    this.emit({
      event: 'notice',
      code: 'window-needed',
      message: `The copy is consistent only as of a maintenance window ('hotspare mirror'); ${when}.`,
      ...(last === undefined ? {} : { details: { windowMs: last.timeMs } }),
    })
  }

  /** The attempt failed with what will be tried again. */
  retrying(error: HotspareError, attempt: number, delayMs: number): void {
    this.#detach()
    this.#lag.interrupted()
    this.#noteError(error)
    this.emit({ event: 'retrying', code: error.code, message: error.message, attempt, delayMs })
    this.#enter('retrying')
  }

  /** The attempt was ended on purpose; the next one comes at once. */
  abandoned(): void {
    this.#detach()
  }

  /** The end, for good or bad; writes the last status. */
  async stopped(error?: HotspareError): Promise<void> {
    if (error !== undefined) this.#noteError(error)
    this.#state = 'stopped'
    this.#detach()
    this.#ended.abort()
    await this.#ticking
    await this.#writeStatus()
  }

  readonly #readClock = (): number => this.#clock.nowMs()

  #totals(): PumpProgress {
    return { bytes: this.bytes, transactions: this.transactions }
  }

  #noteError(error: HotspareError): void {
    this.#lastError = { code: error.code, message: error.message, timeMs: this.#clock.nowMs() }
  }

  #detach(): void {
    this.#before = this.#totals()
    this.#now = { bytes: 0, transactions: 0 }
    this.#source = undefined
    this.#replica = undefined
  }

  #enter(state: FollowerStatus['state']): void {
    this.#state = state
    this.#touch()
  }

  #touch(): void {
    this.#changed = true
    this.#statusDue = true
    this.#ticking ??= this.#tickWhileMoving().finally(() => {
      this.#ticking = undefined
    })
  }

  async #tickWhileMoving(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(tickMs, this.#ended.signal)
      if (this.#ended.signal.aborted) return
      const changed = this.#changed
      this.#changed = false
      const nowMs = this.#clock.nowMs()
      if (changed) await this.#tell(nowMs)
      if (this.#statusDue && nowMs - this.#statusWrittenMs >= statusIntervalMs) await this.#writeStatus()
      const restless = this.#source !== undefined && !this.#lag.caughtUp
      if (!this.#changed && !this.#statusDue && !restless) return
    }
  }

  async #tell(nowMs: number): Promise<void> {
    const backlogBytes = this.#lag.caughtUp ? undefined : await this.#backlog()
    this.#lag.measured(nowMs, this.bytes, backlogBytes)
    const figures = this.#lag.figures(nowMs)
    if (this.#source !== undefined) {
      this.emit({ event: 'progress', ...this.#totals(), ...figures, live: this.#lag.live })
    }
    const word = this.#lag.judge(nowMs)
    if (word === 'behind') {
      this.emit({ event: 'behind', ...figures })
      this.#state = 'behind'
    } else if (word === 'caught-up') {
      this.emit({ event: 'caught-up', lagMs: figures.lagMs })
      this.#state = 'live'
    }
  }

  /** For a display only: a source that can't tell now (it may just be closing) is asked again at the next tick. */
  async #backlog(): Promise<number | undefined> {
    try {
      return (await this.#source?.backlog?.())?.bytes
    } catch {
      return undefined
    }
  }

  async #writeStatus(): Promise<void> {
    if (this.#sidecar === undefined) return
    const nowMs = this.#clock.nowMs()
    this.#statusWrittenMs = nowMs
    this.#statusDue = false
    try {
      await writeStatusFile(this.#storage, this.#sidecar, this.#status(nowMs))
    } catch (error) {
      // safe: nothing but a display reads it, and a fault of this disk meets the copy as well, where it is told
      if (!(describeSystemError(error, 'Writing the status') instanceof HotspareError)) throw error
      this.#statusDue = this.#state !== 'stopped'
    }
  }

  #status(nowMs: number): FollowerStatus {
    const consistent = this.#consistent
    const { knownMs } = this.#lag
    return {
      pid: process.pid,
      state: this.#state,
      updatedMs: nowMs,
      startedMs: this.#startedMs,
      ...(this.#position === undefined ? {} : { position: this.#position }),
      ...(consistent === undefined ? {} : { consistent: { ...consistent } }),
      ...(this.#complete ? { complete: true } : {}),
      ...(knownMs === undefined ? {} : { knownMs }),
      ...this.#lag.figures(nowMs),
      ...this.#totals(),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    }
  }
}
