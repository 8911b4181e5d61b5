/**
 * How a copy leaves its log: what the log brings goes on from another state than the copy's, so that it has to be
 * synchronised beside the log.
 *
 * Invariant: what the log has for the copy was said to be durable here. So the copy takes it first, up to `until`, and only
 * then counts for nothing (`putOut`); both stand in the state, durably, before anybody relies on them. After a crash a copy
 * that leaves goes on leaving.
 */
import { HotspareError } from '../../os/errors.ts'
import type { StoreState } from '../state.ts'
import { withinTime } from '../within-time.ts'
import type { Changes } from './changes.ts'
import type { CopyClaims } from './copy-claims.ts'
import type { CopyFaults } from './copy-faults.ts'
import type { CopyProgress } from './copy-progress.ts'
import type { StoreKeeperOptions, Wish } from './store-keeper.ts'

/** A copy rests between its groups, for less than this. */
const soonMsMax = 1000

export interface LogLeavingParts {
  readonly progress: CopyProgress
  readonly faults: CopyFaults
  readonly claims: CopyClaims
  readonly changes: Changes
  /** As it is durable now. */
  stored(): StoreState
  wish(): Wish
  /** What is asked of the applying has changed. */
  look(): void
}

export class LogLeaving {
  readonly #options: StoreKeeperOptions
  readonly #parts: LogLeavingParts

  constructor(options: StoreKeeperOptions, parts: LogLeavingParts) {
    this.#options = options
    this.#parts = parts
  }

  /** It takes nothing of the log after this number; undefined when it does not leave. */
  get until(): number | undefined {
    return this.#parts.stored().until
  }

  /** The log has something for the copy, and nothing lasting is in the way of it. */
  get isBehind(): boolean {
    const { progress, faults, stored } = this.#parts
    const isInTheWay = stored().quarantine !== undefined || faults.isLasting
    if (progress.number === undefined || isInTheWay) return false
    const { log, store } = this.#options
    const { until = Number.POSITIVE_INFINITY } = this
    const last = Math.min(log.mark(store)?.number ?? 0, until)
    return progress.number < last && progress.needed < Math.min(log.next - 1, until)
  }

  /** The copy has taken all that it takes from the log. */
  get hasTaken(): boolean {
    const { progress } = this.#parts
    const { until } = this
    return until !== undefined && progress.number !== undefined && progress.needed >= until
  }

  /**
   * What the log brings from `next` on (undefined: from here on) is not for the copy. It takes what the log has before,
   * also when it rests until then. Durable when it resolves.
   */
  async begin(next: number | undefined, signal: AbortSignal): Promise<void> {
    const { claims, look } = this.#parts
    const { log, state, store } = this.#options
    if (!this.isBehind) return claims.use('now', signal, () => this.putOut())
    const until = (next ?? log.next) - 1
    await state.updateStore(store, stored =>
      stored.base === undefined ? stored : { ...stored, until: Math.min(stored.until ?? until, until) },
    )
    look()
  }

  /** Nothing that the copy holds counts in this log any more. Durable when it resolves. Whoever calls has the copy. */
  async putOut(): Promise<void> {
    const { progress, changes, stored } = this.#parts
    const { state, store, moved } = this.#options
    const { base, until } = stored()
    if (base !== undefined || until !== undefined)
      await state.updateStore(store, ({ base: _, until: _until, ...rest }) => rest)
    progress.putOut(until)
    moved()
    changes.tell()
  }

  /** All is taken: now it is synchronised. Whoever calls has the copy. */
  async end(): Promise<void> {
    const { store, outOfStep } = this.#options
    await this.putOut()
    outOfStep(`store '${store}' has taken what the log had for it, and is to be synchronised`)
  }

  /** Waits a moment for what the log has for the copy. Rejects on abort. */
  async takeRestSoon(signal: AbortSignal): Promise<void> {
    if (!this.isBehind) return
    const { clock } = this.#options.machine
    try {
      await withinTime(clock, soonMsMax, signal, 'It takes the log', within => this.takeRest(within))
    } catch (error) {
      signal.throwIfAborted()
      // that it is still behind is seen by whoever asks
      if (!(error instanceof HotspareError)) throw error
    }
  }

  /** Resolves when the copy has all that the log has for it. Throws `log-gap` when that is not to be; rejects on abort. */
  async takeRest(signal: AbortSignal): Promise<void> {
    const { faults, changes, wish } = this.#parts
    const isHindered = () => wish() !== 'on' || faults.message !== undefined
    await changes.untilSo(signal, () => !this.isBehind || isHindered())
    if (!this.isBehind) return
    const why = faults.message ?? "applying is off here (use 'hotspare apply on')"
    throw new HotspareError(
      'log-gap',
      `The log is to begin anew, and holds transactions that the copy of store '${this.#options.store}' has not taken yet: ${why}.`,
    )
  }
}
