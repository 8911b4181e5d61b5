/**
 * A frozen state of a standby's copy as a source: compared with what a downstream has, it gives what differs, as one
 * transaction that ends at the state's own position.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { xxh64 } from '@node-rs/xxhash'
import type { Snapshot, SnapshotEntry, SnapshotFile, SnapshotMetadata } from '../../drivers/snapshot.ts'
import type { Change, Entry, EntryPath, Position, StoreName } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'
import type { ReadOptions, Source } from '../../stream/source.ts'

const pieceBytesMax = 1024 * 1024
const digestBytes = { 'blake3-256': 32, xxh64: 8 } as const
/** In a SQLite database the page that holds this byte is nobody's content. */
const lockByte = 2 ** 30

export interface SnapshotSourceOptions {
  readonly store: StoreName
  readonly snapshot: Snapshot
  /** The driver's own position of that state. */
  readonly position: Position
  /** The store is a SQLite database: pages, and nothing but content. */
  readonly sqlite: boolean
  /** The store is one file, of which only the content is kept. */
  readonly singleFile: boolean
}

/** What the downstream has, by path. */
interface Held {
  readonly files: Map<string, InventoryFile>
  readonly others: Map<string, InventoryNode['kind']>
}

export class SnapshotSource implements Source {
  readonly #options: SnapshotSourceOptions

  constructor(options: SnapshotSourceOptions) {
    this.#options = options
  }

  async *read(_from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const { store, snapshot, position } = this.#options
    const held = await listed(await options.inventory())
    const removed = new Set<string>()
    const seen = new Set<string>()
    const directories: SnapshotMetadata[] = []
    for await (const batch of snapshot.batches()) {
      for (const entry of batch.entries) {
        seen.add(entry.path)
        yield* this.#change(entry, held, removed)
        if (entry.kind === 'directory') directories.push(entry)
      }
      batch.release()
      options.signal.throwIfAborted()
    }
    yield* this.#removals(held, seen, removed)
    // what is put into a directory changes its time
    if (!this.#options.singleFile)
      for (const directory of directories.reverse()) yield attributesOf(store, directory)
    const { timeMs, state } = snapshot.commit
    const { consistent } = snapshot
    yield { type: 'commit', store, position, consistent, timeMs, ...(state === undefined ? {} : { state }) }
  }

  async wait(): Promise<void> {}
  async acknowledge(): Promise<void> {}
  async close(): Promise<void> {}

  async *#change(entry: SnapshotEntry, held: Held, removed: Set<string>): AsyncGenerator<Change> {
    const { store, singleFile } = this.#options
    const { path } = entry
    const common = { store, path }
    const other = held.others.get(path)
    const isFile = held.files.has(path)
    switch (entry.kind) {
      case 'directory':
        if (path === '' || other === 'directory') return
        if (isFile || other !== undefined) yield removal(store, path, removed)
        yield { type: 'node', ...common, node: { kind: 'directory' } }
        return
      case 'symlink':
        if (isFile || other !== undefined) yield removal(store, path, removed)
        yield { type: 'node', ...common, node: { kind: 'symlink', target: entry.target } }
        yield attributesOf(store, entry)
        return
      case 'hardlink':
        if (isFile || other !== undefined) yield removal(store, path, removed)
        yield { type: 'node', ...common, node: { kind: 'hardlink', to: entry.to } }
        return
      case 'file':
        if (other !== undefined) yield removal(store, path, removed)
        yield* this.#fileChange(entry, other === undefined ? held.files.get(path) : undefined)
        if (!singleFile) yield attributesOf(store, entry)
    }
  }

  async *#fileChange(entry: SnapshotFile, held: InventoryFile | undefined): AsyncGenerator<Change> {
    const { store } = this.#options
    const { path, size } = entry
    const comparable =
      held !== undefined && held.blockBytes > 0 && held.blockBytes <= pieceBytesMax ? held : undefined
    if (held === undefined && size === 0)
      yield { type: 'write', store, path, offset: 0, data: Buffer.alloc(0) }
    const blockBytes = comparable?.blockBytes ?? pieceBytesMax
    let gap: { readonly offset: number; readonly end: number } | undefined
    for await (const { offset, data } of blocksOf(entry, blockBytes)) {
      if (offset === 0 && this.#options.sqlite) gap = lockPageOf(data)
      for (const part of without(offset, data.length, gap)) {
        const bytes = data.subarray(part.offset - offset, part.end - offset)
        if (comparable === undefined || this.#isPartial(part, offset, data)) {
          yield { type: 'write', store, path, offset: part.offset, data: Buffer.from(bytes) }
        } else if (!(await isSame(comparable, part.offset, bytes)))
          yield { type: 'write', store, path, offset: part.offset, data: Buffer.from(bytes) }
      }
    }
    if (held !== undefined && held.size > size) yield { type: 'truncate', store, path, size }
  }

  /** Blocks of pages are pages, so the gap takes whole ones. */
  #isPartial(part: { readonly offset: number; readonly end: number }, offset: number, data: Buffer): boolean {
    return part.offset !== offset || part.end !== offset + data.length
  }

  *#removals(held: Held, seen: ReadonlySet<string>, removed: Set<string>): Generator<Change> {
    const { store, singleFile } = this.#options
    if (singleFile) return
    const paths = [...held.files.keys(), ...held.others.keys()]
      .filter(path => path !== '' && !seen.has(path))
      .sort()
    for (const path of paths) if (!isBelow(path, removed)) yield removal(store, path as EntryPath, removed)
  }
}

async function listed(inventory: Inventory | undefined): Promise<Held> {
  const held: Held = { files: new Map(), others: new Map() }
  if (inventory === undefined) return held
  for await (const file of inventory.files()) held.files.set(file.path, file)
  for await (const { path, kind } of inventory.others?.() ?? []) held.others.set(path, kind)
  return held
}

function removal(store: StoreName, path: EntryPath, removed: Set<string>): Change {
  removed.add(path)
  return { type: 'remove', store, path }
}

function isBelow(path: string, removed: ReadonlySet<string>): boolean {
  for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1))
    if (removed.has(path.slice(0, cut))) return true
  return false
}

function attributesOf(store: StoreName, metadata: SnapshotMetadata): Change {
  const { path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = metadata
  const mtimeNs = BigInt(mtimeSeconds) * 1_000_000_000n + BigInt(mtimeNanoseconds)
  return { type: 'attributes', store, path, mode, uid, gid, mtimeNs, xattrs: xattrs ?? {} }
}

/** The file's bytes, holes as zeros, in blocks from its start; a block is void when the next is asked for. */
async function* blocksOf(
  file: SnapshotFile,
  blockBytes: number,
): AsyncGenerator<{ readonly offset: number; readonly data: Buffer }> {
  let offset = 0
  let part: Buffer[] = []
  let partBytes = 0
  for await (const piece of bytesOf(file)) {
    for (let at = 0; at < piece.length; ) {
      const bytes = piece.subarray(at, at + blockBytes - partBytes)
      at += bytes.length
      if (partBytes + bytes.length < blockBytes) {
        // kept beyond the piece
        part.push(Buffer.from(bytes))
        partBytes += bytes.length
        continue
      }
      const data = partBytes === 0 ? bytes : Buffer.concat([...part, bytes])
      part = []
      partBytes = 0
      yield { offset, data }
      offset += data.length
    }
  }
  if (partBytes > 0) yield { offset, data: Buffer.concat(part) }
}

async function* bytesOf({ size, extents, content, stream }: SnapshotFile): AsyncGenerator<Buffer> {
  const pieces = content === undefined ? (stream?.() ?? []) : [content]
  const all = extents ?? [{ offset: 0, length: size }]
  let at = 0
  let extent = 0
  let left = all[0]?.length ?? 0
  for await (const piece of pieces) {
    for (let from = 0; from < piece.length; ) {
      while (left === 0 && extent + 1 < all.length) left = all[++extent]?.length ?? 0
      const { offset, length } = all[extent] as { offset: number; length: number }
      yield* zeros(offset + (length - left) - at)
      at = offset + (length - left)
      const bytes = view(piece, from, Math.min(piece.length - from, left))
      yield bytes
      from += bytes.length
      left -= bytes.length
      at += bytes.length
    }
  }
  yield* zeros(size - at)
}

function view(bytes: Uint8Array, from: number, length: number): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, length)
}

const zeroPiece = Buffer.alloc(pieceBytesMax)

function* zeros(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= pieceBytesMax)
    yield zeroPiece.subarray(0, Math.min(left, pieceBytesMax))
}

async function isSame(held: InventoryFile, offset: number, data: Buffer): Promise<boolean> {
  const heldBytes = Math.min(held.blockBytes, held.size - offset)
  if (heldBytes !== data.length) return false
  const digest = Buffer.from(await held.digests(offset / held.blockBytes, 1))
  if (held.digest === 'blake3-256') return blake3(data).equals(digest)
  return digest.length === digestBytes.xxh64 && digest.readBigUInt64BE() === pageDigest(data)
}

/** As the driver 'sqlite' has it: of a page of zeros it is 1. */
function pageDigest(page: Buffer): bigint {
  return page.every(byte => byte === 0) ? 1n : xxh64(page)
}

function lockPageOf(head: Buffer): { readonly offset: number; readonly end: number } {
  const told = head.readUInt16BE(16)
  const pageBytes = told === 1 ? 65536 : told
  const offset = Math.floor(lockByte / pageBytes) * pageBytes
  return { offset, end: offset + pageBytes }
}

function without(
  offset: number,
  length: number,
  gap: { readonly offset: number; readonly end: number } | undefined,
): { readonly offset: number; readonly end: number }[] {
  const end = offset + length
  if (gap === undefined || gap.end <= offset || gap.offset >= end) return [{ offset, end }]
  return [
    { offset, end: Math.max(offset, gap.offset) },
    { offset: Math.min(end, gap.end), end },
  ].filter(part => part.end > part.offset)
}
