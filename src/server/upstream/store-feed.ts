/**
 * Reads one live store of a primary into the log, and brings it beside the log to those who need that.
 *
 * Both are done with the one source, one after the other: a second one in the process must not be (locks of files belong
 * to the process). While the store is brought to somebody its part of the log rests; other stores go on.
 *
 * Invariant: what is put into the log follows on the state in which every kept subscriber has the store, or is known,
 * durably, to owe a comparison. So where the source cannot prove that what it reads follows on the log's last commit, it
 * is not read into the log at all but compared with what the subscribers have; and without a subscriber it waits.
 */
import type { Driver, Notice } from '../../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StoreName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import { retryDelayMs } from '../../stream/retry.ts'
import type { Sink } from '../../stream/sink.ts'
import type { Source } from '../../stream/source.ts'
import type { StoreSettings, StoreStatus } from '../server.ts'
import type { Below } from './below.ts'
import type { DownstreamLink } from './downstream-link.ts'
import { Drains } from './drains.ts'
import { StoreMovement } from './store-movement.ts'
import type { UpstreamOptions } from './upstream.ts'
import { Wake } from './wake.ts'

/** What lasts is looked at again so often, for somebody may have mended it. */
const lastingDelayMs = 30_000
export interface StoreFeedOptions extends UpstreamOptions {
  readonly store: StoreSettings
  readonly below: Below
  /** Those that have been told from where their log goes on, and stand. */
  links(): readonly DownstreamLink[]
  /** Somebody has come or gone. */
  readonly joined: Wake
  changed(): void
}

/** The source cannot prove that it follows on the log. */
class Unproved extends Error {
  override readonly name = 'Unproved'
}

/** Something else is to be done, and the log had no room: what was read and is not in it is read again. */
class CalledAway extends Error {
  override readonly name = 'CalledAway'
}

type Doing = 'waiting' | 'synchronising' | 'following' | 'paused' | 'stopped'

export class StoreFeed {
  readonly store: StoreName
  readonly #options: StoreFeedOptions
  readonly #driver: Driver
  readonly #movement: StoreMovement
  readonly #closing = new AbortController()
  readonly #wake = new Wake()
  #interrupt = new AbortController()
  /** Ends a movement beside the log, too. */
  #pausing = new AbortController()
  #running: Promise<void> | undefined
  #source: Source | undefined
  #enqueuing: boolean
  /** What the log has of it is of this server's own source, and of this epoch. */
  #based = false
  #unproved = false
  readonly #drains: Drains
  #doing: Doing = 'waiting'
  #fault: { readonly code: string; readonly message: string } | undefined
  #consistent: StoreStatus['consistent']
  /** Something was read that is not in the log up to the source's end yet. */
  #behindSinceMs: number | undefined

  constructor(options: StoreFeedOptions) {
    this.#options = options
    this.store = options.store.store
    this.#drains = new Drains(options.machine.clock)
    this.#movement = new StoreMovement(options)
    this.#driver = options.machine.driverNamed(options.store.driver)
    this.#enqueuing = options.state.value.enqueuing
    if (!this.#enqueuing) this.#pausing.abort()
  }

  /** Looks whether the log's place is this source's; from then on `goesOn` is true or false for good reason. */
  async prepare(): Promise<void> {
    const { log, below } = this.#options
    if (!below.isReadIn(this.store, log.epoch)) {
      // left there by an old primary
      if ((await this.#logPosition()) !== undefined) await log.rebase(this.store, undefined)
      return
    }
    this.#based = (await this.#logPosition()) !== undefined
  }

  start(): void {
    this.#running = this.#run().catch(error => this.#options.failed(error))
  }

  get goesOn(): boolean {
    return this.#based && !this.#unproved && !this.#movement.settling
  }

  status(): StoreStatus {
    const { store, path } = this.#options.store
    const fault = this.#fault
    const mark = this.#options.log.mark(store)
    const behindSinceMs = this.#behindSinceMs
    const lagMs =
      behindSinceMs === undefined ? 0 : Math.max(0, this.#options.machine.clock.nowMs() - behindSinceMs)
    return {
      store,
      driver: this.#driver.name,
      path,
      state: fault === undefined ? this.#doing : 'faulty',
      number: mark?.number,
      consistent:
        this.#consistent ?? (mark?.consistent ? { number: mark.number, timeMs: mark.timeMs } : undefined),
      ...(this.#doing === 'following' ? { lagMs } : {}),
      ...(fault === undefined ? {} : { message: fault.message }),
    }
  }

  /** Somebody needs the store beside the log, or what it waits for may have changed. */
  look(): void {
    if (this.#wantsToSync) this.#interrupt.abort()
    this.#wake.tell()
  }

  async setEnqueuing(on: boolean): Promise<void> {
    if (this.#enqueuing === on) return
    this.#enqueuing = on
    if (on) this.#pausing = new AbortController()
    else this.#pausing.abort(new HotspareError('usage', 'enqueuing is off'))
    this.#interrupt.abort()
    this.#wake.tell()
    // ends with the feed as well
    if (!on)
      await this.#wake.until(() => this.#doing === 'paused', this.#closing.signal).catch(() => undefined)
  }

  /** Resolves when all that was committed before the call is durable in the log. */
  drain(signal: AbortSignal): Promise<void> {
    if (!this.#enqueuing) {
      return Promise.reject(
        new HotspareError('usage', `Store '${this.store}' is not read into the log: enqueuing is off.`),
      )
    }
    const drained = this.#drains.wait(signal)
    this.#wake.tell()
    return drained
  }

  /** Of a primary that is fenced: reads what there is once more, where it was. False: that cannot be proved to follow. */
  async readOn(): Promise<boolean> {
    if (!this.#based || this.#unproved) return false
    try {
      await this.#pumpOnce(await this.#opened())
      return true
    } catch (error) {
      if (error instanceof Unproved) return false
      // there is nothing that could be lost
      if (error instanceof HotspareError && error.code === 'source-missing') return true
      throw describeSystemError(error, `Reading ${this.#options.store.path}`)
    }
  }

  /** Nothing is read any more; the source stays open. */
  async stop(): Promise<void> {
    this.#closing.abort()
    this.#interrupt.abort()
    this.#wake.tell()
    await this.#running
    this.#doing = 'stopped'
    const over = new HotspareError('server-stopped', `Store '${this.store}' is not read any more.`)
    this.#drains.reject(over)
  }

  async close(): Promise<void> {
    await this.stop()
    await this.#closeSource()
  }

  // what it does

  get #wantsToSync(): boolean {
    return this.#movement.needing().length > 0
  }

  async #run(): Promise<void> {
    let attempt = 1
    while (!this.#closing.signal.aborted) {
      this.#interrupt = new AbortController()
      try {
        const did = await this.#next()
        if (did) attempt = 1
      } catch (thrown) {
        if (this.#closing.signal.aborted) return
        if (this.#pausing.signal.aborted) {
          await this.#closeSource()
          continue
        }
        if (thrown instanceof Unproved) {
          this.#onUnproved()
          continue
        }
        if (thrown instanceof CalledAway) {
          // the source may have been read further than the log has it
          await this.#closeSource()
          continue
        }
        await this.#onFault(describeSystemError(thrown, `Reading ${this.#options.store.path}`), attempt)
        attempt++
      }
    }
  }

  /** One thing at a time; false when there was only to wait. */
  async #next(): Promise<boolean> {
    if (this.#wantsToSync && this.#enqueuing) {
      this.#do('synchronising')
      await this.#move(await this.#opened())
      return true
    }
    if (this.#enqueuing && this.goesOn) {
      const source = await this.#opened()
      this.#do('following')
      await this.#follow(source)
      return true
    }
    const on = this.#enqueuing
    if (!on) await this.#closeSource()
    this.#do(on ? 'waiting' : 'paused')
    const wanted = () => this.#enqueuing !== on || (on && (this.#wantsToSync || this.goesOn))
    await this.#wake.until(wanted, this.#closing.signal).catch(() => undefined)
    return false
  }

  async #move(source: Source): Promise<void> {
    const signal = AbortSignal.any([this.#closing.signal, this.#pausing.signal])
    const position = await this.#movement.run(source, this.#unproved, signal)
    if (position === undefined) return
    this.#based = true
    this.#unproved = false
    await source.acknowledge(position)
    this.#recovered()
  }

  #do(what: Doing): void {
    this.#doing = what
    this.#wake.tell()
    this.#options.changed()
  }

  #onUnproved(): void {
    const { tell, links } = this.#options
    this.#unproved = true
    const connected = links().filter(link => link.takes(this.store))
    tell(
      'info',
      'comparing',
      connected.length === 0
        ? `Store '${this.store}' is compared with the standbys when one is connected: it cannot be proved that the log follows on it.`
        : `Store '${this.store}' is compared with ${connected.map(link => `'${link.peer}'`).join(', ')}: it cannot be proved that the log follows on it.`,
    )
    for (const link of connected) if (link.joins(this.store)) link.toSync(this.store)
  }

  async #onFault(error: unknown, attempt: number): Promise<void> {
    const { tell, machine, failed } = this.#options
    const code = error instanceof HotspareError ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    // the source may have been read further than the log has it
    await this.#closeSource()
    if (code === 'log-closed') {
      this.#closing.abort()
      return failed(error)
    }
    const delayMs = retryDelayMs(error, attempt, false)
    if (this.#fault?.message !== message) {
      const again =
        delayMs === undefined ? ' Mend it; it is looked at again every 30 s.' : ' It is tried again.'
      tell('error', code, `Store '${this.store}' cannot be read into the log: ${message}${again}`)
    }
    this.#fault = { code, message }
    if (delayMs === undefined) this.#drains.reject(error)
    this.#options.changed()
    const signal = AbortSignal.any([this.#closing.signal, this.#interrupt.signal])
    await this.#drains.resting(signal, resting => machine.clock.sleep(delayMs ?? lastingDelayMs, resting))
  }

  #recovered(): void {
    if (this.#fault === undefined) return
    this.#fault = undefined
    this.#options.tell('info', 'read-again', `Store '${this.store}' is read into the log again.`)
    this.#options.changed()
  }

  // the source

  async #opened(): Promise<Source> {
    if (this.#source !== undefined) return this.#source
    const { store, settings, machine } = this.#options
    const scratch = `${settings.stateDirectory}/scratch/${store.store}`
    await machine.storage.makeDirectory(scratch)
    this.#source = await this.#driver.openSource({
      storage: machine.storage,
      clock: machine.clock,
      store: store.store,
      path: store.path,
      ...(store.profile === undefined ? {} : { profile: store.profile }),
      driverOptions: store.driverOptions,
      scratch,
      onNotice: notice => this.#onNotice(notice),
    })
    return this.#source
  }

  #onNotice({ code, message }: Notice): void {
    this.#options.tell('info', code, `Store '${this.store}': ${message}`)
  }

  async #closeSource(): Promise<void> {
    const source = this.#source
    this.#source = undefined
    try {
      await source?.close()
    } catch (error) {
      // it is closed in any case, and nothing that it had counts
      this.#options.tell('warning', 'source-close', `Closing store '${this.store}': ${String(error)}`)
    }
  }

  // into the log

  async #logPosition(): Promise<Position | undefined> {
    const sink = this.#options.log.sink(this.store)
    try {
      return await sink.position(this.store)
    } finally {
      await sink.close()
    }
  }

  #follow(source: Source): Promise<void> {
    const drains = this.#drains
    return this.#pumpInto(drains.reading(source), {
      signal: AbortSignal.any([this.#closing.signal, this.#interrupt.signal]),
      isAwaited: () => !drains.isEmpty,
      wanted: ({ upToMs }) => drains.isWanted(upToMs),
      onDurable: ({ upToMs }) => drains.durable(upToMs),
      onCaughtUp: () => drains.caughtUp(),
    })
  }

  #pumpOnce(source: Source): Promise<unknown> {
    return this.#pumpInto(source, { signal: new AbortController().signal, once: true })
  }

  async #pumpInto(
    source: Source,
    how: {
      readonly signal: AbortSignal
      readonly once?: boolean
      isAwaited?(): boolean
      wanted?(commit: Commit): boolean
      onDurable?(commit: Commit): void
      onCaughtUp?(): void
    },
  ): Promise<void> {
    const { log, machine } = this.#options
    // a full log must not keep from what makes room in it: a standby may have to be given the store
    const sink = log.sink(this.store, how.signal)
    let isUnproved = false
    try {
      await pump({
        store: this.store,
        source,
        sink: asking(sink, () => {
          isUnproved = true
        }),
        clock: machine.clock,
        signal: how.signal,
        ...(how.once ? { once: true } : {}),
        isAwaited: () => how.isAwaited?.() === true,
        wanted: commit => how.wanted?.(commit) === true,
        onDurable: commit => {
          this.#noteConsistent(commit)
          how.onDurable?.(commit)
        },
        onProgress: () => {
          this.#behindSinceMs ??= machine.clock.nowMs()
        },
        onCaughtUp: () => {
          this.#behindSinceMs = undefined
          this.#recovered()
          how.onCaughtUp?.()
        },
      })
    } catch (error) {
      if (how.signal.aborted && error === how.signal.reason) throw new CalledAway()
      // however the source has put it
      throw isUnproved ? new Unproved() : error
    } finally {
      await sink.close()
    }
  }

  #noteConsistent({ consistent, timeMs, state }: Commit): void {
    if (!consistent) return
    const number = this.#options.log.mark(this.store)?.number
    if (number === undefined) return
    this.#consistent = { number, timeMs, ...(state === undefined ? {} : { state }) }
  }
}

/** A log cannot be compared with, and must not be given a whole store because of that. */
function asking(sink: Sink, onUnproved: () => void): Sink {
  return {
    position: store => sink.position(store),
    write: entry => sink.write(entry),
    sync: () => sink.sync(),
    inventory: async (_store, purpose) => {
      if (purpose === 'verification') return undefined
      onUnproved()
      throw new Unproved()
    },
    close: () => sink.close(),
  }
}
