/** The attributes of directories in a pass, which come last: whatever is done in a directory changes its times. */
import type { AttributesChange, Change } from '../../stream/entry.ts'

/** Of a directory, until all in it is done. */
export interface PendingAttributes {
  readonly change: AttributesChange
  /** The copy has others. */
  readonly differs: boolean
  done(): void
}

export class DirectoryAttributes {
  readonly #pending = new Map<string, PendingAttributes>()
  /** Directories whose times at the copy have changed. */
  readonly #touched = new Set<string>()

  put(path: string, attributes: PendingAttributes): void {
    this.#pending.set(path, attributes)
  }

  /** Something was done to a path: the directory that it is in has other times. */
  touch(path: string): void {
    const cut = path.lastIndexOf('/')
    this.#touched.add(cut < 0 ? '' : path.slice(0, cut))
  }

  /** Adds what has to be given, the deepest first; what is `gone` stays undone. */
  finish(group: Change[], gone: (path: string) => boolean): void {
    const paths = [...this.#pending.keys()].sort((a, b) => depth(b) - depth(a) || (a < b ? -1 : 1))
    for (const path of paths) {
      if (gone(path)) continue
      const { change, differs, done } = this.#pending.get(path) as PendingAttributes
      if (differs || this.#touched.has(path)) group.push(change)
      done()
    }
  }
}

function depth(path: string): number {
  if (path === '') return -1
  let slashes = 0
  for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1)) slashes++
  return slashes
}
