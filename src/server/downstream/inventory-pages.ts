/** What a copy has, page by page: files and all else together in ascending order of path bytes, nothing twice. */
import type { LinkMessage } from '../../link/messages.ts'
import type { EntryPath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'

const pageEntriesMax = 1024
const pagePathBytesMax = 256 * 1024

type Page = Extract<LinkMessage, { type: 'inventory-page' }>

export class InventoryPages {
  readonly #files: AsyncIterator<InventoryFile>
  readonly #others: AsyncIterator<InventoryNode> | undefined
  #file: InventoryFile | undefined
  #other: InventoryNode | undefined
  /** The last path that was given; undefined: none was. */
  #after: EntryPath | undefined

  /** What comes after the path. */
  static async begin(inventory: Inventory, after: EntryPath | undefined): Promise<InventoryPages> {
    const pages = new InventoryPages(inventory, after)
    do await pages.#nextFile()
    while (pages.#file !== undefined && after !== undefined && pages.#file.path <= after)
    do await pages.#nextOther()
    while (pages.#other !== undefined && after !== undefined && pages.#other.path <= after)
    return pages
  }

  private constructor(inventory: Inventory, after: EntryPath | undefined) {
    this.#files = inventory.files()[Symbol.asyncIterator]()
    this.#others = inventory.others?.()[Symbol.asyncIterator]()
    this.#after = after
  }

  get after(): EntryPath | undefined {
    return this.#after
  }

  async next(): Promise<Page> {
    const files: Page['files'][number][] = []
    const others: Page['others'][number][] = []
    for (let bytes = 0; files.length + others.length < pageEntriesMax && bytes < pagePathBytesMax; ) {
      const file = this.#file
      const other = this.#other
      if (file !== undefined && (other === undefined || file.path <= other.path)) {
        const { path, size, blockBytes, digest } = file
        files.push({ path, size, blockBytes, digest })
        this.#after = path
        await this.#nextFile()
      } else if (other !== undefined) {
        others.push({ path: other.path, kind: other.kind })
        this.#after = other.path
        await this.#nextOther()
      } else {
        return { type: 'inventory-page', files, others, last: true }
      }
      bytes += this.#after.length
    }
    return { type: 'inventory-page', files, others, last: false }
  }

  async close(): Promise<void> {
    await this.#files.return?.()
    await this.#others?.return?.()
  }

  async #nextFile(): Promise<void> {
    const result = await this.#files.next()
    this.#file = result.done === true ? undefined : result.value
  }

  async #nextOther(): Promise<void> {
    const result = await this.#others?.next()
    this.#other = result === undefined || result.done === true ? undefined : result.value
  }
}
