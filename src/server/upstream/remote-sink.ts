/**
 * A downstream's copy of one store as a sink, over its channel 'sync STORE': the pump moves a live store, or a frozen view
 * of a copy, into it as into any other.
 *
 * `sync` begins to make durable what was sent, and goes on while few of those are under way, so that the other side's
 * disk and the link work side by side. What is durable is known at the end, when `settle` resolves: whoever pumps into
 * it acknowledges nothing before.
 */
import { giveLarge } from '../../os/large-buffers.ts'
import { encodeEntry } from '../../stream/codec.ts'
import type { Entry, Position } from '../../stream/entry.ts'
import type { Inventory, Sink } from '../../stream/sink.ts'
import { RemoteInventory } from './remote-inventory.ts'
import type { RemoteStore } from './remote-store.ts'

const batchBytesMax = 1024 * 1024
/** An entry of so many bytes goes alone: joining it with others would be a copy for nothing. */
const aloneBytes = 128 * 1024
const flushesMax = 4

export class RemoteSink implements Sink {
  readonly #remote: RemoteStore
  #position: Position | undefined
  readonly #hasInventory: boolean
  #batch: Buffer[] = []
  #batchBytes = 0
  readonly #flushes = new Set<Promise<void>>()
  #failure: unknown

  /** Resolves when the downstream has stopped applying the store and said what it has. */
  static async begin(remote: RemoteStore): Promise<RemoteSink> {
    const { position, hasInventory } = await remote.begin()
    return new RemoteSink(remote, position, hasInventory)
  }

  private constructor(remote: RemoteStore, position: Position | undefined, hasInventory: boolean) {
    this.#remote = remote
    this.#position = position
    this.#hasInventory = hasInventory
  }

  /** Of the last commit that was sent; the downstream's own before. */
  async position(): Promise<Position | undefined> {
    return this.#position
  }

  async inventory(): Promise<Inventory | undefined> {
    return this.#hasInventory ? new RemoteInventory(this.#remote) : undefined
  }

  async write(entry: Entry): Promise<void> {
    const frame = encodeEntry(entry)
    if (entry.type === 'write') entry.recycle?.()
    if (entry.type === 'commit') this.#position = entry.position
    if (frame.length < aloneBytes) {
      this.#batch.push(frame)
      this.#batchBytes += frame.length
      if (this.#batchBytes >= batchBytesMax) await this.#send()
      return
    }
    await this.#send()
    await this.#remote.entries(frame)
    giveLarge(frame)
  }

  async sync(): Promise<void> {
    await this.#send()
    if (this.#failure !== undefined) throw this.#failure
    const flush = this.#remote.flush().catch(error => {
      this.#failure ??= error
    })
    this.#flushes.add(flush)
    void flush.then(() => this.#flushes.delete(flush))
    if (this.#flushes.size >= flushesMax) await Promise.race(this.#flushes)
  }

  /** Resolves when all that was sent is durable at the downstream. */
  async settle(): Promise<void> {
    await this.sync()
    await Promise.all(this.#flushes)
    if (this.#failure !== undefined) throw this.#failure
  }

  async close(): Promise<void> {
    this.#batch = []
    await Promise.all(this.#flushes)
  }

  async #send(): Promise<void> {
    if (this.#batch.length === 0) return
    const [first] = this.#batch
    const data = this.#batch.length === 1 ? (first as Buffer) : Buffer.concat(this.#batch, this.#batchBytes)
    this.#batch = []
    this.#batchBytes = 0
    await this.#remote.entries(data)
  }
}
