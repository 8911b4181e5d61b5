/**
 * Keeps the copy of one store at the log: applies what the log brings, stops where it is told to, and says how far it is.
 *
 * One at a time has the copy: the applying itself, a synchronisation beside the log, or somebody who looks at it while it
 * rests. Whoever asks for it makes the applying stop, which goes on afterwards.
 *
 * Invariants. The number that a copy stands at is read from the copy each time it is opened, so that nothing is applied
 * twice or left out, after a crash too. A transaction that is refused is tried once more by itself, so that all before it
 * are in the copy; then it is put aside, and the store rests until it is released. What a full or broken disk hinders is
 * tried again without end.
 */
import type { Replica } from '../../drivers/driver.ts'
import type { StoreDescription, StoreStand } from '../../link/messages.ts'
import { Turns } from '../../log/turns.ts'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StoreName } from '../../stream/entry.ts'
import { barePosition, parseNumberedPosition } from '../../stream/numbered-position.ts'
import { pump } from '../../stream/pump.ts'
import type { StoreStatus } from '../server.ts'
import type { StoreState } from '../state.ts'
import { applyFault, retryDelayMs } from './apply-fault.ts'
import { numberOf, throughOf } from './copy-stand.ts'
import { CopyStatus } from './copy-status.ts'
import { applySubscriber, type DownstreamOptions, type ReplicaStand } from './downstream.ts'
import { type LogReading, LogUnreadable } from './log-reading.ts'
import { LogSource } from './log-source.ts'
import { putAside } from './quarantine.ts'
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

/** A copy that is being made equal to the upstream's beside the log. */
export interface CopyInSync {
  readonly replica: Replica
  /** The driver's own. */
  readonly position: Position | undefined
  /** The copy is equal to what transaction `number` leaves. Durable when it resolves. */
  finish(position: Position, number: number): Promise<void>
}

interface Claim {
  readonly stop: 'now' | 'consistent'
}

export class StoreKeeper {
  readonly store: StoreName
  readonly place: ReplicaPlace
  readonly #options: StoreKeeperOptions
  readonly #status: CopyStatus
  readonly #closing = new AbortController()
  readonly #turns = new Turns()
  readonly #claims = new Set<Claim>()
  readonly #waiting = new Set<() => void>()
  #running: Promise<void> | undefined
  #wish: Wish
  /** What the copy holds was read from it. */
  #known = false
  /** The store's last transaction in the copy; undefined: it has to be synchronised. */
  #number: number | undefined
  /** All of the store up to here is in the copy; of one that has to be synchronised: what it needs no more. */
  #through: number
  /** Of a store that is to be synchronised: its first transaction since the upstream said so. */
  #firstSeen: number | undefined
  #isToSync = false
  /** The driver's own. */
  #position: Position | undefined
  #consistent: StoreStatus['consistent']
  #standsConsistent: ReplicaStand['consistent']
  /**
   * It stands at a consistent commit; or it never had one (a directory before its first maintenance window), and then any
   * whole commit is as good as another.
   */
  #mayRest = false
  #wasConsistent = false
  #applying: { readonly stop: AbortController; readonly source: LogSource } | undefined
  #synchronising = false
  #attempt = 0
  /** A transaction was refused: from here on one at a time. */
  #careful = false
  #fault: { readonly code: string; readonly message: string; readonly lasting: boolean } | undefined
  #pause: AbortController | undefined
  #pausing: Promise<void> | undefined

  constructor(options: StoreKeeperOptions, wish: Wish) {
    this.#options = options
    this.store = options.store
    this.place = options.place
    this.#wish = wish
    this.#through = this.#applied ?? 0
    this.#status = new CopyStatus(options.place, options.machine.clock)
  }

  start(): void {
    this.#running = this.#run().catch(error => this.#options.failed(error))
  }

  // how far it is

  get number(): number | undefined {
    return this.#number
  }

  /** What the copy holds was read from it. */
  get isKnown(): boolean {
    return this.#known
  }

  /** The driver's own. */
  get position(): Position | undefined {
    return this.#position
  }

  /** The upstream has the store. */
  isOffered = true

  /** All of the store up to this number is durable in the copy. */
  get applied(): number {
    if (this.#number !== undefined) return this.#through
    return this.isOffered ? 0 : Number.POSITIVE_INFINITY
  }

  /** What it needs of the log begins after this number. */
  get through(): number {
    if (this.#number !== undefined || !this.#known) return this.#through
    const { durable } = this.#options.log
    const needed = this.#isToSync ? this.#firstSeen : undefined
    return Math.max(this.#through, needed === undefined ? durable : needed - 1)
  }

  get consistent(): StoreStatus['consistent'] {
    return this.#consistent
  }

  /** The last consistent commit, with the driver's own position. */
  get standsConsistent(): ReplicaStand['consistent'] {
    return this.#standsConsistent
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
    if (this.needsRelease) return false
    return this.#wish === 'on' || (await this.place.isAbsent())
  }

  /** For the upstream. */
  async stand(): Promise<StoreStand> {
    await this.whenKnown()
    const { store } = this
    const number = this.#number
    const quarantined = this.quarantine !== undefined || (number === undefined && !(await this.takesSync()))
    return { store, number, quarantined }
  }

  /** Why it is not at the end of the log and will not get there by itself. */
  get fault(): string | undefined {
    const { quarantine } = this
    if (quarantine !== undefined) return `quarantined: ${quarantine.message}`
    if (this.#number === undefined) return this.#fault?.message ?? 'it has to be synchronised'
    return this.#fault?.message
  }

  status(lagMs: number | undefined): StoreStatus {
    const { store, place } = this
    const message = this.#fault?.message ?? this.quarantine?.message
    return {
      store,
      driver: place.driver.name,
      path: place.path,
      state: this.#state(),
      number: this.#number,
      consistent: this.#consistent,
      ...(lagMs === undefined || this.#number === undefined ? {} : { lagMs }),
      ...(message === undefined ? {} : { message }),
    }
  }

  #state(): StoreStatus['state'] {
    if (this.#closing.signal.aborted) return 'stopped'
    if (this.quarantine !== undefined) return 'quarantined'
    if (this.#synchronising) return 'synchronising'
    if (this.#fault !== undefined) return 'faulty'
    if (this.#number === undefined) return 'waiting'
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
      const isHopeless = this.#known && (this.quarantine !== undefined || this.#number === undefined)
      const isDry = this.#known && this.#through >= this.#options.log.durable
      return signal.aborted || (this.#applying === undefined && (isHopeless || isDry))
    })
    signal.removeEventListener('abort', aborted)
    signal.throwIfAborted()
    this.#closing.signal.throwIfAborted()
  }

  /** Resolves when what the copy holds is known, or a fault is in the way of that. */
  async whenKnown(): Promise<void> {
    await this.#until(() => this.#known || this.#fault !== undefined)
  }

  /** The upstream brings it beside the log; from `next` on this log has what it will need. */
  toSync(next: number): void {
    this.#isToSync = true
    this.#firstSeen = undefined
    this.#through = Math.max(this.#through, next - 1)
  }

  /** A transaction of the store was received. */
  seen(number: number): void {
    if (this.#isToSync) this.#firstSeen ??= number
  }

  /** Nothing that the copy holds counts in this log any more. Durable when it resolves. */
  putOut(signal: AbortSignal): Promise<void> {
    return this.use('now', signal, () => this.#putOut())
  }

  async #putOut(): Promise<void> {
    if (this.#stored.base !== undefined)
      await this.#options.state.updateStore(this.store, ({ base: _, ...rest }) => rest)
    this.#number = undefined
    this.#known = true
    this.#options.moved()
    this.#tell()
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
    this.#through = next - 1
    this.#firstSeen = undefined
  }

  async release(how: 'retry' | 'synchronise'): Promise<void> {
    await this.#options.state.updateStore(this.store, ({ quarantine: _, base, ...rest }) => ({
      ...rest,
      // what the copy says of itself is not believed then
      ...(how === 'synchronise' ? { asFound: true } : base === undefined ? {} : { base }),
    }))
    this.#fault = undefined
    this.#careful = false
    this.#attempt = 0
    this.#known = false
    this.#pause?.abort()
    this.#tell()
    await this.whenKnown()
    if (this.#number === undefined) this.#options.outOfStep(`store '${this.store}' is to be synchronised`)
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
      const position = this.#position
      if (this.#number === undefined || !this.#mayRest || position === undefined) {
        throw new HotspareError(
          'target-incomplete',
          `The copy of store '${this.store}' does not rest here: ${this.fault ?? 'it is still applied to'}.`,
        )
      }
      return work(this.#through, position)
    })
  }

  /** The caller's work gives the copy everything; what it leaves unfinished counts for nothing, and may be begun again. */
  synchronise(
    signal: AbortSignal,
    upstream: string,
    work: (copy: CopyInSync) => Promise<'ended' | 'again'>,
  ): Promise<void> {
    return this.use('now', signal, async () => {
      this.#synchronising = true
      if (!this.#isToSync) {
        this.#isToSync = true
        const last = this.#options.log.mark(this.store)?.number ?? 0
        this.#firstSeen = last > this.#through ? this.#through + 1 : undefined
      }
      try {
        // what the log brings next goes on from another state than the copy's
        await this.#putOut()
        await this.#options.invalidate([this.store])
        while ((await this.#synchroniseOnce(upstream, work)) === 'again') signal.throwIfAborted()
      } finally {
        this.#synchronising = false
        // when it was not finished, the next time begins with another session
        this.#isToSync = false
        this.#tell()
      }
    })
  }

  /** What was found at the copy is not as it said: it is compared, whatever it says of itself. */
  async distrust(): Promise<void> {
    await this.#options.state.updateStore(this.store, ({ base: _, ...rest }) => ({ ...rest, asFound: true }))
  }

  /** Nothing is begun any more. */
  halt(): void {
    this.#closing.abort()
    this.#applying?.stop.abort()
    this.#pause?.abort()
    this.#tell()
  }

  async close(): Promise<void> {
    this.halt()
    await this.#running
    await this.use('now', new AbortController().signal, async () => {})
    await this.#pausing
    await this.#status.close()
    await this.place.close()
  }

  // synchronising

  async #synchroniseOnce(
    upstream: string,
    work: (copy: CopyInSync) => Promise<'ended' | 'again'>,
  ): Promise<'ended' | 'again'> {
    const replica = await this.#openToSync(upstream)
    try {
      const position = await replica.position(this.store)
      return await work({
        replica,
        position: position === undefined ? undefined : barePosition(position),
        finish: (at, number) => this.#finishSync(replica, at, number),
      })
    } finally {
      await replica.close()
    }
  }

  async #openToSync(upstream: string): Promise<Replica> {
    const asFound = this.#stored.asFound === true || (await this.place.look()) === 'other'
    await this.place.claim(upstream)
    if (asFound) return this.place.openReplica(true)
    try {
      return await this.place.openReplica(false)
    } catch (error) {
      if (applyFault(error) !== 'refused') throw error
      this.#options.tell(
        'warning',
        'copy-compared',
        `The copy of store '${this.store}' is taken as it is found, and compared: ${(error as Error).message}`,
      )
      return this.place.openReplica(true)
    }
  }

  async #finishSync(replica: Replica, position: Position, number: number): Promise<void> {
    const { log, state } = this.#options
    await replica.sync()
    const at = await replica.position(this.store)
    if (at === undefined || barePosition(at) !== position) {
      throw new HotspareError(
        'entry-invalid',
        `The synchronisation of store '${this.store}' ended at a position that the copy has not reached.`,
      )
    }
    // from further back than was thought: what has been acknowledged for all copies may be needed again
    const isBack = number < this.#through
    if (isBack && number < (this.#applied ?? 0)) await log.subscribe(applySubscriber, number)
    const through = isBack ? number : Math.max(number, this.through)
    await state.updateStore(this.store, ({ asFound: _, ...rest }) => ({
      ...rest,
      base: { position, number },
    }))
    this.#number = number
    this.#through = through
    this.#attempt = 0
    this.#noteConsistent(replica, at)
    this.#options.moved()
  }

  // applying

  get #wantsToApply(): boolean {
    if (this.#closing.signal.aborted || this.#claims.size > 0 || this.#pausing !== undefined) return false
    if (this.quarantine !== undefined && this.#known) return false
    if (!this.#known) return true
    if (this.#number === undefined) return false
    if (this.#wish === 'rest') return !this.#mayRest
    return this.#wish === 'on' || this.#through < this.#options.log.durable
  }

  /** It wants to go on, and nothing is there for it. */
  #isStuck(): boolean {
    const { stop, source } = this.#applying ?? {}
    return (source?.waiting === true && stop?.signal.aborted === false) || this.#pausing !== undefined
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
        const idle = this.quarantine !== undefined || this.#number === undefined || !this.#wantsToApply
        if (!learnt || idle) return
        const { store } = this
        const { reading } = this.#options
        source = new LogSource({
          store,
          reading,
          after: this.#through,
          restsAt: commit => (commit.consistent || !this.#wasConsistent) && this.#restIsWanted,
        })
        this.#applying = { stop, source }
        this.#tell()
        await this.#pump(source, replica, stop)
      } finally {
        await source?.close()
        await replica.close()
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) await this.#failed(error, source)
    } finally {
      this.#applying = undefined
    }
  }

  /** What a crash left half done in a copy that counts for nothing here: others may open it. */
  async #mend(): Promise<void> {
    if (this.#known || this.#stored.asFound === true || !(await this.place.isOurs())) return
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
      ...(this.#careful ? { syncBytesMax: 0 } : {}),
      onDurable: commit => this.#durable(commit, replica),
      onCaughtUp: () => {
        this.#through = Math.max(this.#through, source.through)
        this.#options.moved()
        this.#status.caughtUp()
        this.#look()
        this.#tell()
        const dry = this.#wish === 'dry' && this.#through >= this.#options.log.durable
        if (dry || (this.#restIsWanted && this.#mayRest)) stop.abort()
      },
    })
  }

  #durable(commit: Commit, replica: Replica): void {
    const number = parseNumberedPosition(commit.position)?.number
    if (number === undefined) throw new Error(`a commit without a number: ${commit.position}`)
    this.#number = number
    this.#through = Math.max(this.#through, number)
    this.#careful = false
    this.#attempt = 0
    this.#recovered()
    this.#noteConsistent(replica, commit.position)
    this.#options.moved()
  }

  #recovered(): void {
    if (this.#fault === undefined) return
    this.#fault = undefined
    this.#options.tell('info', 'applied-again', `Store '${this.store}' is applied again.`)
  }

  get #restIsWanted(): boolean {
    return this.#wish === 'rest' || this.#claims.size > 0
  }

  /** Stops what should not go on; called when something was asked for. */
  #look(): void {
    const applying = this.#applying
    if (applying !== undefined) {
      const now = [...this.#claims].some(({ stop }) => stop === 'now')
      const rests = this.#restIsWanted && this.#mayRest && applying.source.waiting
      const dry =
        this.#wish === 'dry' && this.#through >= this.#options.log.durable && applying.source.waiting
      if (now || rests || dry) applying.stop.abort()
    }
    this.#tell()
  }

  /** What the opened copy holds. False: it cannot be gone on with. */
  async #learn(position: Position | undefined, replica: Replica): Promise<boolean> {
    const { log } = this.#options
    const { base } = this.#stored
    const number = numberOf(position, base, log)
    if (number !== undefined && this.#number !== undefined && number < this.#number) {
      throw new HotspareError(
        'diverged',
        `The copy of store '${this.store}' has all up to transaction ${number}, and had all up to ${this.#number}.`,
      )
    }
    const through = number === undefined ? undefined : this.#throughOf(number)
    this.#position = position === undefined ? undefined : barePosition(position)
    if (position !== undefined) this.#noteConsistent(replica, position)
    if (number === undefined || through === undefined) {
      await this.#putOut()
      this.#options.tell(
        'warning',
        'store-out-of-step',
        `The copy of store '${this.store}' does not stand where the log can go on: it is compared with the upstream's.`,
      )
      this.#options.outOfStep(`store '${this.store}' has to be synchronised`)
      return false
    }
    this.#known = true
    this.#number = number
    this.#through = Math.max(this.#through, through)
    this.#recovered()
    this.#options.moved()
    return true
  }

  #throughOf(number: number): number | undefined {
    const { log } = this.#options
    const { first, durable } = log
    return throughOf({
      number,
      last: log.mark(this.store)?.number,
      first,
      durable,
      lastBefore: log.lastBefore(this.store),
    })
  }

  /** What all copies together have acknowledged, while the log keeps for them. */
  get #applied(): number | undefined {
    const subscriber = this.#options.log.subscribers().find(({ name }) => name === applySubscriber)
    return subscriber?.kept === true ? subscriber.acknowledged : undefined
  }

  #noteConsistent(replica: Replica, position: Position): void {
    this.#position = barePosition(position)
    const consistent = replica.consistent()
    this.#wasConsistent = consistent !== undefined
    this.#mayRest = consistent === undefined || consistent.position === position
    this.#status.moved(position, consistent)
    this.#consistent = undefined
    this.#standsConsistent = undefined
    if (consistent === undefined) return
    const number = parseNumberedPosition(consistent.position)?.number ?? this.#stored.base?.number
    const { timeMs, state } = consistent
    if (number === undefined) return
    this.#consistent = { number, timeMs, ...(state === undefined ? {} : { state }) }
    this.#standsConsistent = { ...consistent, number, position: barePosition(consistent.position) }
  }

  // what goes wrong

  async #failed(thrown: unknown, source: LogSource | undefined): Promise<void> {
    try {
      await this.#answer(describeSystemError(thrown, `Applying to ${this.place.path}`), source)
    } catch (fault) {
      if (this.#closing.signal.aborted) return
      const described = describeSystemError(fault, `Putting aside what ${this.place.path} refused`)
      if (applyFault(described) === 'passing') this.retryLater(described, true)
      else this.#options.failed(described)
    }
  }

  async #answer(error: unknown, source: LogSource | undefined): Promise<void> {
    const { tell, failed, outOfStep } = this.#options
    if (error instanceof LogUnreadable) {
      if (error.code !== 'log-removed') return failed(error.cause)
      await this.#putOut()
      tell(
        'warning',
        'store-out-of-step',
        `What the copy of store '${this.store}' needs is not kept in the log any more: it is compared with the upstream's.`,
      )
      return outOfStep(`store '${this.store}' has to be synchronised`)
    }
    if (applyFault(error) === 'passing') return this.retryLater(error, true)
    // it is merely not known any more what the copy has
    if (this.quarantine !== undefined) {
      this.#known = true
      return
    }
    // alone, so that all before it are in the copy
    if (source !== undefined && !this.#careful) {
      this.#careful = true
      return
    }
    await this.#putAside(error, source)
  }

  async #putAside(error: unknown, source: LogSource | undefined): Promise<void> {
    const { machine, settings, state, log, tell } = this.#options
    const number = source?.number
    const quarantine = await putAside(
      machine.storage,
      settings.stateDirectory,
      log,
      {
        store: this.store,
        number,
        after: this.#number ?? this.#through,
        error,
        atMs: machine.clock.nowMs(),
      },
      this.#closing.signal,
    )
    await state.updateStore(this.store, stored => ({ ...stored, quarantine }))
    this.#known = true
    this.#careful = false
    const what =
      number === undefined
        ? 'its copy cannot be used'
        : `it refused transaction ${number}, which is kept aside`
    tell(
      'error',
      'store-quarantined',
      `Store '${this.store}' takes nothing more until it is released: ${what} (${quarantine.message})`,
    )
  }

  /** A fault that may pass: says so once, and waits longer each time. `wakes`: it is tried again by itself. */
  retryLater(error: unknown, applies: boolean): void {
    const { tell, machine, outOfStep } = this.#options
    const code = error instanceof HotspareError ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    if (this.#fault?.code !== code) {
      const what = applies ? 'applied to' : 'synchronised'
      tell('error', code, `Store '${this.store}' cannot be ${what} now: ${message} It is tried again.`)
    }
    this.#fault = { code, message, lasting: false }
    const pause = new AbortController()
    this.#pause = pause
    const delayMs = retryDelayMs(++this.#attempt)
    this.#pausing = machine.clock
      .sleep(delayMs, AbortSignal.any([pause.signal, this.#closing.signal]))
      .then(() => {
        this.#pausing = undefined
        if (!applies && !this.#closing.signal.aborted) {
          this.#fault = undefined
          outOfStep(`store '${this.store}' is to be synchronised again`)
        }
        this.#tell()
      })
  }

  /** It cannot be synchronised until somebody has mended it. */
  cannotSync(error: unknown): void {
    const code = error instanceof HotspareError ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    this.#fault = { code, message, lasting: true }
    this.#options.tell(
      'error',
      code,
      `Store '${this.store}' cannot be synchronised: ${message} Mend it, then release the store.`,
    )
    this.#tell()
  }

  /** It rests until it is released. */
  get needsRelease(): boolean {
    return this.quarantine !== undefined || this.#fault?.lasting === true
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
