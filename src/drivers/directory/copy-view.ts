/** What a copy will be when all that is pending is shown: the record with the pending changes over it. */
import type { AttributedNode, CopyNode } from './copy-node.ts'
import { joinPath, parentOf } from './copy-paths.ts'
import type { PendingChanges, PendingFile } from './copy-pending.ts'
import { type CopyRecord, inPathOrder } from './copy-record.ts'

/** `file` is there when the node is a file that is pending. */
export interface Found<T extends CopyNode = CopyNode> {
  readonly node: T
  readonly file: PendingFile | undefined
  readonly pending: boolean
}

export class CopyView {
  readonly record: CopyRecord
  readonly pending: PendingChanges

  constructor(record: CopyRecord, pending: PendingChanges) {
    this.record = record
    this.pending = pending
  }

  find(path: string): Found | undefined {
    const entry = this.pending.get(path)
    if (entry !== undefined) {
      if (entry.kind === 'gone') return undefined
      if (entry.kind === 'node') return { node: entry.node, file: undefined, pending: true }
      return { node: entry.file.node, file: entry.file, pending: true }
    }
    if (path !== '' && this.hides(parentOf(path))) return undefined
    const node = this.record.find(path)
    return node === undefined ? undefined : { node, file: undefined, pending: false }
  }

  /** True when nothing that the record has below a path counts any more. */
  hides(path: string): boolean {
    if (this.pending.isEmpty) return false
    for (let at = path; at !== ''; at = parentOf(at)) {
      const entry = this.pending.get(at)
      if (entry === undefined) continue
      if (entry.kind !== 'node' || entry.node.kind !== 'directory') return true
    }
    return false
  }

  /** What the record has at a path, if it counts still. */
  recorded(path: string): CopyNode | undefined {
    return this.hides(parentOf(path)) ? undefined : this.record.find(path)
  }

  children(path: string): Map<string, Found> {
    const children = new Map<string, Found>()
    if (!this.hides(path)) {
      for (const [name, node] of this.record.children(path) ?? [])
        children.set(name, { node, file: undefined, pending: false })
    }
    for (const name of this.pending.below(path)?.keys() ?? []) {
      // what is pending of the root itself
      if (name === '') continue
      const found = this.find(joinPath(path, name))
      if (found === undefined) children.delete(name)
      else children.set(name, found)
    }
    return children
  }

  /** All names but the root's, in the order of their paths' bytes. */
  *walk(path = ''): Generator<readonly [path: string, found: Found]> {
    const children = this.children(path)
    const nodes = [...children].map(([name, found]) => [name, found.node] as const)
    for (const [name, , inside] of inPathOrder(nodes)) {
      const at = joinPath(path, name)
      if (inside) yield* this.walk(at)
      else yield [at, children.get(name) as Found]
    }
  }
}

export function isAttributed(node: CopyNode): node is AttributedNode {
  return node.kind !== 'other'
}
