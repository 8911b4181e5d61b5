/** In a scanning thread: looks at a tree by its index while the main thread still finds out what is wanted; see look-ahead.ts. */
import { missingDirectory } from './index-store.ts'
import { look } from './scan-look.ts'
import type {
  AheadRequest,
  LoadAnswer,
  LoadRequest,
  LookAnswer,
  LookItem,
  LookResult,
} from './scan-protocol.ts'
import { type LoadedTree, readTree, treeOf } from './tree-load.ts'
import { TreeRoot } from './tree-root.ts'

/** Who takes over waits for so much at most. */
const entriesAtOnce = 500

let ahead: { readonly tree: LoadedTree; readonly root: TreeRoot } | undefined

export function loadAhead({ indexPath, path }: LoadRequest): LoadAnswer {
  const nothing = { loaded: undefined }
  const read = readTree(indexPath)
  if (read === undefined) return nothing
  const tree = treeOf(read, indexPath)
  if (tree === undefined || missingDirectory(tree.index) !== undefined) return nothing
  const root = new TreeRoot(path)
  root.open()
  ahead = { tree, root }
  return { loaded: { ...read, root: root.identity } }
}

export function lookAhead({ claimed }: AheadRequest): LookAnswer {
  const results: LookResult[] = []
  let entries = 0
  if (ahead !== undefined) {
    const { tree, root } = ahead
    const items = [...tree.index.directories]
      .filter(([path]) => path !== '.')
      .map(([path, block]) => ({ path, block: block.bytes, watch: false, count: block.count }))
    const counter = new Int32Array(claimed)
    try {
      for (;;) {
        const { from, to } = claim(counter, items)
        if (from === to) break
        const answer = lookAt(root, items.slice(from, to))
        for (const result of answer.results) results.push({ ...result, item: from + result.item })
        entries += answer.entries
      }
    } finally {
      root.close()
      ahead = undefined
    }
  }
  return { results, watches: new Int32Array(0), watchFailure: undefined, entries }
}

function claim(
  counter: Int32Array,
  items: readonly { readonly count: number }[],
): { from: number; to: number } {
  for (;;) {
    const from = Atomics.load(counter, 0)
    let to = from
    for (let entries = 0; to < items.length && entries < entriesAtOnce; to++)
      entries += (items[to] as { readonly count: number }).count + 1
    if (from === to || Atomics.compareExchange(counter, 0, from, to) === from) return { from, to }
  }
}

function lookAt(root: TreeRoot, items: readonly LookItem[]): LookAnswer {
  return look({ kind: 'look', root: root.fd, inotify: -1, watchMask: 0, racyMs: root.racyMs, items })
}
