/** A pump's sink into a log: gathers a store's transaction, and appends it as a whole with its commit. */
import { assert, HotspareError } from '../os/errors.ts'
import { encodeEntry } from '../stream/codec.ts'
import type { Commit, Entry, Position, StoreName } from '../stream/entry.ts'
import type { Sink } from '../stream/sink.ts'
import type { TransactionSpool } from './transaction-spool.ts'

/** What the sink needs of its log. */
export interface SinkLog {
  position(store: StoreName): Promise<Position | undefined>
  /** Resolves at once where nothing has to be waited for. */
  append(store: StoreName, spool: TransactionSpool, commit: Commit): Promise<void> | undefined
  sync(): Promise<void>
  released(store: StoreName): void
}

export class StoreSink implements Sink {
  readonly #log: SinkLog
  readonly #store: StoreName
  readonly #spool: TransactionSpool
  #closed = false
  #failed = false

  constructor(log: SinkLog, store: StoreName, spool: TransactionSpool) {
    this.#log = log
    this.#store = store
    this.#spool = spool
  }

  /** Changes without their commit stand in it. */
  get isInside(): boolean {
    return !this.#failed && this.#spool.bytes > 0
  }

  async position(store: StoreName): Promise<Position | undefined> {
    assert(store === this.#store, `the sink of '${this.#store}' is asked for '${store}'`)
    return this.#log.position(store)
  }

  async write(entry: Entry): Promise<void> {
    assert(!this.#closed && !this.#failed, `the sink of '${this.#store}' is closed, or has failed`)
    if (entry.store !== this.#store) {
      throw new HotspareError(
        'entry-invalid',
        `An entry of store '${entry.store}' came for store '${this.#store}'.`,
      )
    }
    try {
      const spilled = this.#spool.add(encodeEntry(entry))
      if (entry.type === 'write') entry.recycle?.()
      if (spilled !== undefined) await spilled
      if (entry.type !== 'commit') return
      await this.#log.append(this.#store, this.#spool, entry)
      await this.#spool.clear()
    } catch (error) {
      this.#failed = true
      throw error
    }
  }

  sync(): Promise<void> {
    return this.#log.sync()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#log.released(this.#store)
    await this.#spool.close()
  }
}
