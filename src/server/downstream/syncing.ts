/**
 * The receiving end of a store's synchronisation: says what the copy has, takes what differs, and makes it durable when it
 * is asked to.
 *
 * Messages are answered one after another, in order: the upstream's source reads the inventory while it sends what differs,
 * and is told the same as if the copy were its own.
 */
import type { LinkMessage } from '../../link/messages.ts'
import type { Channel } from '../../link/session.ts'
import { HotspareError } from '../../os/errors.ts'
import { giverOf } from '../../os/large-buffers.ts'
import { decodeEntry } from '../../stream/codec.ts'
import type { EntryPath, StoreName } from '../../stream/entry.ts'
import { readFrame } from '../../stream/frame.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import type { CopyInSync } from './copy-synchronisation.ts'
import { InventoryPages } from './inventory-pages.ts'

const digestBytesMax = 8 * 1024 * 1024
const digestBytes = { 'blake3-256': 32, xxh64: 8 } as const

/** again: the upstream has begun anew, and what no commit followed is void. */
export async function receiveStore(
  store: StoreName,
  channel: Channel,
  messages: AsyncIterator<LinkMessage>,
  copy: CopyInSync,
): Promise<'ended' | 'again'> {
  const { replica, position } = copy
  const inventory = new CopyInventory(() => replica.inventory?.(store) ?? Promise.resolve(undefined))
  await channel.send({ type: 'sync-ready', position, hasInventory: await inventory.exists() })
  for (;;) {
    const next = await messages.next()
    if (next.done === true) {
      throw new HotspareError('link-broken', `The upstream gave up synchronising store '${store}'.`)
    }
    const message = next.value
    switch (message.type) {
      case 'inventory-ask':
        await channel.send(await inventory.page(message.after))
        break
      case 'digests-ask':
        await channel.send(await inventory.digests(message.path, message.firstBlock, message.count))
        break
      case 'sync-entries':
        inventory.changed()
        await take(store, copy, message.data)
        break
      case 'sync-flush':
        await replica.sync()
        await channel.send({ type: 'sync-durable', id: message.id })
        break
      case 'sync-end':
        await copy.finish(message.position, message.number)
        await channel.send({ type: 'sync-ended' })
        return 'ended'
      case 'sync-begin':
        return 'again'
      default:
        throw new HotspareError(
          'entry-invalid',
          `'${message.type}' came within the synchronisation of store '${store}'.`,
        )
    }
  }
}

async function take(store: StoreName, { replica }: CopyInSync, data: Buffer): Promise<void> {
  for (let offset = 0; offset < data.length; ) {
    const frame = readFrame(data, offset)
    if (frame.kind !== 'frame') {
      throw new HotspareError('entry-invalid', `What came of store '${store}' is no whole entry.`)
    }
    const isAlone = offset === 0 && frame.end === data.length
    offset = frame.end
    const entry = decodeEntry(frame.payload)
    if (entry.store !== store) {
      throw new HotspareError('entry-invalid', `An entry of store '${entry.store}' came for '${store}'.`)
    }
    await replica.write(entry.type === 'write' && isAlone ? { ...entry, recycle: giverOf(data) } : entry)
  }
}

/** What a copy has, as the upstream asks for it. */
class CopyInventory {
  readonly #open: () => Promise<Inventory | undefined>
  #inventory: Promise<Inventory | undefined> | undefined
  #pages: InventoryPages | undefined
  #file: InventoryFile | undefined

  constructor(open: () => Promise<Inventory | undefined>) {
    this.#open = open
  }

  async exists(): Promise<boolean> {
    return (await this.#get()) !== undefined
  }

  /** A reading that has begun goes on: its source sends what differs as it meets it. */
  changed(): void {
    this.#file = undefined
  }

  async page(after: EntryPath | undefined): Promise<LinkMessage> {
    const inventory = await this.#get()
    if (inventory === undefined) return { type: 'inventory-page', files: [], others: [], last: true }
    // from the beginning it may be asked for again
    if (after === undefined || this.#pages?.after !== after) {
      await this.#pages?.close()
      this.#pages = await InventoryPages.begin(inventory, after)
    }
    return this.#pages.next()
  }

  async digests(path: EntryPath, firstBlock: number, count: number): Promise<LinkMessage> {
    if (this.#file?.path !== path) this.#file = await (await this.#get())?.file(path)
    const file = this.#file
    if (file === undefined)
      throw new HotspareError('entry-invalid', `The copy has no file '${path}' to compare.`)
    const blocks = Math.ceil(file.size / file.blockBytes)
    if (firstBlock + count > blocks || count * digestBytes[file.digest] > digestBytesMax) {
      throw new HotspareError(
        'entry-invalid',
        `Digests of ${count} blocks from ${firstBlock} were asked for.`,
      )
    }
    const digests = await file.digests(firstBlock, count)
    const { buffer, byteOffset, byteLength } = digests
    return { type: 'digests', path, firstBlock, digests: Buffer.from(buffer, byteOffset, byteLength) }
  }

  #get(): Promise<Inventory | undefined> {
    this.#inventory ??= this.#open()
    return this.#inventory
  }
}
