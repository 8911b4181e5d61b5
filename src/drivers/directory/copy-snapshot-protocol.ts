/** What goes between a snapshot and the thread that reads the copy for it (copy-snapshot-thread.ts). */
import type { EntryPath } from '../../stream/entry.ts'
import type { SentError } from './copy-protocol.ts'
import type { BatchExtra } from './copy-snapshot-batch.ts'
import type { CopyCommit } from './copy-status.ts'

export interface SnapshotThreadData {
  readonly path: string
  readonly sidecar: string
  /** Content is not compared with its digests here. */
  readonly provedLater: boolean
}

export type SnapshotRequest =
  | { readonly kind: 'open' }
  /** How much there is of it all. */
  | { readonly kind: 'count' }
  /** The next entries, packed into the memory with their content (copy-snapshot-batch.ts). */
  | { readonly kind: 'batch'; readonly memory: SharedArrayBuffer }
  /** More of a large file, by its number, from where the last request ended. */
  | { readonly kind: 'piece'; readonly file: number; readonly memory: SharedArrayBuffer }
  /** Reads a file again, and compares it. */
  | { readonly kind: 'prove'; readonly path: EntryPath }
  | { readonly kind: 'close' }

export interface SnapshotAnswer {
  readonly commit?: CopyCommit
  readonly totalBytes?: number
  readonly totalEntries?: number
  /** Entries of a batch; 0 at the end. */
  readonly count?: number
  readonly extras?: readonly BatchExtra[]
  /** Bytes of a piece; 0 at the end. */
  readonly length?: number
}

export type SnapshotMessage =
  | { readonly id: number; readonly answer: SnapshotAnswer }
  | { readonly id: number; readonly error: SentError }
