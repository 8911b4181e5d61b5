/** Opens what a server does towards its upstream: see downstream.ts. */

import { HotspareError } from '../../os/errors.ts'
import type { StoreName } from '../../stream/entry.ts'
import type { Control } from '../control.ts'
import type { StoreStatus } from '../server.ts'
import {
  applySubscriber,
  type Downstream,
  type DownstreamOptions,
  type OpenDownstream,
  type ReplicaStand,
  type RestingCopy,
  type Taking,
  type UpstreamMark,
} from './downstream.ts'
import { LogReading } from './log-reading.ts'
import { ReceivedTimes } from './received-times.ts'
import { Receiving } from './receiving.ts'
import { ReplicaPlace } from './replica-place.ts'
import { StoreKeeper } from './store-keeper.ts'
import { StoreKeepers } from './store-keepers.ts'

export const openDownstream: OpenDownstream = async options => {
  await keepForCopies(options)
  const { settings, machine, tell } = options
  const places: ReplicaPlace[] = []
  try {
    for (const store of settings.stores) {
      const onNotice = ({ code, message }: { code: string; message: string }) => tell('info', code, message)
      places.push(await ReplicaPlace.open({ set: settings.set, settings: store, machine, onNotice }))
    }
  } catch (error) {
    for (const place of places) await place.close()
    throw error
  }
  return new OpenedDownstream(options, places)
}

/** Of a copy that goes on it has to be known first where it stands: see `StoreKeepers.acknowledge`. */
async function keepForCopies({ log, state, settings }: DownstreamOptions): Promise<void> {
  const follows = settings.stores.some(({ store }) => state.value.stores[store]?.base !== undefined)
  // nothing that is in the log now is ever put into a copy
  if (!follows) await log.subscribe(applySubscriber, log.durable)
}

class OpenedDownstream implements Downstream {
  readonly #given: DownstreamOptions
  readonly #options: DownstreamOptions
  readonly #reading: LogReading
  readonly #keepers: StoreKeepers
  readonly #times = new ReceivedTimes()
  readonly #markListeners = new Set<(mark: UpstreamMark) => void>()
  #mark: UpstreamMark | undefined
  #taking: Receiving | undefined
  #heardMs: number | undefined
  #received = 0
  #failed = false
  /** The copies are to take all that the log has, and then nothing, until `resume`. */
  #runsDry = false

  constructor(options: DownstreamOptions, places: readonly ReplicaPlace[]) {
    const own: DownstreamOptions = { ...options, failed: error => this.#fail(error) }
    this.#given = options
    this.#options = own
    this.#reading = new LogReading(options.log, options.machine.clock)
    const wish = options.state.value.applying ? 'on' : 'rest'
    const keepers = options.settings.stores.map(
      ({ store }, index) =>
        new StoreKeeper(
          {
            ...own,
            store,
            place: places[index] as ReplicaPlace,
            reading: this.#reading,
            moved: () => this.#moved(),
            outOfStep: reason => this.#renew(reason),
          },
          wish,
        ),
    )
    this.#keepers = new StoreKeepers(own, keepers)
    for (const keeper of keepers) {
      const { quarantine } = keeper
      if (quarantine !== undefined) {
        const text = `Store '${keeper.store}' takes nothing until it is released: ${quarantine.message}`
        options.tell('error', 'store-quarantined', text)
      }
      keeper.start()
    }
  }

  take(control: Control): Taking {
    if (this.#taking !== undefined) throw new Error('the log is taken by another session already')
    const taking = new Receiving({
      ...this.#options,
      control,
      keepers: this.#keepers,
      onTransaction: number => {
        this.#received++
        this.#heardMs = this.#nowMs()
        this.#times.arrived(number, this.#heardMs)
      },
      onMark: (number, timeMs) => this.#marked({ number, timeMs, heardMs: this.#nowMs() }),
    })
    this.#taking = taking
    void taking.over.then(() => {
      if (this.#taking === taking) this.#taking = undefined
    })
    return taking
  }

  async setApplying(on: boolean): Promise<void> {
    const { state } = this.#options
    await state.update(value => ({ ...value, applying: on }))
    if (this.#runsDry) return
    await this.resume()
    if (on && this.#keepers.all.some(({ number }) => number === undefined))
      this.#renew('copies that rested may be synchronised')
  }

  async release(store: StoreName, how: 'retry' | 'synchronise'): Promise<void> {
    const keeper = this.#keepers.named(store)
    if (!keeper.needsRelease) {
      throw new HotspareError(
        'usage',
        `Store '${store}' takes what comes: there is nothing to release it from.`,
      )
    }
    await keeper.release(how)
  }

  async runDry(
    signal: AbortSignal,
  ): Promise<{ readonly number: number; readonly timeMs: number | undefined }> {
    const { log } = this.#options
    this.#runsDry = true
    await this.#taking?.stop()
    await log.sync()
    await Promise.all(this.#keepers.all.map(keeper => keeper.dry(signal)))
    const number = log.durable
    const timeMs = [...log.marks().values()].find(mark => mark.number === number)?.timeMs
    return { number, timeMs }
  }

  async closeCopies(): Promise<readonly ReplicaStand[]> {
    return Promise.all(
      this.#keepers.all.map(keeper =>
        keeper.use('now', new AbortController().signal, async (): Promise<ReplicaStand> => {
          const { store, place, number, fault } = keeper
          const consistent = keeper.standsConsistent
          return {
            store,
            driver: place.driver,
            copy: place.copy,
            number,
            consistent,
            ...(fault === undefined ? {} : { fault }),
          }
        }),
      ),
    )
  }

  async resume(): Promise<void> {
    this.#runsDry = false
    const wish = this.#options.state.value.applying ? 'on' : 'rest'
    await Promise.all(this.#keepers.all.map(keeper => keeper.wish(wish)))
  }

  whileResting<T>(store: StoreName, signal: AbortSignal, work: (at: RestingCopy) => Promise<T>): Promise<T> {
    const keeper = this.#keepers.named(store)
    const { driver, copy } = keeper.place
    return keeper.whileResting(signal, (number, position) => work({ number, position, driver, copy }))
  }

  stores(): readonly StoreStatus[] {
    return this.#keepers.all.map(keeper => keeper.status(this.#lagMs(keeper)))
  }

  get mark(): UpstreamMark | undefined {
    return this.#mark
  }

  onMark(listener: (mark: UpstreamMark) => void): () => void {
    this.#markListeners.add(listener)
    return () => this.#markListeners.delete(listener)
  }

  get receivedTransactions(): number {
    return this.#received
  }

  get applied(): number {
    return this.#keepers.applied
  }

  async close(): Promise<void> {
    await this.#taking?.stop()
    await Promise.all(this.#keepers.all.map(keeper => keeper.close()))
    await this.#keepers.close()
    await this.#reading.close()
  }

  #nowMs(): number {
    return this.#options.machine.clock.nowMs()
  }

  #moved(): void {
    this.#keepers.acknowledge()
    this.#times.forget(this.#keepers.applied)
    this.#taking?.moved()
  }

  #marked(mark: UpstreamMark): void {
    this.#mark = mark
    this.#heardMs = mark.heardMs
    for (const listener of this.#markListeners) listener(mark)
  }

  /** Not of what the primary has and has not sent: that is for the primary to say. */
  #lagMs(keeper: StoreKeeper): number | undefined {
    const nowMs = this.#nowMs()
    if (keeper.through < this.#options.log.durable) {
      const sinceMs = this.#times.firstAfter(keeper.through)
      return sinceMs === undefined ? undefined : nowMs - sinceMs
    }
    if (this.#taking?.state === 'receiving') return 0
    return this.#heardMs === undefined ? undefined : nowMs - this.#heardMs
  }

  /** The session is made anew, and begins with where the copies stand then. */
  #renew(reason: string): void {
    this.#taking?.renew(reason)
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    for (const keeper of this.#keepers.all) keeper.halt()
    void this.#taking?.stop()
    this.#given.failed(error)
  }
}
