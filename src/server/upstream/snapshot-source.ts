/**
 * A frozen state of a standby's copy as a source: compared with what a downstream has, it gives what differs, as one
 * transaction that ends at the state's own position.
 */
import { blake3 } from '@napi-rs/blake-hash'
import type { ConsistentCommit, CopySource } from '../../drivers/driver.ts'
import type { Snapshot, SnapshotEntry, SnapshotFile, SnapshotMetadata } from '../../drivers/snapshot.ts'
import type { Change, Entry, EntryPath, Position, StoreName } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'
import type { ReadOptions } from '../../stream/source.ts'

const pieceBytesMax = 1024 * 1024

export interface SnapshotSourceOptions {
  readonly store: StoreName
  /** Closed with the source. */
  readonly snapshot: Snapshot
}

/** What the downstream has, by path. */
interface Held {
  readonly files: Map<string, InventoryFile>
  readonly others: Map<string, InventoryNode['kind']>
}

export class SnapshotSource implements CopySource {
  readonly #options: SnapshotSourceOptions

  constructor(options: SnapshotSourceOptions) {
    this.#options = options
  }

  get commit(): ConsistentCommit {
    return this.#options.snapshot.commit
  }

  async *read(_from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const { store, snapshot } = this.#options
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
    for (const directory of directories.reverse()) yield attributesOf(store, directory)
    const { timeMs, state } = snapshot.commit
    const { consistent } = snapshot
    const position = barePosition(snapshot.commit.position)
    yield { type: 'commit', store, position, consistent, timeMs, ...(state === undefined ? {} : { state }) }
  }

  async wait(): Promise<void> {}
  async acknowledge(): Promise<void> {}

  close(): Promise<void> {
    return this.#options.snapshot.close()
  }

  async *#change(entry: SnapshotEntry, held: Held, removed: Set<string>): AsyncGenerator<Change> {
    const { store } = this.#options
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
        yield attributesOf(store, entry)
    }
  }

  async *#fileChange(entry: SnapshotFile, held: InventoryFile | undefined): AsyncGenerator<Change> {
    const { store } = this.#options
    const { path, size } = entry
    const comparable =
      held?.digest === 'blake3-256' && held.blockBytes > 0 && held.blockBytes <= pieceBytesMax
        ? held
        : undefined
    if (held === undefined && size === 0)
      yield { type: 'write', store, path, offset: 0, data: Buffer.alloc(0) }
    for await (const { offset, data } of blocksOf(entry, comparable?.blockBytes ?? pieceBytesMax)) {
      if (comparable === undefined || !(await isSame(comparable, offset, data)))
        yield { type: 'write', store, path, offset, data: Buffer.from(data) }
    }
    if (held !== undefined && held.size > size) yield { type: 'truncate', store, path, size }
  }

  *#removals(held: Held, seen: ReadonlySet<string>, removed: Set<string>): Generator<Change> {
    const { store } = this.#options
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
  return blake3(data).equals(await held.digests(offset / held.blockBytes, 1))
}
