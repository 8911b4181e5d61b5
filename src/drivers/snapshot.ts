/**
 * A copy's newest consistent state as a stream of entries with all metadata and content, for whoever carries it away
 * (an archive), while following goes on.
 *
 * Entries come in batches, so that 100,000 small files cost microseconds each: a batch's small contents are views on
 * one piece of memory, which is given back by `release`. Every block is compared with its recorded digest before it is
 * given: nothing that differs from what was copied leaves by this way. Who compares all of it himself, later and with
 * more, says so (`provedLater`), so that nothing is digested twice.
 */
import type { EntryPath } from '../stream/entry.ts'
import type { ConsistentCommit, CopyOptions } from './driver.ts'

/** Digests are BLAKE3-256 of blocks of so many bytes from the file's start; the last may be shorter. */
export const snapshotBlockBytes = 1024 * 1024
/** Files up to so many bytes have their whole content in the batch. */
export const smallContentBytesMax = snapshotBlockBytes
/** Bounds of a batch, of which one entry may exceed the second: what is held in memory is a few of them. */
export const batchEntriesMax = 4096
export const batchBytesMax = 4 * 1024 * 1024

export interface SnapshotOptions extends CopyOptions {
  /**
   * The caller compares all content with `digests` before it counts, and asks `prove` about what differs. Then content
   * may be given as it is read, and reading does not end with the last batch but with `close`.
   */
  readonly provedLater?: boolean
}

export interface SnapshotExtent {
  readonly offset: number
  readonly length: number
}

/** What a file, directory or symbolic link carries besides its content. */
export interface SnapshotMetadata {
  /** Relative to the copy; '' is the copy itself: its root directory, or the one file that it is. */
  readonly path: EntryPath
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Whole seconds since 1970, rounded down (so it may be negative), and the rest: 0 to 999,999,999. */
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  /** All extended attributes, ACLs among them as the kernel has them; names in latin1. Undefined when there are none. */
  readonly xattrs: Readonly<Record<string, Uint8Array>> | undefined
}

export interface SnapshotDirectory extends SnapshotMetadata {
  readonly kind: 'directory'
}

export interface SnapshotSymlink extends SnapshotMetadata {
  readonly kind: 'symlink'
  /** Bytes in latin1. */
  readonly target: string
}

/** Another name of a file that came before; the metadata is that file's. */
export interface SnapshotHardLink extends SnapshotMetadata {
  readonly kind: 'hardlink'
  /** The first of the file's names, in the order of the entries. */
  readonly to: EntryPath
}

export interface SnapshotFile extends SnapshotMetadata {
  readonly kind: 'file'
  readonly size: number
  /**
   * Of every block, one after another, 32 bytes each: as recorded when it was copied, not of what is read now. A view,
   * void after `release`.
   */
  readonly digests: Uint8Array
  /**
   * What is not a hole: ascending, not touching, without empty ones, ending at or before `size`. Undefined when there
   * is no hole. Content carries the extents' bytes only.
   */
  readonly extents: readonly SnapshotExtent[] | undefined
  /** All bytes of the extents, one after another, of a file up to `smallContentBytesMax`; a view, void after `release`. */
  readonly content: Uint8Array | undefined
  /**
   * The same of a larger file, in pieces in order: to be read to its end, once, before the next batch is asked for.
   * Pieces are at most `batchBytesMax` long; a piece is void when the next is asked for.
   */
  readonly stream: (() => AsyncIterable<Uint8Array>) | undefined
}

export type SnapshotEntry = SnapshotDirectory | SnapshotSymlink | SnapshotHardLink | SnapshotFile

export interface SnapshotBatch {
  readonly entries: readonly SnapshotEntry[]
  /** Gives the memory back: views on it are void from here on. Once. */
  release(): void
}

export interface Snapshot {
  readonly commit: ConsistentCommit
  /**
   * False when the store was never read at a moment at which it was proved consistent, so that this is merely the last
   * whole pass over it.
   */
  readonly consistent: boolean
  /**
   * What will come, for a display: bytes of content, holes included. Undefined until it was counted, which may be while
   * the first batches are used.
   */
  readonly totalBytes: number | undefined
  readonly totalEntries: number | undefined
  /**
   * All entries in ascending order of the paths' bytes, with '/' behind a directory's name for this order: so a
   * directory stands before what it holds. Once. Reads ahead by a bounded number of batches. Throws `digest-mismatch`,
   * naming path and offset, where the copy is not what was recorded; the signal's reason on abort. An iteration that is
   * left early ends the reading.
   */
  batches(): AsyncIterable<SnapshotBatch>
  /**
   * Reads a file again that was given, and throws `digest-mismatch` where it is not what was recorded. Resolves when it
   * is, or is no file. Missing where content was compared before it was given.
   */
  readonly prove?: (path: EntryPath) => Promise<void>
  /** Lets the follower change what was kept from it. Idempotent; ends a reading that goes on. */
  close(): Promise<void>
}
