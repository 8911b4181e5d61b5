/**
 * Keeps the copy of one store at the log: is told what is wished of it, and says how far it is.
 *
 * Who has the copy says copy-claims.ts; what the log brings is applied by copy-applying.ts; what it holds stands in
 * copy-progress.ts; what is in the way is answered by copy-faults.ts; how it leaves the log, to be synchronised beside it
 * (copy-synchronisation.ts), says log-leaving.ts.
 *
 * Invariant: the number that a copy stands at is read from the copy each time it is opened, so that nothing is applied
 * twice or left out, after a crash too.
 */
import type { StoreDescription, StoreStand } from '../../link/messages.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Position, StoreName } from '../../stream/entry.ts'
import type { StoreStatus } from '../server.ts'
import type { StoreState } from '../state.ts'
import { Changes } from './changes.ts'
import { CopyApplying } from './copy-applying.ts'
import { type ClaimStop, CopyClaims } from './copy-claims.ts'
import { CopyFaults } from './copy-faults.ts'
import { CopyProgress } from './copy-progress.ts'
import { CopySynchronisation, type SyncWork } from './copy-synchronisation.ts'
import type { DownstreamOptions, ReplicaStand } from './downstream.ts'
import { LogLeaving } from './log-leaving.ts'
import type { LogReading } from './log-reading.ts'
import type { ReplicaPlace } from './replica-place.ts'

export interface StoreKeeperOptions extends DownstreamOptions {
  readonly store: StoreName
  readonly place: ReplicaPlace
  readonly reading: LogReading
  /** How far it is has changed. */
  moved(): void
  /** It cannot go on by the log, or can be synchronised (again): the upstream has to hear of it. */
  outOfStep(reason: string): void
}

/** on: for ever. rest: up to a commit that it may rest at. dry: to the end of the log. */
export type Wish = 'on' | 'rest' | 'dry'

export class StoreKeeper {
  readonly store: StoreName
  readonly place: ReplicaPlace
  readonly #options: StoreKeeperOptions
  readonly #progress: CopyProgress
  readonly #faults: CopyFaults
  readonly #claims: CopyClaims
  readonly #changes: Changes
  readonly #leaving: LogLeaving
  readonly #applying: CopyApplying
  readonly #synchronisation: CopySynchronisation
  readonly #closing = new AbortController()
  #wish: Wish
  #synchronising = false

  constructor(options: StoreKeeperOptions, wish: Wish) {
    this.#options = options
    const { store, place, log, machine } = options
    this.store = store
    this.place = place
    this.#wish = wish
    const { clock } = machine
    const closing = this.#closing.signal
    this.#progress = new CopyProgress({
      store,
      log,
      clock,
      place,
      base: () => this.#stored.base,
      until: () => this.#stored.until,
    })
    this.#changes = new Changes(closing)
    this.#faults = new CopyFaults({
      ...options,
      progress: this.#progress,
      closing,
      quarantine: () => this.quarantine,
      putOut: () => this.#leaving.putOut(),
      changed: () => this.#changes.tell(),
    })
    this.#claims = new CopyClaims({
      asked: () => this.#applying.look(),
      left: () => this.#changes.tell(),
    })
    const parts = {
      progress: this.#progress,
      faults: this.#faults,
      claims: this.#claims,
      changes: this.#changes,
      stored: () => this.#stored,
      wish: () => this.#wish,
      look: () => this.#applying.look(),
    }
    this.#leaving = new LogLeaving(options, parts)
    this.#applying = new CopyApplying(options, { ...parts, leaving: this.#leaving, closing })
    this.#synchronisation = new CopySynchronisation(options, this.#progress, this.#faults)
  }

  start(): void {
    this.#applying.start()
  }

  // how far it is

  get number(): number | undefined {
    return this.#progress.number
  }

  /** What the copy holds was read from it. */
  get isKnown(): boolean {
    return this.#progress.isKnown
  }

  /** The upstream has the store. */
  isOffered = true

  /** All of the store up to this number is durable in the copy. */
  get applied(): number {
    if (this.number !== undefined) return this.#progress.through
    return this.isOffered ? 0 : Number.POSITIVE_INFINITY
  }

  /** What it needs of the log begins after this number. */
  get through(): number {
    return this.#progress.needed
  }

  /** The last consistent commit, with the driver's own position. */
  get standsConsistent(): ReplicaStand['consistent'] {
    return this.#progress.standsConsistent
  }

  get #stored(): StoreState {
    return this.#options.state.value.stores[this.store] ?? {}
  }

  get quarantine(): StoreState['quarantine'] {
    return this.#stored.quarantine
  }

  /** Nothing is in the way of a synchronisation; a copy that rests is left as it is. */
  async takesSync(): Promise<boolean> {
    // what may pass, as a full disk, has passed or is met again
    if (this.needsRelease || this.#stored.until !== undefined) return false
    return this.#wish === 'on' || (await this.place.isAbsent())
  }

  /** For the upstream. */
  async stand(): Promise<StoreStand> {
    await this.whenKnown()
    const { store } = this
    const number = this.#stored.until === undefined ? this.number : undefined
    const quarantined = this.quarantine !== undefined || (number === undefined && !(await this.takesSync()))
    return { store, number, quarantined }
  }

  /** Why it is not at the end of the log and will not get there by itself. */
  get fault(): string | undefined {
    const { quarantine } = this
    if (quarantine !== undefined) return `quarantined: ${quarantine.message}`
    const { message } = this.#faults
    const isOut = this.number === undefined || this.#stored.until !== undefined
    return message ?? (isOut ? 'it has to be synchronised' : undefined)
  }

  status(lagMs: number | undefined): StoreStatus {
    const { store, place, number } = this
    const message = this.#faults.message ?? this.quarantine?.message
    return {
      store,
      driver: place.driver.name,
      path: place.path,
      state: this.#state(),
      number,
      consistent: this.#progress.consistent,
      ...(lagMs === undefined || number === undefined ? {} : { lagMs }),
      ...(message === undefined ? {} : { message }),
    }
  }

  #state(): StoreStatus['state'] {
    if (this.#closing.signal.aborted) return 'stopped'
    if (this.quarantine !== undefined) return 'quarantined'
    if (this.#synchronising) return 'synchronising'
    if (this.#faults.message !== undefined) return 'faulty'
    if (this.number === undefined) return 'waiting'
    return this.#wish === 'on' || this.#applying.isOpen ? 'applying' : 'paused'
  }

  // what it is told

  /** Resolves when it is so: for `rest`, when the copy rests, or nothing more can be done to make it. */
  async wish(wish: Wish): Promise<void> {
    this.#wish = wish
    this.#applying.look()
    if (wish !== 'on') {
      const applying = this.#applying
      await this.#changes.until(() => applying.isStuck || (!applying.isOpen && !applying.isWanted))
    }
  }

  /** Resolves when the copy has all of the log, or cannot have it. Rejects on abort. */
  async dry(signal: AbortSignal): Promise<void> {
    this.#wish = 'dry'
    this.#applying.look()
    await this.#changes.untilSo(signal, () => {
      const { isKnown, isDry } = this.#progress
      const isHopeless = isKnown && (this.quarantine !== undefined || this.number === undefined)
      return !this.#applying.isOpen && (isHopeless || isDry)
    })
  }

  /** Resolves when what the copy holds is known, or a fault is in the way of that. */
  async whenKnown(): Promise<void> {
    await this.#changes.until(() => this.isKnown || this.#faults.message !== undefined)
  }

  /** The upstream brings it beside the log; from `next` on this log has what it will need. */
  toSync(next: number): void {
    this.#progress.toSync(next)
  }

  /** A transaction of the store was received. */
  seen(number: number): void {
    this.#progress.seen(number)
  }

  /** Nothing that the copy holds counts in this log any more. Durable when it resolves. */
  putOut(signal: AbortSignal): Promise<void> {
    return this.#claims.use('now', signal, () => this.#leaving.putOut())
  }

  /** See `LogLeaving.begin`. */
  async leaveLog(next: number | undefined, signal: AbortSignal): Promise<void> {
    await this.whenKnown()
    await this.#leaving.begin(next, signal)
  }

  /** See `LogLeaving.isBehind`. */
  get isBehind(): boolean {
    return this.#leaving.isBehind
  }

  /** See `LogLeaving.takeRestSoon`. */
  takeRestSoon(signal: AbortSignal): Promise<void> {
    return this.#leaving.takeRestSoon(signal)
  }

  /** See `LogLeaving.takeRest`. */
  takeRest(signal: AbortSignal): Promise<void> {
    return this.#leaving.takeRest(signal)
  }

  /** The log does not keep what it needs any more. */
  async lost(): Promise<void> {
    await this.putOut(this.#closing.signal)
    this.#options.tell(
      'warning',
      'store-out-of-step',
      `The log was full, and went on without store '${this.store}': its copy is compared with the upstream's.`,
    )
    if (this.quarantine === undefined) this.#options.outOfStep(`store '${this.store}' has to be synchronised`)
  }

  /** Throws `config-invalid` when the upstream's store is of another kind. */
  assertSame({ driver, profile }: StoreDescription): void {
    const own = this.#options.settings.stores.find(({ store }) => store === this.store)
    if (driver === own?.driver && profile === own.profile) return
    throw new HotspareError(
      'config-invalid',
      `the upstream has it with driver ${driver}${profile === undefined ? '' : `, profile ${profile}`}, and this server with ${own?.driver}${own?.profile === undefined ? '' : `, profile ${own.profile}`}.`,
    )
  }

  /** The log has begun anew at `next`. */
  restarted(next: number): void {
    this.#progress.restarted(next)
  }

  async release(how: 'retry' | 'synchronise'): Promise<void> {
    await this.#options.state.updateStore(this.store, ({ quarantine: _, base, until, ...rest }) => ({
      ...rest,
      // what the copy says of itself is not believed then
      ...(how === 'synchronise' ? { asFound: true } : base === undefined ? {} : { base }),
      ...(how === 'synchronise' || until === undefined ? {} : { until }),
    }))
    this.#progress.forget()
    this.#faults.released()
    this.#changes.tell()
    await this.whenKnown()
    if (this.number === undefined) this.#options.outOfStep(`store '${this.store}' is to be synchronised`)
  }

  /** Does `work` when nobody applies; the copy is closed then. */
  use<T>(stop: ClaimStop, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return this.#claims.use(stop, signal, work)
  }

  /** The copy rests meanwhile, at a consistent commit if it ever had one. Throws `target-incomplete` when it cannot. */
  async whileResting<T>(
    signal: AbortSignal,
    work: (number: number, position: Position) => Promise<T>,
  ): Promise<T> {
    await this.whenKnown()
    return this.use('consistent', signal, async () => {
      const { position, mayRest, through } = this.#progress
      // whoever is given it goes on with the log, which does not
      const hasToLeave = this.#stored.until !== undefined
      if (this.number === undefined || hasToLeave || !mayRest || position === undefined) {
        throw new HotspareError(
          'target-incomplete',
          `The copy of store '${this.store}' does not rest here: ${this.fault ?? 'it is still applied to'}.`,
        )
      }
      return work(through, position)
    })
  }

  /** The caller's work gives the copy everything; what it leaves unfinished counts for nothing, and may be begun again. */
  synchronise(signal: AbortSignal, upstream: string, work: SyncWork): Promise<void> {
    return this.use('now', signal, async () => {
      this.#synchronising = true
      this.#progress.syncBegins()
      try {
        // what the log brings next goes on from another state than the copy's
        await this.#leaving.putOut()
        await this.#options.invalidate([this.store])
        while ((await this.#synchronisation.once(upstream, work)) === 'again') signal.throwIfAborted()
      } finally {
        this.#synchronising = false
        this.#progress.syncEnds()
        this.#changes.tell()
      }
    })
  }

  /** What was found at the copy is not as it said: it is compared, whatever it says of itself. */
  async distrust(): Promise<void> {
    await this.#options.state.updateStore(this.store, ({ base: _, until: _until, ...rest }) => ({
      ...rest,
      asFound: true,
    }))
  }

  /** Nothing is begun any more. */
  halt(): void {
    this.#closing.abort()
    this.#applying.halt()
    this.#faults.halt()
    this.#changes.tell()
  }

  async close(): Promise<void> {
    this.halt()
    await this.#applying.ended()
    await this.use('now', new AbortController().signal, async () => {})
    await this.#faults.idle()
    await this.#progress.close()
    await this.place.close()
  }

  // what goes wrong

  /** See `CopyFaults`; it is synchronised again by another session. */
  retryLater(error: unknown): void {
    this.#faults.retryLater(error, false)
  }

  cannotSync(error: unknown): void {
    this.#faults.cannotSync(error)
  }

  /** It rests until it is released. */
  get needsRelease(): boolean {
    return this.quarantine !== undefined || this.#faults.isLasting
  }
}
