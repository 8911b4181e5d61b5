import type { Entry, EntryPath, Position, StoreName } from './entry.ts'

/** What a sink has of one file. */
export interface InventoryFile {
  readonly path: EntryPath
  readonly size: number
  /** Digests are of blocks of this many bytes from the file's start; the last block may be shorter. */
  readonly blockBytes: number
  /** Names the algorithm; a source that doesn't know it reads the inventory as empty. */
  readonly digest: 'blake3-256' | 'xxh64'
  /** The digests of `count` blocks from `firstBlock`, one after another (32 or 8 bytes each, xxh64 big-endian). */
  digests(firstBlock: number, count: number): Promise<Uint8Array>
}

/** What a sink has that is no file's content. */
export interface InventoryNode {
  readonly path: EntryPath
  /** hardlink: a further name of a file, which `files` gives under its first name. */
  readonly kind: 'directory' | 'symlink' | 'hardlink' | 'other'
}

/** What a sink has of a store at its last durable commit. */
export interface Inventory {
  /** In ascending order of path bytes. */
  files(): AsyncIterable<InventoryFile>
  file(path: EntryPath): Promise<InventoryFile | undefined>
  /** In ascending order of path bytes; absent where a sink keeps nothing but files. */
  others?(): AsyncIterable<InventoryNode>
}

/**
 * What a source asks for an inventory for: to go on from it, since it cannot prove continuity from the position; or to look
 * again at what it has sent. A sink that keeps no such record (a log) says to the second that it has nothing.
 */
export type InventoryPurpose = 'continuity' | 'verification'

/**
 * Takes entries in order. A sink holds a prefix of what its source committed, after any crash on either side: a
 * duplicate of what it has is harmless, a gap is never accepted.
 */
export interface Sink {
  /** The last durable commit, or undefined when there is none. */
  position(store: StoreName): Promise<Position | undefined>
  /** Takes the entry, with backpressure. After a rejection the sink must be closed and opened again. */
  write(entry: Entry): Promise<void>
  /** Resolves when all that was written so far is durable. */
  sync(): Promise<void>
  /** What it has after the last commit that was written, for a comparison; undefined when it has nothing. */
  inventory?(store: StoreName, purpose?: InventoryPurpose): Promise<Inventory | undefined>
  /** Changes after the last commit are void. */
  close(): Promise<void>
}
