/**
 * Several downstreams' copies of one store as one sink: all get the same, so that they stand at the same commit.
 *
 * Invariant: before the first difference is sent, what only some of them have is removed from them (merged-inventory.ts),
 * within the same transaction. One that fails is left out from then on; the others go on.
 */
import { HotspareError } from '../../os/errors.ts'
import type { Entry, Position, StoreName } from '../../stream/entry.ts'
import type { Inventory, InventoryPurpose, Sink } from '../../stream/sink.ts'
import { MergedInventory } from './merged-inventory.ts'
import type { RemoteSink } from './remote-sink.ts'

export interface TeeSinkOptions {
  readonly store: StoreName
  readonly sinks: readonly RemoteSink[]
  /** Where all of them stand. */
  readonly position: Position | undefined
  /** The source compares, from there or from nothing. */
  readonly compares: boolean
  onFault(sink: RemoteSink, error: unknown): void
}

export class TeeSink implements Sink {
  readonly #store: StoreName
  readonly #sinks: Set<RemoteSink>
  #position: Position | undefined
  readonly #compares: boolean
  readonly #onFault: (sink: RemoteSink, error: unknown) => void
  #fault: unknown

  constructor({ store, sinks, position, compares, onFault }: TeeSinkOptions) {
    this.#store = store
    this.#sinks = new Set(sinks)
    this.#position = position
    this.#compares = compares
    this.#onFault = onFault
  }

  async position(): Promise<Position | undefined> {
    return this.#position
  }

  /**
   * Removes what they do not have in common, where the source is to compare. Undefined: somebody has nothing yet. Where the
   * source was to go on from a position and cannot, `diverged` when they have something that the inventory leaves out.
   */
  async inventory(
    _store: StoreName,
    purpose: InventoryPurpose = 'continuity',
  ): Promise<Inventory | undefined> {
    const sinks = [...this.#sinks]
    const inventories = await Promise.all(sinks.map(sink => sink.inventory()))
    const isWhole = inventories.every(inventory => inventory !== undefined)
    const merged = new MergedInventory(inventories.map(inventory => inventory ?? nothing))
    if (purpose === 'continuity') {
      for await (const { path, copies } of merged.leftovers()) {
        if (!this.#compares)
          throw new HotspareError('diverged', `'${path}' can only be told by comparing what the copies have.`)
        await this.#remove(
          path,
          copies.map(i => sinks[i] as RemoteSink),
        )
      }
    }
    return isWhole ? merged : undefined
  }

  write(entry: Entry): Promise<void> {
    // one after another, so that the memory that the last one gives back is not read any more
    const shared = entry.type === 'write' ? withoutRecycle(entry) : entry
    if (entry.type === 'commit') this.#position = entry.position
    return this.#each(sink => sink.write(shared)).then(() => {
      if (entry.type === 'write') entry.recycle?.()
    })
  }

  sync(): Promise<void> {
    return this.#each(sink => sink.sync())
  }

  /** Resolves when all that was written is durable at each that is left, with those. */
  async settle(): Promise<readonly RemoteSink[]> {
    await this.#each(sink => sink.settle())
    return [...this.#sinks]
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sinks].map(sink => sink.close()))
  }

  async #remove(
    path: Extract<Entry, { type: 'remove' }>['path'],
    sinks: readonly RemoteSink[],
  ): Promise<void> {
    await this.#each(async sink => {
      if (sinks.includes(sink)) await sink.write({ type: 'remove', store: this.#store, path })
    })
  }

  async #each(work: (sink: RemoteSink) => Promise<void>): Promise<void> {
    await Promise.all(
      [...this.#sinks].map(async sink => {
        try {
          await work(sink)
        } catch (error) {
          this.#sinks.delete(sink)
          this.#fault ??= error
          this.#onFault(sink, error)
        }
      }),
    )
    if (this.#sinks.size === 0) throw this.#fault
  }
}

/** What somebody has who has nothing yet. */
const nothing: Inventory = {
  async *files() {},
  file: async () => undefined,
}

function withoutRecycle(entry: Extract<Entry, { type: 'write' }>): Entry {
  const { recycle: _, ...rest } = entry
  return rest
}
