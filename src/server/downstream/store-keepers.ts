/** All stores of a standby together, and what the log keeps for their copies. */
import type { StoreDescription, StoreStand } from '../../link/messages.ts'
import { HotspareError } from '../../os/errors.ts'
import type { StoreName } from '../../stream/entry.ts'
import { patiently } from '../patiently.ts'
import { applySubscriber, type DownstreamOptions } from './downstream.ts'
import type { StoreKeeper } from './store-keeper.ts'

export class StoreKeepers {
  readonly #options: DownstreamOptions
  readonly all: readonly StoreKeeper[]
  readonly #byName: ReadonlyMap<StoreName, StoreKeeper>
  #keepingAgain: Promise<void> | undefined
  readonly #closing = new AbortController()

  constructor(options: DownstreamOptions, all: readonly StoreKeeper[]) {
    this.#options = options
    this.all = all
    this.#byName = new Map(all.map(keeper => [keeper.store, keeper]))
  }

  has(store: StoreName): boolean {
    return this.#byName.has(store)
  }

  named(store: StoreName): StoreKeeper {
    const keeper = this.#byName.get(store)
    if (keeper === undefined) throw new HotspareError('usage', `This server has no store '${store}'.`)
    return keeper
  }

  /** All up to this number is durable in all copies; 0 while one of them has to be synchronised. */
  get applied(): number {
    return Math.min(this.#options.log.durable, ...this.all.map(keeper => keeper.applied))
  }

  /** What the copies need of the log begins after this number. */
  get #needed(): number {
    return Math.min(this.#options.log.durable, ...this.all.map(keeper => keeper.through))
  }

  async stands(): Promise<readonly StoreStand[]> {
    return Promise.all(this.all.map(keeper => keeper.stand()))
  }

  /** What of the upstream's stores there is here, and the other way round. */
  describe(descriptions: readonly StoreDescription[]): void {
    const { tell } = this.#options
    for (const { store } of descriptions) {
      if (this.#byName.has(store)) continue
      tell(
        'warning',
        'store-unknown',
        `The upstream has a store '${store}', and this server has none of this name: it is not kept here.`,
      )
    }
    for (const keeper of this.all) {
      const { store } = keeper
      keeper.isOffered = descriptions.some(description => description.store === store)
      if (keeper.isOffered) continue
      tell('warning', 'store-unknown', `The upstream has no store '${store}': nothing comes for it.`)
    }
  }

  /** These come beside the log, which goes on at `next`. */
  async toSync(stores: readonly StoreName[], next: number, signal: AbortSignal): Promise<void> {
    for (const store of stores) {
      const keeper = this.#byName.get(store)
      if (keeper === undefined) continue
      await keeper.takeRestSoon(signal)
      await keeper.leaveLog(next, signal)
      if (await keeper.takesSync()) keeper.toSync(next)
    }
  }

  seen(store: StoreName, number: number): void {
    this.#byName.get(store)?.seen(number)
  }

  /** The log is to go: what was acknowledged is in the copies first. Throws `log-gap` when one cannot take it. */
  async takeRest(signal: AbortSignal): Promise<void> {
    for (const keeper of this.all) await keeper.takeRest(signal)
  }

  async putOutAll(signal: AbortSignal): Promise<void> {
    await Promise.all(this.all.map(keeper => keeper.putOut(signal)))
  }

  restarted(next: number): void {
    for (const keeper of this.all) keeper.restarted(next)
  }

  /** The log may remove what all copies have. */
  acknowledge(): void {
    const { log } = this.#options
    const subscriber = log.subscribers().find(({ name }) => name === applySubscriber)
    if (subscriber?.kept === true) log.acknowledge(applySubscriber, this.#needed)
    else if (this.#keepingAgain === undefined && this.all.every(keeper => keeper.isKnown)) {
      const { machine, tell, failed } = this.#options
      const { signal } = this.#closing
      const doing = 'Keeping the log for the copies again'
      this.#keepingAgain = patiently({ machine, signal, tell }, doing, () => this.#keepAgain())
        .catch(error => {
          if (!signal.aborted) failed(error)
        })
        .finally(() => {
          this.#keepingAgain = undefined
        })
    }
  }

  /**
   * The log has gone on without the slowest, since it is full: what it does not keep any more has to be compared. The
   * others are kept for as before.
   */
  async #keepAgain(): Promise<void> {
    const { log } = this.#options
    // one look for all: it may go on while a copy is put out, and then all is looked at again
    const { first } = log
    for (const keeper of this.all) {
      const isLost = keeper.number !== undefined && keeper.through + 1 < first
      if (isLost) await keeper.lost()
    }
    const least = Math.max(first - 1, this.#needed)
    try {
      await log.subscribe(applySubscriber, least)
    } catch (error) {
      // it went on meanwhile: the next acknowledgement looks again
      if (!(error instanceof HotspareError && error.code === 'log-removed')) throw error
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#keepingAgain
  }
}
