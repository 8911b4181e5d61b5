/**
 * Which entries of a journal may be applied together, so that after a crash anywhere among them the whole batch can be
 * applied again from its beginning.
 *
 * Bytes can always be written again. A change of names cannot when something was done earlier in the batch to a path
 * that it touches, because doing that again would hit what the change left there. A change that moves content away
 * (`rename`, a hard link) stands alone: what is at its old name when it is done again need not be what was moved.
 */
import type { EntryPath } from '../stream/entry.ts'
import type { JournalEntry } from './redo-journal.ts'

export class RedoBatch {
  /** Paths that something was done to, and all directories above them. */
  readonly #touched = new Set<string>()
  readonly #above = new Set<string>()
  /** Paths whose name was changed. */
  readonly #renamed = new Set<string>()
  #alone = false

  get isEmpty(): boolean {
    return this.#touched.size === 0
  }

  /** True when the entry needs all before it to be durable, and noted, first. */
  conflicts(entry: JournalEntry): boolean {
    if (entry.type === 'commit' || this.isEmpty) return false
    if (this.#alone || standsAlone(entry)) return true
    if (isDirectory(entry)) return this.#touched.has(entry.path)
    if (!changesName(entry)) return false
    if (this.#touched.has(entry.path) || this.#above.has(entry.path)) return true
    return directoriesAbove(entry.path).some(directory => this.#renamed.has(directory))
  }

  add(entry: JournalEntry): void {
    if (entry.type === 'commit') return
    this.#alone = standsAlone(entry)
    this.#touched.add(entry.path)
    for (const directory of directoriesAbove(entry.path)) this.#above.add(directory)
    if (changesName(entry)) this.#renamed.add(entry.path)
  }

  clear(): void {
    this.#touched.clear()
    this.#above.clear()
    this.#renamed.clear()
    this.#alone = false
  }
}

function standsAlone(entry: JournalEntry): boolean {
  return entry.type === 'rename' || (entry.type === 'node' && entry.node.kind === 'hardlink')
}

function changesName(entry: JournalEntry): boolean {
  if (entry.type === 'node') return entry.node.kind !== 'directory'
  return entry.type === 'remove' || entry.type === 'take'
}

/** One that is made again is there already, and keeps what it got since. */
function isDirectory(entry: JournalEntry): boolean {
  return entry.type === 'node' && entry.node.kind === 'directory'
}

function directoriesAbove(path: EntryPath): string[] {
  const above: string[] = []
  for (let cut = path.lastIndexOf('/'); cut >= 0; cut = path.lastIndexOf('/', cut - 1))
    above.push(path.slice(0, cut))
  if (path !== '') above.push('')
  return above
}
