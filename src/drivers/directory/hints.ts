/**
 * Hints which names of a tree to look at again, by inotify watches on all of its directories. A hint only says 'look';
 * what cannot be told by names (the kernel's queue overflowed) says 'look at everything'.
 *
 * A directory is watched before it is listed. A watch belongs to an inode and a hint to a path: a directory that was moved
 * is found under its new path by the look at its parents, which got events of their own, and is then watched anew, which
 * gives its watch the new path. Until then its events are taken for the old path, and the whole of it is looked at anyway.
 */
import { type InotifyChannel, inotifyEvents, openInotify } from '../../os/inotify-channel.ts'
import { inotifyRemove } from '../../os/syscalls.ts'
import { watchEvent } from '../../os/watch.ts'

const inOnlyDirectory = 0x01000000
const inExcludeUnlinked = 0x04000000
const inIgnored = 0x8000
const inUnmount = 0x2000
/** A change of a name in the directory, which changes the directory's own times. */
const namesChanged = watchEvent.create | watchEvent.delete | watchEvent.moved
const ownChanged = watchEvent.attributes | watchEvent.deleteSelf | watchEvent.moveSelf

export const watchMask =
  watchEvent.modify |
  watchEvent.attributes |
  watchEvent.closeWrite |
  namesChanged |
  watchEvent.deleteSelf |
  watchEvent.moveSelf |
  inOnlyDirectory |
  inExcludeUnlinked

/** Events of watches that a scanning thread has added and nobody has told us of yet. */
const unknownMax = 100_000
/** With more names than this a look at everything costs less. */
const namesMax = 200_000

/** Names to look at, by directory; 'all': everything. */
export type HintedNames = Map<string, Set<string>>

export class TreeHints {
  readonly #channel: InotifyChannel
  readonly #onHint: () => void
  readonly #paths = new Map<number, string>()
  readonly #watches = new Map<string, number>()
  /** Paths that have no watch any more: their directory is watched under another path, or gone. */
  readonly #lost = new Set<string>()
  #unknown = new Map<number, { names: Set<string>; own: boolean; named: boolean }>()
  #unknownCount = 0
  #names: HintedNames = new Map()
  #namesCount = 0
  #all = false
  /** What was taken last. */
  #taken: HintedNames = new Map()
  #recorded: Set<string> | undefined
  #overflowed = false
  #tookOverflow = false

  /** `onHint` is called for each batch of events; `onFailure` when events can't be read any more. */
  constructor(onHint: () => void, onFailure: (error: unknown) => void) {
    this.#onHint = onHint
    this.#channel = openInotify(events => this.#take(events), onFailure)
  }

  /** For the threads that add watches. */
  get fd(): number {
    return this.#channel.fd
  }

  get watches(): number {
    return this.#watches.size
  }

  /** Before what was taken last, events were lost. */
  get overflowed(): boolean {
    return this.#tookOverflow
  }

  /** An event had named it before the last `take`. */
  wasHinted(directory: string, name: string): boolean {
    return this.#taken.get(directory)?.has(name) === true
  }

  get isEmpty(): boolean {
    return !this.#all && this.#names.size === 0 && this.#lost.size === 0
  }

  isWatched(path: string): boolean {
    return this.#watches.has(path)
  }

  /** A watch was added for a directory. */
  watched(path: string, watch: number): void {
    const before = this.#paths.get(watch)
    if (before === path) return
    if (before !== undefined && this.#watches.get(before) === watch) {
      this.#watches.delete(before)
      this.#lost.add(before)
    }
    const former = this.#watches.get(path)
    if (former !== undefined && former !== watch) this.#paths.delete(former)
    this.#lost.delete(path)
    this.#paths.set(watch, path)
    this.#watches.set(path, watch)
    const early = this.#unknown.get(watch)
    if (early === undefined) return
    this.#unknown.delete(watch)
    for (const name of early.names) this.#hint(path, name)
    if (early.own || early.named) this.#hintOwn(path)
  }

  /** A directory is not part of the tree any more. */
  unwatch(path: string): void {
    const watch = this.#watches.get(path)
    if (watch === undefined) return
    this.#watches.delete(path)
    if (this.#paths.get(watch) !== path) return
    this.#paths.delete(watch)
    inotifyRemove(this.#channel.fd, watch)
  }

  /** Look at these names too. */
  add(directory: string, name: string): void {
    this.#hint(directory, name)
  }

  addAll(): void {
    this.#all = true
  }

  get hasLost(): boolean {
    return this.#lost.size > 0
  }

  /** Directories that have to be looked at whole, if they are there, since nothing watches them. */
  takeLost(): string[] {
    const lost = [...this.#lost]
    this.#lost.clear()
    return lost
  }

  /** What there is to look at since the last time, with all events that have happened by now. */
  take(): HintedNames | 'all' {
    this.#channel.drain()
    const names = this.#names
    const all = this.#all
    this.#names = new Map()
    this.#namesCount = 0
    this.#all = false
    this.#taken = names
    this.#tookOverflow = this.#overflowed
    this.#overflowed = false
    return all ? 'all' : names
  }

  /** From now on the paths that events name are kept. */
  startRecording(): void {
    this.#channel.drain()
    this.#recorded = new Set()
  }

  recorded(): ReadonlySet<string> {
    this.#channel.drain()
    return this.#recorded ?? new Set()
  }

  stopRecording(): void {
    this.#recorded = undefined
  }

  keepAlive(held: boolean): void {
    this.#channel.keepAlive(held)
  }

  close(): void {
    this.#channel.close()
  }

  #take(events: Buffer): void {
    for (const { watch, mask, name } of inotifyEvents(events)) {
      if ((mask & (watchEvent.overflow | inUnmount)) !== 0) {
        this.#overflowed = true
        this.#all = true
        this.#recorded?.add('')
        continue
      }
      const path = this.#paths.get(watch)
      if ((mask & inIgnored) !== 0) {
        this.#unknown.delete(watch)
        // the directory is gone, and its parent has told so
        if (path !== undefined) {
          this.#paths.delete(watch)
          if (this.#watches.get(path) === watch) {
            this.#watches.delete(path)
            this.#lost.add(path)
          }
        }
        continue
      }
      const own = name === '' && (mask & ownChanged) !== 0
      const named = name !== '' && (mask & namesChanged) !== 0
      if (path === undefined) this.#early(watch, name, own, named)
      else {
        if (name !== '') this.#hint(path, name)
        if (own || named) this.#hintOwn(path)
        // a file that was open for writing before may be closed without having been written
        if ((mask & ~watchEvent.closeWrite & watchMask) !== 0)
          this.#recorded?.add(name === '' ? path : path === '' ? name : `${path}/${name}`)
      }
    }
    this.#onHint()
  }

  #early(watch: number, name: string, own: boolean, named: boolean): void {
    if (++this.#unknownCount > unknownMax) {
      this.#all = true
      this.#overflowed = true
      this.#unknown = new Map()
      this.#unknownCount = 0
      return
    }
    const early = this.#unknown.get(watch) ?? { names: new Set(), own: false, named: false }
    if (name !== '') early.names.add(name)
    early.own ||= own
    early.named ||= named
    this.#unknown.set(watch, early)
  }

  #hint(directory: string, name: string): void {
    if (this.#overflowed) return
    if (++this.#namesCount > namesMax) {
      this.#all = true
      this.#overflowed = true
      this.#names = new Map()
      return
    }
    const names = this.#names.get(directory)
    if (names === undefined) this.#names.set(directory, new Set([name]))
    else names.add(name)
  }

  /** The directory's own entry, which stands in its parent. */
  #hintOwn(path: string): void {
    if (path === '') {
      this.#hint('.', '.')
      return
    }
    const cut = path.lastIndexOf('/')
    this.#hint(cut < 0 ? '' : path.slice(0, cut), cut < 0 ? path : path.slice(cut + 1))
  }
}
