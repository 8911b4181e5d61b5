/**
 * What several copies have in common, so that what a source sends by comparing with it makes them all equal.
 *
 * A file is in it when all copies have it, with blocks of one size and kind; a block's digest when it is the same in all,
 * else one that no block has (zeros). What only some copies have, or as different kinds, is in none of it, and is told
 * by `leftovers`: it has to be removed from the copies first, so that nobody keeps what the source does not send.
 */
import type { EntryPath } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'

const digestBytes = { 'blake3-256': 32, xxh64: 8 } as const

type Held =
  | { readonly kind: 'file'; readonly path: EntryPath; readonly file: InventoryFile }
  | { readonly kind: InventoryNode['kind']; readonly path: EntryPath }

interface Row {
  readonly path: EntryPath
  /** By copy; undefined: it has nothing there. */
  readonly held: readonly (Held | undefined)[]
}

export class MergedInventory implements Inventory {
  readonly #inventories: readonly Inventory[]

  constructor(inventories: readonly Inventory[]) {
    this.#inventories = inventories
  }

  /** Paths that are not in it, and in which of the copies something is there. What lies below one is not named. */
  async *leftovers(): AsyncGenerator<{ readonly path: EntryPath; readonly copies: readonly number[] }> {
    for await (const { row, isCommon } of this.#judged()) {
      if (isCommon) continue
      const copies = row.held.flatMap((held, i) => (held === undefined ? [] : [i]))
      yield { path: row.path, copies }
    }
  }

  async *files(): AsyncGenerator<InventoryFile> {
    for await (const { row, isCommon } of this.#judged()) {
      const files = isCommon ? filesOf(row) : undefined
      if (files !== undefined) yield new MergedFile(files)
    }
  }

  async *others(): AsyncGenerator<InventoryNode> {
    for await (const { row, isCommon } of this.#judged()) {
      const [first] = row.held
      if (isCommon && first !== undefined && first.kind !== 'file') yield { path: row.path, kind: first.kind }
    }
  }

  /** Of a path that is no leftover. */
  async file(path: EntryPath): Promise<InventoryFile | undefined> {
    const files: InventoryFile[] = []
    for (const inventory of this.#inventories) {
      const file = await inventory.file(path)
      if (file === undefined) return undefined
      files.push(file)
    }
    return areComparable(files) ? new MergedFile(files) : undefined
  }

  async *#judged(): AsyncGenerator<{ readonly row: Row; readonly isCommon: boolean }> {
    const gone = new Set<string>()
    for await (const row of this.#rows()) {
      // '/' sorts before most, but not behind all that may follow a directory's name
      if (gone.size > 0 && ancestorsOf(row.path).some(path => gone.has(path))) continue
      const isCommon = row.path === '' || isHeldByAll(row)
      if (!isCommon) gone.add(row.path)
      yield { row, isCommon }
    }
  }

  /** What the copies have, path by path, in ascending order. */
  async *#rows(): AsyncGenerator<Row> {
    const cursors = await Promise.all(this.#inventories.map(inventory => Cursor.open(heldBy(inventory))))
    try {
      for (;;) {
        const paths = cursors.flatMap(cursor => (cursor.now === undefined ? [] : [cursor.now.path]))
        if (paths.length === 0) return
        const path = paths.reduce((a, b) => (a < b ? a : b))
        const held = cursors.map(cursor => (cursor.now?.path === path ? cursor.now : undefined))
        yield { path, held }
        for (const [i, one] of held.entries()) if (one !== undefined) await cursors[i]?.next()
      }
    } finally {
      for (const cursor of cursors) await cursor.close()
    }
  }
}

function isHeldByAll({ held }: Row): boolean {
  const [first] = held
  if (first === undefined || held.some(one => one?.kind !== first.kind)) return false
  // of which file it is another name is not told, nor what else there may be
  if (first.kind === 'hardlink' || first.kind === 'other') return false
  return first.kind !== 'file' || filesOf({ path: first.path, held }) !== undefined
}

function filesOf({ held }: Row): readonly InventoryFile[] | undefined {
  const files = held.flatMap(one => (one?.kind === 'file' ? [(one as { file: InventoryFile }).file] : []))
  return files.length === held.length && areComparable(files) ? files : undefined
}

function areComparable(files: readonly InventoryFile[]): boolean {
  const [first] = files
  return files.every(({ digest, blockBytes }) => digest === first?.digest && blockBytes === first.blockBytes)
}

function ancestorsOf(path: string): string[] {
  const parts = path.split('/')
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/'))
}

/** As long as the longest, so that what one has too much is cut in all. */
class MergedFile implements InventoryFile {
  readonly path: EntryPath
  readonly size: number
  readonly blockBytes: number
  readonly digest: InventoryFile['digest']
  readonly #files: readonly InventoryFile[]

  constructor(files: readonly InventoryFile[]) {
    const [first] = files as [InventoryFile]
    this.#files = files
    this.path = first.path
    this.size = Math.max(...files.map(({ size }) => size))
    this.blockBytes = first.blockBytes
    this.digest = first.digest
  }

  async digests(firstBlock: number, count: number): Promise<Uint8Array> {
    const bytes = digestBytes[this.digest]
    const blocks = Math.ceil(this.size / this.blockBytes)
    const length = Math.max(0, Math.min(firstBlock + count, blocks) - firstBlock) * bytes
    const all = await Promise.all(this.#files.map(file => file.digests(firstBlock, count)))
    const [first, ...rest] = all as [Uint8Array]
    const merged = Buffer.alloc(length)
    merged.set(first.subarray(0, length))
    for (const other of rest) clearDifferent(merged, other, bytes)
    return merged
  }
}

/** Zeros what is not the same in both. */
function clearDifferent(merged: Buffer, other: Uint8Array, bytes: number): void {
  if (merged.equals(other)) return
  for (let at = 0; at < merged.length; at += bytes) {
    const isSame = at + bytes <= other.length && merged.compare(other, at, at + bytes, at, at + bytes) === 0
    if (!isSame) merged.fill(0, at, at + bytes)
  }
}

/** Files and all else of one copy, in one order. */
async function* heldBy(inventory: Inventory): AsyncGenerator<Held> {
  const files = await Cursor.open(inventory.files())
  const others = await Cursor.open(inventory.others?.() ?? nothing())
  try {
    for (;;) {
      const [file, other] = [files.now, others.now]
      if (file !== undefined && (other === undefined || file.path <= other.path)) {
        yield { kind: 'file', path: file.path, file }
        await files.next()
      } else if (other !== undefined) {
        yield other
        await others.next()
      } else return
    }
  } finally {
    await files.close()
    await others.close()
  }
}

async function* nothing(): AsyncGenerator<never> {}

class Cursor<T> {
  readonly #iterator: AsyncIterator<T>
  now: T | undefined

  static async open<T>(items: AsyncIterable<T>): Promise<Cursor<T>> {
    const cursor = new Cursor(items[Symbol.asyncIterator]())
    await cursor.next()
    return cursor
  }

  private constructor(iterator: AsyncIterator<T>) {
    this.#iterator = iterator
  }

  async next(): Promise<void> {
    const result = await this.#iterator.next()
    this.now = result.done === true ? undefined : result.value
  }

  async close(): Promise<void> {
    await this.#iterator.return?.()
  }
}
