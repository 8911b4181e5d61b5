import { HotspareError } from '../os/errors.ts'

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** Names one store of a set: 1 to 64 of `A-Z a-z 0-9 . _ -`. */
export type StoreName = Brand<string, 'StoreName'>
/** Where in its own history a store's commit stands. Opaque outside the driver that made it; at most `positionBytesMax`. */
export type Position = Brand<string, 'Position'>
/**
 * A path within a store: the name's bytes as a latin1 string (names need not be UTF-8), parts parted by '/', relative,
 * normalised, never leaving the store. Empty for a store that is one file.
 */
export type EntryPath = Brand<string, 'EntryPath'>
/** Rolling digest of the whole store's content after a commit: the driver's own algorithm, as text. */
export type StateDigest = Brand<string, 'StateDigest'>

export const positionBytesMax = 64 * 1024
export const writeBytesMax = 4 * 1024 * 1024

/** Bytes at an offset of a file, which is made when missing. A source cuts what is longer than `writeBytesMax`. */
export interface WriteChange {
  readonly type: 'write'
  readonly store: StoreName
  readonly path: EntryPath
  readonly offset: number
  /** Belongs to the sink from now on: the source must not change it. */
  readonly data: Uint8Array
  /** A sink that has no more use for `data` may give its memory back to the source, at most once. */
  readonly recycle?: () => void
}

/** Sets a file's size: cuts it, or extends it with zeros (a hole where the file system can). */
export interface TruncateChange {
  readonly type: 'truncate'
  readonly store: StoreName
  readonly path: EntryPath
  readonly size: number
}

/**
 * Begins a new, empty version of a file. The writes that follow go to it, and it takes the name atomically with the
 * next `replaced` of the same path (in order) or, at the latest, with the commit.
 */
export interface ReplaceChange {
  readonly type: 'replace'
  readonly store: StoreName
  readonly path: EntryPath
}

/** The new version that `replace` began is whole, and takes its name here. */
export interface ReplacedChange {
  readonly type: 'replaced'
  readonly store: StoreName
  readonly path: EntryPath
}

/** Removes a file, or a directory with all that it holds. Removing what is not there is no error. */
export interface RemoveChange {
  readonly type: 'remove'
  readonly store: StoreName
  readonly path: EntryPath
}

/** Gives a file or directory another name, replacing a file that has it. */
export interface RenameChange {
  readonly type: 'rename'
  readonly store: StoreName
  readonly path: EntryPath
  readonly to: EntryPath
}

/** Makes what is not a plain file, in place of whatever has the name (a directory stays when there is one). */
export interface NodeChange {
  readonly type: 'node'
  readonly store: StoreName
  readonly path: EntryPath
  readonly node:
    | { readonly kind: 'directory' }
    | { readonly kind: 'symlink'; readonly target: string } // bytes in latin1
    | { readonly kind: 'hardlink'; readonly to: EntryPath } // another path of the same store
}

/** Sets a file's metadata; what is absent stays as it is. A symbolic link is not followed. */
export interface AttributesChange {
  readonly type: 'attributes'
  readonly store: StoreName
  readonly path: EntryPath
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtimeNs?: bigint
  /** All extended attributes: what is not listed is removed. Names in latin1. */
  readonly xattrs?: Readonly<Record<string, Uint8Array>>
}

/** Puts (or, without a value, deletes) one keyed record of a record store. */
export interface RecordChange {
  readonly type: 'record'
  readonly store: StoreName
  readonly path: EntryPath
  readonly key: Uint8Array
  readonly value?: Uint8Array
}

export type Change =
  | WriteChange
  | TruncateChange
  | ReplaceChange
  | ReplacedChange
  | RemoveChange
  | RenameChange
  | NodeChange
  | AttributesChange
  | RecordChange

/** Ends a transaction: all changes of its store since the store's commit before. */
export interface Commit {
  readonly type: 'commit'
  readonly store: StoreName
  readonly position: Position
  /** A copy that stops here opens as a valid store. */
  readonly consistent: boolean
  /** When the source saw it committed: milliseconds since 1970. */
  readonly timeMs: number
  readonly state?: StateDigest
  /**
   * All that had been committed at this time, by the source's clock, is given with this commit: of a source that says so
   * while it goes on reading. Means nothing anywhere else, and is not stored.
   */
  readonly upToMs?: number
}

export type Entry = Change | Commit

export function storeName(text: string): StoreName {
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(text)) {
    throw new HotspareError('usage', `A store's name has 1 to 64 of A-Z a-z 0-9 . _ -; found '${text}'.`)
  }
  return text as StoreName
}

export function position(text: string): Position {
  if (text.length === 0 || text.length > positionBytesMax) {
    throw new HotspareError(
      'entry-invalid',
      `A position has 1 to ${positionBytesMax} characters; found ${text.length}.`,
    )
  }
  return text as Position
}

/** Checks a path that came from outside (a peer, a journal): it can't leave the store. */
export function entryPath(latin1: string): EntryPath {
  const invalid =
    latin1.length > 4096 ||
    latin1.includes('\0') ||
    /[^\0-\xff]/.test(latin1) ||
    (latin1 !== '' &&
      latin1.split('/').some(part => part === '' || part === '.' || part === '..' || part.length > 255))
  if (invalid)
    throw new HotspareError('entry-invalid', `Not a path within a store: '${displayPath(latin1)}'.`)
  return latin1 as EntryPath
}

/** From a path as text (UTF-8). */
export function entryPathFromText(text: string): EntryPath {
  return entryPath(Buffer.from(text, 'utf8').toString('latin1'))
}

/** For people: UTF-8 where it is valid, else bytes escaped. */
export function displayPath(latin1: string): string {
  const bytes = Buffer.from(latin1, 'latin1')
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes)
    ? text
    : latin1.replace(/[^\x20-\x7e]/g, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** Where an entry's path is on this machine: below `root`, or `root` itself. */
export function nativePath(root: string, path: EntryPath): string | Buffer {
  if (path === '') return root
  const bytes = Buffer.from(`/${path}`, 'latin1')
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes)
    ? root + text
    : Buffer.concat([Buffer.from(root, 'utf8'), bytes])
}

/** Bytes that a change moves, for progress and group commit. */
export function changeBytes(change: Change): number {
  switch (change.type) {
    case 'write':
      return change.data.length
    case 'record':
      return change.key.length + (change.value?.length ?? 0)
    default:
      return 0
  }
}
