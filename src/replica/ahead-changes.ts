/**
 * Changes of names that a run before this one made after its last commit. A source that sends everything since its
 * position again sends them again, in the same order: each is recognised, and not made twice; and what led to it, bytes
 * of a file that has been replaced or removed since, is passed over.
 *
 * A source that asks what the copy has sends what differs from that, so nothing comes again.
 */
import { HotspareError } from '../os/errors.ts'
import { displayPath, type EntryPath } from '../stream/entry.ts'
import type { NameOp } from './copy-tree.ts'
import type { DirectChange } from './direct-changes.ts'
import type { TakeChange } from './redo-journal.ts'
import { opOfNode } from './tree-change.ts'

export class AheadChanges {
  #ops: NameOp[]
  readonly #passedOver = new Set<EntryPath>()

  constructor(ops: readonly NameOp[]) {
    this.#ops = [...ops]
  }

  /** What comes from here on is relative to the copy as it is. */
  clear(): void {
    this.#ops = []
    this.#passedOver.clear()
  }

  /** True when the change is not to be made: it was, or what it changes has been changed since. */
  hasMade(change: DirectChange | TakeChange): boolean {
    if (this.#ops.length === 0) return false
    const op = opAskedFor(change)
    if (op !== undefined && this.#isNext(op)) return true
    if (!this.#covers(change.path)) return false
    this.#passedOver.add(change.path)
    return true
  }

  #isNext(op: NameOp): boolean {
    const next = this.#ops[0]
    if (next === undefined || !isSame(next, op)) return false
    this.#ops.shift()
    for (const path of this.#passedOver) if (!this.#covers(path)) this.#passedOver.delete(path)
    return true
  }

  #covers(path: EntryPath): boolean {
    return this.#ops.some(op => meets(path, op.path) || (op.kind === 'rename' && meets(path, op.to)))
  }

  /** The source has sent all that it has: something that was passed over and did not come again is a contradiction. */
  caughtUp(): void {
    for (const path of this.#passedOver) {
      throw new HotspareError(
        'diverged',
        `'${displayPath(path)}' was removed or replaced in the copy, and the source has sent changes of what was there. Use --resync to compare anew.`,
        { details: { path } },
      )
    }
    this.#ops = []
  }
}

function opAskedFor(change: DirectChange | TakeChange): NameOp | undefined {
  switch (change.type) {
    case 'remove':
      return { kind: 'remove', path: change.path }
    case 'rename':
      return { kind: 'rename', path: change.path, to: change.to }
    case 'node':
      return opOfNode(change.path, change.node)
    case 'take':
      return { kind: 'take', path: change.path, file: 0, stage: change.stage }
    default:
      return undefined
  }
}

/** One is the other, or lies below it. */
function meets(path: string, other: string): boolean {
  return path === other || path.startsWith(`${other}/`) || other.startsWith(`${path}/`)
}

function isSame(a: NameOp, b: NameOp): boolean {
  if (a.kind !== b.kind || a.path !== b.path) return false
  if (a.kind === 'rename' || a.kind === 'link') return b.kind === a.kind && a.to === b.to
  if (a.kind === 'symlink') return b.kind === 'symlink' && a.target === b.target
  return true
}
