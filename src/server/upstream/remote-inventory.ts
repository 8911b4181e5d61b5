/**
 * What a downstream's copy has of a store, asked for over the link as it is needed: names by pages, digests by windows of
 * a file's blocks. While names are read in order, the digests of small files are asked for ahead of them, so that a
 * hundred thousand small files do not cost a round trip each.
 *
 * Bounds: a page of names, one window of digests, and what is asked for ahead. Who looks files up by their path has all
 * names in memory.
 */
import type { LinkMessage } from '../../link/messages.ts'
import { HotspareError } from '../../os/errors.ts'
import type { EntryPath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'
import type { RemoteStore } from './remote-store.ts'

type Page = Extract<LinkMessage, { readonly type: 'inventory-page' }>
type FileLine = Page['files'][number]

const digestBytes = { 'blake3-256': 32, xxh64: 8 } as const
const windowBytes = 512 * 1024
const aheadFiles = 256
/** Of a file whose digests are asked for ahead. */
const smallBlocksMax = 4

export class RemoteInventory implements Inventory {
  readonly #remote: RemoteStore
  #byPath: Promise<ReadonlyMap<string, RemoteFile>> | undefined

  constructor(remote: RemoteStore) {
    this.#remote = remote
  }

  async *files(): AsyncGenerator<InventoryFile> {
    for await (const page of this.#pages()) {
      const files = page.files.map(line => new RemoteFile(this.#remote, line))
      for (const [i, file] of files.entries()) {
        if (i % aheadFiles === 0) for (const next of files.slice(i, i + aheadFiles)) next.askAhead()
        yield file
      }
    }
  }

  async *others(): AsyncGenerator<InventoryNode> {
    for await (const page of this.#pages()) yield* page.others
  }

  async file(path: EntryPath): Promise<InventoryFile | undefined> {
    this.#byPath ??= this.#all()
    return (await this.#byPath).get(path)
  }

  async #all(): Promise<ReadonlyMap<string, RemoteFile>> {
    const files = new Map<string, RemoteFile>()
    for await (const page of this.#pages())
      for (const line of page.files) files.set(line.path, new RemoteFile(this.#remote, line))
    return files
  }

  async *#pages(): AsyncGenerator<Page> {
    for (let after: EntryPath | undefined; ; ) {
      const page = await this.#remote.inventoryPage(after)
      const last = [page.files.at(-1)?.path, page.others.at(-1)?.path].filter(path => path !== undefined)
      const first = [page.files[0]?.path, page.others[0]?.path].filter(path => path !== undefined)
      const isForward = after === undefined || first.every(path => path > (after as EntryPath))
      if (!isForward || (!page.last && last.length === 0))
        throw new HotspareError('entry-invalid', 'The pages of what a copy has do not go on.')
      yield page
      if (page.last) return
      after = last.reduce((a, b) => (a > b ? a : b))
    }
  }
}

class RemoteFile implements InventoryFile {
  readonly path: EntryPath
  readonly size: number
  readonly blockBytes: number
  readonly digest: FileLine['digest']
  readonly #remote: RemoteStore
  /** Digests of the blocks from `#first` on. */
  #first = 0
  #window: Promise<Buffer> | undefined
  #windowBlocks = 0

  constructor(remote: RemoteStore, line: FileLine) {
    this.#remote = remote
    this.path = line.path
    this.size = line.size
    this.blockBytes = line.blockBytes
    this.digest = line.digest
  }

  get #blocks(): number {
    return Math.ceil(this.size / this.blockBytes)
  }

  askAhead(): void {
    if (this.#blocks === 0 || this.#blocks > smallBlocksMax) return
    this.#ask(0, this.#blocks)
    // whoever needs it hears of it
    this.#window?.catch(() => undefined)
  }

  async digests(firstBlock: number, count: number): Promise<Uint8Array> {
    const end = Math.min(firstBlock + count, this.#blocks)
    const bytes = digestBytes[this.digest]
    const parts: Buffer[] = []
    for (let block = firstBlock; block < end; ) {
      const isHere =
        this.#window !== undefined && block >= this.#first && block < this.#first + this.#windowBlocks
      if (!isHere) this.#ask(block, Math.min(windowBytes / bytes, this.#blocks - block))
      const first = this.#first
      const blocks = this.#windowBlocks
      const window = await (this.#window as Promise<Buffer>)
      const to = Math.min(end, first + blocks)
      parts.push(window.subarray((block - first) * bytes, (to - first) * bytes))
      block = to
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
  }

  #ask(first: number, count: number): void {
    this.#first = first
    this.#windowBlocks = count
    this.#window = this.#remote.digests(this.path, first, count).then(({ digests }) => {
      if (digests.length === count * digestBytes[this.digest]) return digests
      throw new HotspareError(
        'entry-invalid',
        `${count} digests of '${this.path}' were asked for, and ${digests.length} bytes came.`,
      )
    })
  }
}
