/** What goes between a snapshot and the thread that reads the copy for it (copy-snapshot-thread.ts). */
import type { EntryPath } from '../../stream/entry.ts'
import type { SnapshotExtent } from '../snapshot.ts'
import type { SentError } from './copy-protocol.ts'
import type { CopyCommit } from './copy-state.ts'

export interface SnapshotThreadData {
  readonly path: string
  readonly sidecar: string
}

export type SnapshotRequest =
  | { readonly kind: 'open' }
  /** The next entries; content goes into the memory. */
  | { readonly kind: 'batch'; readonly memory: SharedArrayBuffer }
  /** More of a large file, by its number, from where the last request ended. */
  | { readonly kind: 'piece'; readonly file: number; readonly memory: SharedArrayBuffer }
  | { readonly kind: 'close' }

export interface PlainEntry {
  readonly kind: 'directory' | 'symlink' | 'hardlink' | 'file'
  readonly path: EntryPath
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly xattrs: Readonly<Record<string, Uint8Array>> | undefined
  /** Of a symbolic link its target, of a hard link the first name. */
  readonly to?: string
  readonly size?: number
  readonly digests?: Uint8Array
  readonly extents?: readonly SnapshotExtent[] | undefined
  /** Of a small file: where in the memory its content is. */
  readonly start?: number
  readonly length?: number
  /** Of a large file: its number. */
  readonly file?: number
}

export interface SnapshotAnswer {
  readonly commit?: CopyCommit
  readonly totalBytes?: number
  readonly totalEntries?: number
  readonly entries?: readonly PlainEntry[]
  /** Bytes of a piece; 0 at the end. */
  readonly length?: number
}

export type SnapshotMessage =
  | { readonly id: number; readonly answer: SnapshotAnswer }
  | { readonly id: number; readonly error: SentError }
