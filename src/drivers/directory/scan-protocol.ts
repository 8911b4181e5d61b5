/**
 * What the main thread asks of the scanning threads, and what they answer. Blocks and contents are in shared memory; all
 * descriptors are the process's own, so that one thread may use what another opened.
 */
import type { TreeBytes } from './tree-load.ts'

/** Compare a directory with what is remembered of it. */
export interface LookItem {
  /** Latin1; '' is the root. '.' is the root's own entry: only with `names: ['.']`. */
  readonly path: string
  /** What is remembered; absent: nothing. */
  readonly block: Uint8Array | undefined
  /** Only these names; absent: all that is there. */
  readonly names?: readonly string[]
  /** Add an inotify watch before looking. */
  readonly watch: boolean
}

export interface LookRequest {
  readonly kind: 'look'
  readonly root: number
  readonly inotify: number
  readonly watchMask: number
  /** A change this short before the look may be followed by one that leaves the same signature. */
  readonly racyMs: number
  readonly items: readonly LookItem[]
}

export interface LookResult {
  /** Number of the item in its request. */
  readonly item: number
  /** Undefined: there is no directory of this name. */
  readonly block: Uint8Array | undefined
  /** Directories in it that were not remembered, or are others than before: they have to be looked at themselves. */
  readonly directories: readonly string[]
}

export interface LookAnswer {
  /** Only of items where something differs. */
  readonly results: readonly LookResult[]
  /** The watch of each item that wanted one; -1: none. Empty when none did. */
  readonly watches: Int32Array
  /** Why no more watches could be added. */
  readonly watchFailure: string | undefined
  readonly entries: number
}

/** Read contents and extended attributes of some entries of a directory, into the arena. */
export interface ReadItem {
  readonly path: string
  /** Its entries get final signatures, digests and flags where they are. */
  readonly block: Uint8Array
  readonly old: Uint8Array | undefined
  readonly entries: Int32Array
  /** The entry in `old` whose content the copy has; -1: none, or not to be compared. */
  readonly oldEntries: Int32Array
}

export interface ReadRequest {
  readonly kind: 'read'
  readonly root: number
  readonly racyMs: number
  readonly items: readonly ReadItem[]
  readonly arena: SharedArrayBuffer
}

export const readStatus = {
  /** As the copy has it. */
  same: 0,
  /** In the arena. */
  content: 1,
  /** There is nothing of its kind any more. */
  vanished: 2,
  /** Too large, or with holes: to be read block by block. */
  large: 3,
  /** No room in the arena. */
  noRoom: 4,
  /** In the arena, and it was changed each time while it was read. */
  restless: 5,
} as const

/** Words of a result: status, place and length of the content, place and length of the extended attributes. */
export const readResultWords = 5

export interface ReadAnswer {
  /** `readResultWords` for each entry, in order. */
  readonly results: Int32Array
}

/** Read some blocks of an open, large file. */
export interface BlocksRequest {
  readonly kind: 'blocks'
  readonly fd: number
  readonly firstBlock: number
  readonly blocks: number
  /** Nothing is read from here on: the size that the file had. */
  readonly end: number
  /** What the copy has, as digests of all its blocks. */
  readonly old: Uint8Array | undefined
  /** Bytes of the file that the copy has: what is beyond is zeros there. */
  readonly oldSize: number
  readonly arena: SharedArrayBuffer
}

export interface BlocksAnswer {
  /** Of the blocks that were read, one after another. */
  readonly digests: Uint8Array
  /** Bytes read: fewer than asked for only at the end. */
  readonly bytes: number
  /** What differs: offset in the file, place in the arena, length; three numbers each. */
  readonly segments: Float64Array
}

/** Read an index that is likely to be needed, and check that it is whole. */
export interface LoadRequest {
  readonly kind: 'load'
  readonly indexPath: string
  /** The tree that it is of. */
  readonly path: string
}

export interface LoadAnswer {
  /** Undefined: there is none, or it cannot be used. */
  readonly loaded: LoadedAhead | undefined
}

export interface LoadedAhead extends TreeBytes {
  /** Device and inode of the tree's root, as `TreeRoot` says them. */
  readonly root: string
}

/** Look at the directories of the index that was loaded, in its order, until all are claimed. */
export interface AheadRequest {
  readonly kind: 'ahead'
  /** An Int32Array of one: how many directories somebody has claimed. */
  readonly claimed: SharedArrayBuffer
}

/** Load what reading needs, so that the first read does not wait for it. */
export interface WarmRequest {
  readonly kind: 'warm'
}

export interface WarmAnswer {
  readonly warm: true
}

export type ScanRequest = LookRequest | ReadRequest | BlocksRequest | WarmRequest | LoadRequest | AheadRequest
export type ScanAnswer = LookAnswer | ReadAnswer | BlocksAnswer | WarmAnswer | LoadAnswer

/** A failure as it goes between threads. */
export interface ScanFailure {
  readonly message: string
  readonly code: string | undefined
  readonly path: string | undefined
}

export interface ScanMessage {
  readonly id: number
  readonly request: ScanRequest
}

export type ScanReply =
  | { readonly id: number; readonly answer: ScanAnswer }
  | { readonly id: number; readonly failure: ScanFailure }
