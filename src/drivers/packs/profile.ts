/**
 * A profile knows one kind of append-only store: which names are packs, in which order they were written, what other
 * files belong to it, and what its engine does to the tail. Everything else (reading, proof, order of sending) is the
 * same for all of them.
 */
import type { FileStat } from '../../os/storage.ts'
import type { Detection } from '../driver.ts'

export const readSmallBytesMax = 1024 * 1024

/** A source directory at one moment. Names are bytes in latin1. */
export interface DirectoryView {
  readonly entries: ReadonlyMap<string, FileStat>
  /** The first bytes of a file, at most `readSmallBytesMax`; undefined when it is not there. */
  readSmall(name: string): Promise<Buffer | undefined>
}

/** A file that is copied whole whenever it changes. */
export interface WholeFile {
  readonly name: string
  /** The bytes to send, when the layout was made from them; else they are read from the file. */
  readonly content?: Buffer
}

/** What is to be copied, by how. The order of sending is packs, trees, wholes, removals. */
export interface Layout {
  /** Append-only files in the order in which they were written: only the last one grows. */
  readonly packs: readonly string[]
  readonly wholes: readonly WholeFile[]
  /** Directories that appear complete, by a rename, and never change. */
  readonly trees: readonly string[]
  /** What is there and not copied, though it may be more than a temporary file. */
  readonly leftOut: readonly string[]
  /** A tree stands for all packs up to this number: they may be missing. */
  readonly coveredTo?: number
}

export interface Profile {
  readonly name: string
  readonly summary: string
  /** Which files are packs, when that is the user's to say. */
  readonly pattern?: string
  /** Undefined when the directory was caught in the middle of a change: list again. */
  layout(view: DirectoryView): Promise<Layout | undefined>
  /** A pack's place in a sequence that has no gaps; absent when the engine promises none. */
  sequenceNumber?(name: string): number | undefined
  /** Ascending order of two packs' names. */
  compare(a: string, b: string): number
  /**
   * What to do with a pack that vanished before all of it was sent: 'finish' it from its descriptor, because others
   * build on it; or 'drop' it, because the layout names all that the store needs.
   */
  readonly vanished: 'finish' | 'drop'
  /** The engine itself may cut an incomplete record off the newest pack. */
  readonly tailMayShrink: boolean
  /** Recognises its store; reads little. */
  detect(path: string, view: DirectoryView): Promise<Detection | undefined>
}

export function compareBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** The regular files of a view, in ascending order of their bytes. */
export function fileNames(view: DirectoryView): string[] {
  return [...view.entries]
    .filter(([, stat]) => stat.kind === 'file')
    .map(([name]) => name)
    .sort(compareBytes)
}

/** Names of what is neither a regular file nor in `known`. */
export function otherNames(view: DirectoryView, known: ReadonlySet<string> = new Set()): string[] {
  return [...view.entries]
    .filter(([name, stat]) => stat.kind !== 'file' && !known.has(name))
    .map(([name]) => name)
    .sort(compareBytes)
}
