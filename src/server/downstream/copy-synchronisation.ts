/**
 * A copy is made equal to the upstream's beside the log.
 *
 * Order: what the copy says of itself has been taken out of the state, durably, before anything is written to it; when it
 * is equal and durable, the state says at which transaction. So a crash leaves a copy that counts for nothing.
 */
import type { Replica } from '../../drivers/driver.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Position } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'
import { applyFault } from './apply-fault.ts'
import type { CopyFaults } from './copy-faults.ts'
import type { CopyProgress } from './copy-progress.ts'
import { applySubscriber } from './downstream.ts'
import type { StoreKeeperOptions } from './store-keeper.ts'

/** A copy that is being made equal to the upstream's. */
export interface CopyInSync {
  readonly replica: Replica
  /** The driver's own. */
  readonly position: Position | undefined
  /** The copy is equal to what transaction `number` leaves. Durable when it resolves. */
  finish(position: Position, number: number): Promise<void>
}

/** Gives the copy everything. again: the upstream has begun anew, and what no commit followed is void. */
export type SyncWork = (copy: CopyInSync) => Promise<'ended' | 'again'>

export class CopySynchronisation {
  readonly #options: StoreKeeperOptions
  readonly #progress: CopyProgress
  readonly #faults: CopyFaults

  constructor(options: StoreKeeperOptions, progress: CopyProgress, faults: CopyFaults) {
    this.#options = options
    this.#progress = progress
    this.#faults = faults
  }

  async once(upstream: string, work: SyncWork): Promise<'ended' | 'again'> {
    const replica = await this.#open(upstream)
    try {
      const position = await replica.position(this.#options.store)
      return await work({
        replica,
        position: position === undefined ? undefined : barePosition(position),
        finish: (at, number) => this.#finish(replica, at, number),
      })
    } finally {
      await replica.close()
    }
  }

  async #open(upstream: string): Promise<Replica> {
    const { state, store, place, tell } = this.#options
    const asFound = state.value.stores[store]?.asFound === true || (await place.look()) === 'other'
    await place.claim(upstream)
    if (asFound) return place.openReplica(true)
    try {
      return await place.openReplica(false)
    } catch (error) {
      if (applyFault(error) !== 'refused') throw error
      tell(
        'warning',
        'copy-compared',
        `The copy of store '${store}' is taken as it is found, and compared: ${(error as Error).message}`,
      )
      return place.openReplica(true)
    }
  }

  async #finish(replica: Replica, position: Position, number: number): Promise<void> {
    const { log, state, store, moved } = this.#options
    const progress = this.#progress
    await replica.sync()
    const at = await replica.position(store)
    if (at === undefined || barePosition(at) !== position) {
      throw new HotspareError(
        'entry-invalid',
        `The synchronisation of store '${store}' ended at a position that the copy has not reached.`,
      )
    }
    // from further back than was thought: what has been acknowledged for all copies may be needed again
    const isBack = number < progress.through
    if (isBack && number < (progress.acknowledged ?? 0)) await log.subscribe(applySubscriber, number)
    const through = isBack ? number : Math.max(number, progress.needed)
    await state.updateStore(store, ({ asFound: _, until: _until, ...rest }) => ({
      ...rest,
      base: { position, number },
    }))
    progress.synchronised(replica, at, number, through)
    this.#faults.synchronised()
    moved()
  }
}
