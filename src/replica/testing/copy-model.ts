/** What a copy has to be after each change, said as simply as it can be: the model that the replica is held against. */
import { assert } from '../../os/errors.ts'
import {
  type Change,
  type Commit,
  type EntryPath,
  entryPath,
  position,
  storeName,
} from '../../stream/entry.ts'

export const modelStore = storeName('model')

type Plain<T> = T extends unknown ? Omit<T, 'store'> : never
export type PlainChange = Plain<Change>

export interface Transaction {
  readonly changes: readonly PlainChange[]
  readonly consistent: boolean
}

/** By path: a file's bytes, 'directory', or a symbolic link as '-> target'. */
export type Snapshot = ReadonlyMap<string, Buffer | string>

type Node = { data: Buffer } | 'directory' | `-> ${string}`

/** Changes that leave every name, and what is below a size. */
const appends = new Set<PlainChange['type']>(['write', 'truncate', 'attributes', 'replace'])

export class ModelCopy {
  readonly #nodes = new Map<string, Node>()
  readonly #stages = new Map<string, { data: Buffer }>()

  apply(change: PlainChange): void {
    const { path } = change
    switch (change.type) {
      case 'write': {
        const file = this.#stages.get(path) ?? this.#file(path)
        const end = change.data.length === 0 ? 0 : change.offset + change.data.length
        const size = Math.max(file.data.length, end)
        const grown = Buffer.alloc(size)
        file.data.copy(grown)
        if (change.data.length > 0) grown.set(change.data, change.offset)
        file.data = grown
        return
      }
      case 'truncate': {
        const file = this.#stages.get(path) ?? this.#file(path)
        const cut = Buffer.alloc(change.size)
        file.data.copy(cut)
        file.data = cut
        return
      }
      case 'replace':
        this.#stages.set(path, { data: Buffer.alloc(0) })
        return
      case 'replaced':
        this.#take(path)
        return
      case 'remove':
        this.#drop(path)
        return
      case 'rename': {
        const moved = [...this.#nodes].filter(([at]) => at === path || at.startsWith(`${path}/`))
        for (const [at] of moved) this.#nodes.delete(at)
        this.#drop(change.to)
        this.#makeParents(change.to)
        for (const [at, node] of moved) this.#nodes.set(change.to + at.slice(path.length), node)
        return
      }
      case 'node': {
        const { node } = change
        if (node.kind === 'directory' && this.#nodes.get(path) === 'directory') return
        const linked = node.kind === 'hardlink' ? this.#nodes.get(node.to) : undefined
        this.#drop(path)
        this.#makeParents(path)
        if (node.kind === 'directory') this.#nodes.set(path, 'directory')
        else if (node.kind === 'symlink') this.#nodes.set(path, `-> ${node.target}`)
        else {
          assert(linked !== undefined, 'a hard link to nothing')
          this.#nodes.set(path, linked)
        }
        return
      }
      case 'attributes':
        return
      case 'record':
        throw new Error('no records in a model of files')
    }
  }

  get staged(): string[] {
    return [...this.#stages.keys()]
  }

  /** The change, after those that make what it needs: directories, and the file that it writes. */
  parts(change: PlainChange): PlainChange[] {
    const { path } = change
    const parts: PlainChange[] = []
    const at = change.type === 'rename' ? change.to : path
    const makes = ['write', 'truncate', 'replaced', 'rename', 'node'].includes(change.type)
    if (!makes || (this.#stages.has(path) && change.type !== 'replaced')) return [change]
    for (let cut = at.indexOf('/'); cut >= 0; cut = at.indexOf('/', cut + 1)) {
      if (!this.#nodes.has(at.slice(0, cut))) parts.push(directory(at.slice(0, cut)))
    }
    if ((change.type === 'write' || change.type === 'truncate') && !this.#nodes.has(path))
      parts.push({ type: 'truncate', path, size: 0 })
    return [...parts, change]
  }

  kindOf(path: string): 'file' | 'directory' | 'symlink' | undefined {
    const node = this.#nodes.get(path)
    if (node === undefined || node === 'directory') return node
    return typeof node === 'object' ? 'file' : 'symlink'
  }

  sizeOf(path: string): number {
    const node = this.#nodes.get(path)
    return typeof node === 'object' ? node.data.length : 0
  }

  /** All that is above the path is a directory, or not there. */
  canHold(path: string): boolean {
    for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1)) {
      if (!['directory', undefined].includes(this.kindOf(path.slice(0, cut)))) return false
    }
    return true
  }

  isInPlace(change: PlainChange): boolean {
    if (change.type !== 'write' && change.type !== 'truncate') return false
    const node = this.#stages.has(change.path) ? undefined : this.#nodes.get(change.path)
    if (typeof node !== 'object') return false
    if (change.type === 'truncate') return change.size < node.data.length
    const known = node.data.subarray(change.offset, change.offset + change.data.length)
    return !known.equals(change.data.subarray(0, known.length))
  }

  #take(path: string): void {
    const staged = this.#stages.get(path)
    assert(staged !== undefined, 'a new version that was not begun')
    this.#stages.delete(path)
    this.#drop(path)
    this.#makeParents(path)
    this.#nodes.set(path, staged)
  }

  #file(path: string): { data: Buffer } {
    const node = this.#nodes.get(path)
    if (typeof node === 'object') return node
    this.#makeParents(path)
    const file = { data: Buffer.alloc(0) }
    this.#nodes.set(path, file)
    return file
  }

  #makeParents(path: string): void {
    for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1))
      this.#nodes.set(path.slice(0, cut), 'directory')
  }

  #drop(path: string): void {
    for (const at of [...this.#nodes.keys()]) {
      if (at === path || at.startsWith(`${path}/`)) this.#nodes.delete(at)
    }
  }

  snapshot(): Snapshot {
    return new Map(
      [...this.#nodes].map(([path, node]) => [path, typeof node === 'object' ? node.data : node]),
    )
  }
}

export interface ModelStep {
  /** How many transactions were committed when the copy was this. */
  readonly transactions: number
  readonly snapshot: Snapshot
  /** Reached from the step before by more than appending: names changed, or bytes in place. */
  readonly isBreak: boolean
  /** Shows only together with the next consistent commit. */
  readonly isHidden: boolean
}

/**
 * The copy after each change and each commit, beginning with nothing. From the first change in place on, what a
 * transaction does is hidden to the next consistent commit.
 */
export function modelSteps(transactions: readonly Transaction[]): ModelStep[] {
  const copy = new ModelCopy()
  const steps: ModelStep[] = [{ transactions: 0, snapshot: copy.snapshot(), isBreak: true, isHidden: false }]
  let isHidden = false
  const step = (done: number, isBreak: boolean) =>
    steps.push({ transactions: done, snapshot: copy.snapshot(), isBreak, isHidden })
  transactions.forEach(({ changes, consistent }, i) => {
    for (const whole of changes) {
      for (const change of copy.parts(whole)) {
        isHidden ||= copy.isInPlace(change)
        copy.apply(change)
        step(i, isHidden || change !== whole || !appends.has(change.type))
      }
    }
    for (const path of copy.staged) {
      copy.apply({ type: 'replaced', path: path as EntryPath })
      step(i, true)
    }
    const wasHidden = isHidden
    if (consistent) isHidden = false
    step(i + 1, wasHidden)
  })
  return steps
}

/** The copy right after so many transactions. */
export function snapshotAfter(steps: readonly ModelStep[], transactions: number): Snapshot {
  return (steps.find(step => step.transactions === transactions) as ModelStep).snapshot
}

/** Undefined when equal; else what differs. */
export function difference(found: Snapshot, expected: Snapshot): string | undefined {
  for (const [path, node] of expected) {
    const other = found.get(path)
    if (other === undefined) return `'${path}' is missing`
    if (typeof node === 'string' || typeof other === 'string') {
      if (node !== other) return `'${path}' is ${String(other)}, not ${String(node)}`
    } else if (!node.equals(other)) {
      const at = [...node].findIndex((byte, i) => byte !== other[i])
      return `'${path}' has ${other.length} bytes of ${node.length}, and differs at ${at}`
    }
  }
  for (const path of found.keys()) if (!expected.has(path)) return `'${path}' should not be there`
  return undefined
}

export function commitOf(transactions: readonly Transaction[], i: number): Commit {
  const consistent = transactions[i]?.consistent ?? false
  return { type: 'commit', store: modelStore, position: position(`after ${i + 1}`), consistent, timeMs: i }
}

/** How many transactions a position stands behind. */
export function transactionsOf(at: string | undefined): number {
  return at === undefined ? 0 : Number(at.slice('after '.length))
}

export function change(type: 'remove' | 'replace' | 'replaced', path: string): PlainChange {
  return { type, path: entryPath(path) }
}

export function write(path: string, offset: number, data: Uint8Array): PlainChange {
  return { type: 'write', path: entryPath(path), offset, data }
}

export function truncate(path: string, size: number): PlainChange {
  return { type: 'truncate', path: entryPath(path), size }
}

export function rename(path: string, to: string): PlainChange {
  return { type: 'rename', path: entryPath(path), to: entryPath(to) }
}

export function directory(path: string): PlainChange {
  return { type: 'node', path: entryPath(path), node: { kind: 'directory' } }
}

export function symlink(path: string, target: string): PlainChange {
  return { type: 'node', path: entryPath(path), node: { kind: 'symlink', target } }
}

export function hardlink(path: string, to: string): PlainChange {
  return { type: 'node', path: entryPath(path), node: { kind: 'hardlink', to: entryPath(to) } }
}
