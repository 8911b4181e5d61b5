/**
 * Keeps the copy of one store at the log: applies what the log brings, stops where it is told to, and says how far it is.
 *
 * One at a time has the copy: the applying itself, a synchronisation beside the log, or somebody who looks at it while it
 * rests. Whoever asks for it makes the applying stop, which goes on afterwards.
 *
 * Invariant: the number that a copy stands at is read from the copy each time it is opened (copy-progress.ts), so that
 * nothing is applied twice or left out, after a crash too. What is in the way is answered by copy-faults.ts.
 */
import type { Replica } from '../../drivers/driver.ts'
import type { StoreDescription, StoreStand } from '../../link/messages.ts'
import { Turns } from '../../log/turns.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Position, StoreName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import type { StoreStatus } from '../server.ts'
import type { StoreState } from '../state.ts'
import { applyFault } from './apply-fault.ts'
import { CopyFaults } from './copy-faults.ts'
import { CopyProgress } from './copy-progress.ts'
import { CopySynchronisation, type SyncWork } from './copy-synchronisation.ts'
import type { DownstreamOptions, ReplicaStand } from './downstream.ts'
import type { LogReading } from './log-reading.ts'
import { LogSource } from './log-source.ts'
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

interface Claim {
  readonly stop: 'now' | 'consistent'
}

export class StoreKeeper {
  readonly store: StoreName
  readonly place: ReplicaPlace
  readonly #options: StoreKeeperOptions
  readonly #progress: CopyProgress
  readonly #faults: CopyFaults
  readonly #synchronisation: CopySynchronisation
  readonly #closing = new AbortController()
  readonly #turns = new Turns()
  readonly #claims = new Set<Claim>()
  readonly #waiting = new Set<() => void>()
  #running: Promise<void> | undefined
  #wish: Wish
  #applying: { readonly stop: AbortController; readonly source: LogSource } | undefined
  #synchronising = false

  constructor(options: StoreKeeperOptions, wish: Wish) {
    this.#options = options
    const { store, place, log, machine } = options
    this.store = store
    this.place = place
    this.#wish = wish
    const { clock } = machine
    this.#progress = new CopyProgress({
      store,
      log,
      clock,
      place,
      base: () => this.#stored.base,
      until: () => this.#stored.until,
    })
    this.#faults = new CopyFaults({
      ...options,
      progress: this.#progress,
      closing: this.#closing.signal,
      quarantine: () => this.quarantine,
      putOut: () => this.#putOut(),
      changed: () => this.#tell(),
    })
    this.#synchronisation = new CopySynchronisation(options, this.#progress, this.#faults)
  }

  start(): void {
    this.#running = this.#run().catch(error => this.#options.failed(error))
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
    return this.#wish === 'on' || this.#applying !== undefined ? 'applying' : 'paused'
  }

  // what it is told

  /** Resolves when it is so: for `rest`, when the copy rests, or nothing more can be done to make it. */
  async wish(wish: Wish): Promise<void> {
    this.#wish = wish
    this.#look()
    if (wish !== 'on') {
      await this.#until(() => this.#isStuck() || (this.#applying === undefined && !this.#wantsToApply))
    }
  }

  /** Resolves when the copy has all of the log, or cannot have it. Rejects on abort. */
  async dry(signal: AbortSignal): Promise<void> {
    this.#wish = 'dry'
    const aborted = () => this.#tell()
    signal.addEventListener('abort', aborted, { once: true })
    this.#look()
    await this.#until(() => {
      const { isKnown, isDry } = this.#progress
      const isHopeless = isKnown && (this.quarantine !== undefined || this.number === undefined)
      return signal.aborted || (this.#applying === undefined && (isHopeless || isDry))
    })
    signal.removeEventListener('abort', aborted)
    signal.throwIfAborted()
    this.#closing.signal.throwIfAborted()
  }

  /** Resolves when what the copy holds is known, or a fault is in the way of that. */
  async whenKnown(): Promise<void> {
    await this.#until(() => this.isKnown || this.#faults.message !== undefined)
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
    return this.use('now', signal, () => this.#putOut())
  }

  async #putOut(): Promise<void> {
    const { base, until } = this.#stored
    if (base !== undefined || until !== undefined)
      await this.#options.state.updateStore(this.store, ({ base: _, until: _until, ...rest }) => rest)
    this.#progress.putOut(until)
    this.#options.moved()
    this.#tell()
  }

  /** The log has something for the copy, and nothing lasting is in the way of it. */
  get isBehind(): boolean {
    if (this.number === undefined || this.needsRelease) return false
    return this.through < (this.#stored.until ?? this.#options.log.next - 1)
  }

  /**
   * What the log brings from `next` on goes on from another state than the copy's. What it has before was said to be
   * durable here, so the copy takes it first, also when it rests until then. Durable when it resolves.
   */
  async leaveLog(next: number | undefined, signal: AbortSignal): Promise<void> {
    await this.whenKnown()
    if (!this.isBehind) return this.putOut(signal)
    const until = (next ?? this.#options.log.next) - 1
    await this.#options.state.updateStore(this.store, store =>
      store.base === undefined ? store : { ...store, until: Math.min(store.until ?? until, until) },
    )
    this.#look()
  }

  /** Resolves when the copy has all that the log has for it. Throws `log-gap` when that is not to be; rejects on abort. */
  async takeRest(signal: AbortSignal): Promise<void> {
    const isHindered = () => this.#wish !== 'on' || this.#faults.message !== undefined
    const aborted = () => this.#tell()
    signal.addEventListener('abort', aborted, { once: true })
    await this.#until(() => signal.aborted || !this.isBehind || isHindered())
    signal.removeEventListener('abort', aborted)
    signal.throwIfAborted()
    this.#closing.signal.throwIfAborted()
    if (!this.isBehind) return
    const why = this.#faults.message ?? "applying is off here (use 'hotspare apply on')"
    throw new HotspareError(
      'log-gap',
      `The log is to begin anew, and holds transactions that the copy of store '${this.store}' has not taken yet: ${why}.`,
    )
  }

  /** The copy has taken all that it takes from the log. */
  get #hasLeft(): boolean {
    const { until } = this.#stored
    return until !== undefined && this.number !== undefined && this.through >= until
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
    this.#tell()
    await this.whenKnown()
    if (this.number === undefined) this.#options.outOfStep(`store '${this.store}' is to be synchronised`)
  }

  /** Does `work` when nobody applies; the copy is closed then. */
  async use<T>(stop: Claim['stop'], signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const claim: Claim = { stop }
    this.#claims.add(claim)
    try {
      this.#look()
      return await this.#turns.run(() => {
        signal.throwIfAborted()
        return work()
      })
    } finally {
      this.#claims.delete(claim)
      this.#tell()
    }
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
        await this.#putOut()
        await this.#options.invalidate([this.store])
        while ((await this.#synchronisation.once(upstream, work)) === 'again') signal.throwIfAborted()
      } finally {
        this.#synchronising = false
        this.#progress.syncEnds()
        this.#tell()
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
    this.#applying?.stop.abort()
    this.#faults.halt()
    this.#tell()
  }

  async close(): Promise<void> {
    this.halt()
    await this.#running
    await this.use('now', new AbortController().signal, async () => {})
    await this.#faults.idle()
    await this.#progress.close()
    await this.place.close()
  }

  // applying

  get #wantsToApply(): boolean {
    if (this.#closing.signal.aborted || this.#claims.size > 0 || this.#faults.isPausing) return false
    const { isKnown, number, mayRest, isDry } = this.#progress
    if (!isKnown) return true
    if (this.quarantine !== undefined || number === undefined) return false
    if (this.#wish === 'rest') return !mayRest
    return this.#wish === 'on' || !isDry
  }

  /** It wants to go on, and nothing is there for it. */
  #isStuck(): boolean {
    const { stop, source } = this.#applying ?? {}
    return (source?.waiting === true && stop?.signal.aborted === false) || this.#faults.isPausing
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#until(() => this.#wantsToApply || this.#closing.signal.aborted)
      if (this.#closing.signal.aborted) return
      await this.#turns.run(async () => {
        if (this.#wantsToApply) await this.#attemptOnce()
      })
      this.#tell()
    }
  }

  async #attemptOnce(): Promise<void> {
    let source: LogSource | undefined
    const stop = new AbortController()
    try {
      if (this.#stored.base === undefined) {
        await this.#mend()
        await this.#putOut()
        return
      }
      const replica = await this.place.openReplica(false)
      try {
        const learnt = await this.#learn(await replica.position(this.store), replica)
        const idle = this.quarantine !== undefined || this.number === undefined || !this.#wantsToApply
        if (!learnt || idle) return
        const { store } = this
        const { reading } = this.#options
        source = new LogSource({
          store,
          reading,
          after: this.#progress.through,
          until: () => this.#stored.until,
          restsAt: commit => this.#restIsWanted && this.#progress.mayRestAt(commit),
        })
        this.#applying = { stop, source }
        this.#tell()
        await this.#pump(source, replica, stop)
        if (this.#hasLeft && this.#wish === 'on') await this.#leave()
      } finally {
        await source?.close()
        await replica.close()
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) await this.#faults.answer(error, source)
    } finally {
      this.#applying = undefined
    }
  }

  /** The rest is in the copy: now it is synchronised. */
  async #leave(): Promise<void> {
    await this.#putOut()
    this.#options.outOfStep(
      `store '${this.store}' has taken what the log had for it, and is to be synchronised`,
    )
  }

  /** What a crash left half done in a copy that counts for nothing here: others may open it. */
  async #mend(): Promise<void> {
    if (this.isKnown || this.#stored.asFound === true || !(await this.place.isOurs())) return
    try {
      const replica = await this.place.openReplica(false)
      await replica.close()
    } catch (error) {
      // what is wrong with it is told, and mended, when it is synchronised
      if (applyFault(error) === 'passing') throw error
    }
  }

  async #pump(source: LogSource, replica: Replica, stop: AbortController): Promise<void> {
    await pump({
      store: this.store,
      source,
      sink: replica,
      clock: this.#options.machine.clock,
      signal: stop.signal,
      ...(this.#faults.isCareful ? { syncBytesMax: 0 } : {}),
      onDurable: commit => {
        this.#progress.durable(commit, replica)
        this.#faults.wentOn()
        this.#options.moved()
      },
      onCaughtUp: () => {
        this.#progress.caughtUp(source.through)
        this.#options.moved()
        this.#look()
        this.#tell()
        const dry = this.#wish === 'dry' && this.#progress.isDry
        const hasLeft = this.#wish === 'on' && this.#hasLeft
        if (dry || hasLeft || (this.#restIsWanted && this.#progress.mayRest)) stop.abort()
      },
    })
  }

  get #restIsWanted(): boolean {
    return this.#wish === 'rest' || this.#claims.size > 0
  }

  /** Stops what should not go on; called when something was asked for. */
  #look(): void {
    const applying = this.#applying
    if (applying !== undefined) {
      const now = [...this.#claims].some(({ stop }) => stop === 'now')
      const { mayRest, isDry } = this.#progress
      const isThere = (this.#restIsWanted && mayRest) || (this.#wish === 'dry' && isDry)
      if (now || (isThere && applying.source.waiting)) applying.stop.abort()
    }
    this.#tell()
  }

  /** What the opened copy holds. False: it cannot be gone on with. */
  async #learn(position: Position | undefined, replica: Replica): Promise<boolean> {
    if (!this.#progress.read(position, replica)) {
      await this.#putOut()
      this.#options.tell(
        'warning',
        'store-out-of-step',
        `The copy of store '${this.store}' does not stand where the log can go on: it is compared with the upstream's.`,
      )
      this.#options.outOfStep(`store '${this.store}' has to be synchronised`)
      return false
    }
    this.#faults.recovered()
    this.#options.moved()
    return true
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

  #tell(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition() && !this.#closing.signal.aborted) {
      await new Promise<void>(resolve => {
        this.#waiting.add(resolve)
      })
    }
  }
}
