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
import type { Log } from '../../log/log.ts'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StoreName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import { retryDelayMs } from '../../stream/retry.ts'
import type { Sink } from '../../stream/sink.ts'
import type { Source } from '../../stream/source.ts'
import { applySubscriber } from '../downstream/downstream.ts'
import type { StoreSettings, StoreStatus } from '../server.ts'
import type { Below } from './below.ts'
import type { DownstreamLink } from './downstream-link.ts'
import { syncRound } from './sync-round.ts'
import type { UpstreamOptions } from './upstream.ts'
import { Wake } from './wake.ts'

/** What lasts is looked at again so often, for somebody may have mended it. */
const lastingDelayMs = 30_000
/** Subscribers that are not connected are waited for so long, so that they need not compare by themselves later. */
const absentMsMax = 30_000
/** A newcomer is brought near for so long after its first consistent commit; all together for so long. */
const nearMsMax = 30_000
const togetherMsMax = 2_000

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

interface Drain {
  resolve(): void
  reject(error: unknown): void
}

type Doing = 'waiting' | 'synchronising' | 'following' | 'paused' | 'stopped'

export class StoreFeed {
  readonly store: StoreName
  readonly #options: StoreFeedOptions
  readonly #driver: Driver
  readonly #closing = new AbortController()
  readonly #wake = new Wake()
  #interrupt = new AbortController()
  /** Ends a movement beside the log, too. */
  #pausing = new AbortController()
  /** Links that are being told that the store goes on with the log. */
  readonly #ending = new Map<DownstreamLink, Promise<void>>()
  #running: Promise<void> | undefined
  #source: Source | undefined
  #enqueuing: boolean
  /** What the log has of it is of this server's own source, and of this epoch. */
  #based = false
  #unproved = false
  /** It is decided who takes part in a movement beside the log; whoever comes now is brought there by the next. */
  #settling = false
  #drains: Drain[] = []
  #doing: Doing = 'waiting'
  #fault: { readonly code: string; readonly message: string } | undefined
  #consistent: StoreStatus['consistent']
  /** Something was read that is not in the log up to the source's end yet. */
  #behindSinceMs: number | undefined

  constructor(options: StoreFeedOptions) {
    this.#options = options
    this.store = options.store.store
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
    return this.#based && !this.#unproved && !this.#settling
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
    return new Promise((resolve, reject) => {
      const done = () => signal.removeEventListener('abort', aborted)
      const drain: Drain = {
        resolve: () => {
          done()
          resolve()
        },
        reject: error => {
          done()
          reject(error)
        },
      }
      const aborted = () => {
        this.#drains = this.#drains.filter(one => one !== drain)
        drain.reject(signal.reason)
      }
      if (signal.aborted) return aborted()
      signal.addEventListener('abort', aborted, { once: true })
      this.#drains.push(drain)
      // what is being read now may have begun before
      this.#interrupt.abort()
      this.#wake.tell()
    })
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
    for (const drain of this.#drains.splice(0)) drain.reject(over)
  }

  async close(): Promise<void> {
    await this.stop()
    await this.#closeSource()
  }

  // what it does

  get #wantsToSync(): boolean {
    return this.#needing().length > 0
  }

  /** Those that wait for the store, and are not merely about to hear that they have it. */
  #needing(): DownstreamLink[] {
    return this.#options.links().filter(link => link.awaits(this.store) && !this.#ending.has(link))
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
        await this.#onFault(describeSystemError(thrown, `Reading ${this.#options.store.path}`), attempt)
        attempt++
      }
    }
  }

  /** One thing at a time; false when there was only to wait. */
  async #next(): Promise<boolean> {
    if (this.#wantsToSync && this.#enqueuing) {
      this.#do('synchronising')
      await this.#synchronise(await this.#opened())
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
    for (const link of connected) link.toSync(this.store)
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
    if (delayMs === undefined) for (const drain of this.#drains.splice(0)) drain.reject(error)
    this.#options.changed()
    await machine.clock.sleep(
      delayMs ?? lastingDelayMs,
      AbortSignal.any([this.#closing.signal, this.#interrupt.signal]),
    )
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

  async #follow(source: Source): Promise<void> {
    const drains = this.#drains.splice(0)
    try {
      await this.#pumpInto(source, {
        signal: AbortSignal.any([this.#closing.signal, this.#interrupt.signal]),
        onCaughtUp: () => {
          for (const drain of drains.splice(0)) drain.resolve()
        },
      })
    } finally {
      // what was not read to its end is read again
      this.#drains.unshift(...drains)
    }
  }

  #pumpOnce(source: Source): Promise<unknown> {
    return this.#pumpInto(source, { signal: new AbortController().signal, once: true })
  }

  async #pumpInto(
    source: Source,
    how: { readonly signal: AbortSignal; readonly once?: boolean; onCaughtUp?(): void },
  ): Promise<void> {
    const { log, machine } = this.#options
    const sink = log.sink(this.store)
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
        onDurable: commit => this.#noteConsistent(commit),
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

  // beside the log

  /**
   * Brings the store to all that need it, and the others that are connected to the very same state; then the log goes on
   * from there. Order: all of them are there, durably; who is not there owes a comparison, durably; the log says that it
   * goes on from there, durably; they are told.
   */
  async #synchronise(source: Source): Promise<void> {
    const { machine, below, log, tell } = this.#options
    const beganMs = machine.clock.nowMs()
    await Promise.all(this.#ending.values())
    const needing = this.#needing()
    if (needing.length === 0) return
    tell(
      'info',
      'store-synchronising',
      `Store '${this.store}' is brought to ${needing.map(link => `'${link.peer}'`).join(', ')}. Meanwhile nothing of it is put into the log.`,
    )
    // one that stood together goes on together; a newcomer is brought near by itself
    if (!this.#unproved) for (const link of needing) await this.#bringNear(source, link)
    await this.#awaitAbsent(beganMs)
    this.#settling = true
    try {
      const together = this.#options.links().filter(link => link.takes(this.store))
      for (const link of together) link.toSync(this.store)
      const moved = await this.#round(source, together, together.length === 1 ? nearMsMax : togetherMsMax)
      if (moved === undefined) return
      const { position, peers } = moved
      await log.sync()
      const number = log.durable
      await this.#oweOthers(peers)
      await log.rebase(this.store, position)
      await below.readIn(this.store, log.epoch)
      this.#based = true
      this.#unproved = false
      for (const link of peers) this.#ending.set(link, this.#end(link, number, position))
      await source.acknowledge(position)
    } finally {
      this.#settling = false
    }
    this.#recovered()
  }

  /** Whoever is kept for and is not among these compares when it comes. */
  async #oweOthers(there: readonly DownstreamLink[]): Promise<void> {
    const { log, below } = this.#options
    const names = new Set(there.map(({ peer }) => peer))
    const others = keptNames(log).filter(name => !names.has(name))
    if (others.length > 0) await below.owe(others, [this.store])
  }

  async #bringNear(source: Source, link: DownstreamLink): Promise<void> {
    // alone it is brought all the way by what comes next
    const others = keptNames(this.#options.log).filter(name => name !== link.peer)
    if (others.length > 0) await this.#round(source, [link], nearMsMax)
  }

  /** Undefined when those who were to take part are gone. A source that refuses to go on from where a copy stands compares. */
  async #round(source: Source, links: readonly DownstreamLink[], msMax: number) {
    try {
      return await this.#move(source, links, msMax, false)
    } catch (error) {
      // what a broken link made of the source's reading is no fault of the source
      if (!links.every(link => link.takes(this.store))) return undefined
      if (!(error instanceof HotspareError) || (error.code !== 'diverged' && error.code !== 'gap'))
        throw error
      this.#options.tell(
        'warning',
        'comparing',
        `Store '${this.store}' does not follow on what ${links.map(link => `'${link.peer}'`).join(', ')} has, so the two are compared: ${error.message}`,
      )
      return await this.#move(source, links, msMax, true)
    }
  }

  async #move(source: Source, links: readonly DownstreamLink[], msMax: number, compare: boolean) {
    const peers = links
      .filter(link => link.takes(this.store))
      .map(link => ({ peer: link, remote: link.remote(this.store) }))
    if (peers.length === 0) return undefined
    return syncRound({
      store: this.store,
      source,
      peers,
      clock: this.#options.machine.clock,
      signal: AbortSignal.any([this.#closing.signal, this.#pausing.signal]),
      msMax,
      compare,
      onFault: (link, error) => link.faulty(this.store, error),
    })
  }

  async #awaitAbsent(beganMs: number): Promise<void> {
    const { log, machine, links, joined, below } = this.#options
    const isAbsent = () => {
      const present = new Set(links().map(link => link.peer))
      return keptNames(log).some(name => !present.has(name) && !below.owedTo(name).includes(this.store))
    }
    const time = new AbortController()
    const leftMs = beganMs + absentMsMax - machine.clock.nowMs()
    const timing = machine.clock.sleep(leftMs, AbortSignal.any([time.signal, this.#closing.signal]))
    let over = false
    void timing.then(() => {
      over = true
      joined.tell()
    })
    try {
      while (!over && isAbsent()) await joined.next(this.#closing.signal)
    } finally {
      time.abort()
    }
    this.#closing.signal.throwIfAborted()
  }

  async #end(link: DownstreamLink, number: number, position: Position): Promise<void> {
    const { below, tell } = this.#options
    try {
      await link.remote(this.store).end(number, position)
      await below.settle(link.peer, this.store)
      link.synced(this.store)
      tell(
        'info',
        'store-synchronised',
        `'${link.peer}' has store '${this.store}', and goes on with the log after ${number}.`,
      )
    } catch (error) {
      link.faulty(this.store, error)
    } finally {
      this.#ending.delete(link)
    }
  }
}

function keptNames(log: Log): string[] {
  return log
    .subscribers()
    .filter(({ name, kept }) => kept && name !== applySubscriber)
    .map(({ name }) => name)
}

/** A log cannot be compared with, and must not be given a whole store because of that. */
function asking(sink: Sink, onUnproved: () => void): Sink {
  return {
    position: store => sink.position(store),
    write: entry => sink.write(entry),
    sync: () => sink.sync(),
    inventory: async () => {
      onUnproved()
      throw new Unproved()
    },
    close: () => sink.close(),
  }
}
