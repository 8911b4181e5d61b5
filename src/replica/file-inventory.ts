/** What a copy has, by its state: paths, sizes and block digests. */
import type { ConsistentCommit } from '../drivers/driver.ts'
import type { Storage } from '../os/storage.ts'
import type { EntryPath, Position } from '../stream/entry.ts'
import type { Inventory, InventoryFile } from '../stream/sink.ts'
import { copyPaths } from './copy-paths.ts'
import type { CopyFile, CopyTree } from './copy-tree.ts'
import type { PendingContent } from './pending-content.ts'
import { readState } from './state-log.ts'
import { type RecordedCommit, toConsistent } from './state-record.ts'

export class CopyInventory implements Inventory {
  readonly #tree: CopyTree
  readonly #pending: PendingContent | undefined

  constructor(tree: CopyTree, pending?: PendingContent) {
    this.#tree = tree
    this.#pending = pending
  }

  async *files(): AsyncGenerator<InventoryFile> {
    for (const { path, file } of this.#tree.filesByPath()) yield this.#describe(path, file)
  }

  async file(path: EntryPath): Promise<InventoryFile | undefined> {
    const file = this.#tree.findFile(path)
    return file === undefined ? undefined : this.#describe(path, file)
  }

  #describe(path: EntryPath, file: CopyFile): InventoryFile {
    const { blocks } = file
    return {
      path,
      size: file.size,
      blockBytes: blocks.blockBytes,
      digest: 'blake3-256',
      digests: async (first, count) => {
        const end = Math.min(first + count, blocks.count)
        for (let block = first; block < end; block++) {
          if (!blocks.isStale(block)) continue
          const bytes = await this.#pending?.read(path, block * blocks.blockBytes, blocks.blockLength(block))
          if (bytes !== undefined) blocks.refresh(block, bytes)
        }
        return blocks.slice(Math.min(first, end), end)
      },
    }
  }
}

export interface RecordedCopy {
  readonly inventory: Inventory
  readonly position: Position | undefined
  /** The last consistent commit. */
  readonly consistent: ConsistentCommit | undefined
}

/** What the sidecar says of a copy, whether its follower runs or not; undefined when there is no state. */
export async function openRecordedCopy(storage: Storage, sidecar: string): Promise<RecordedCopy | undefined> {
  const state = await readState(storage, copyPaths(sidecar).state)
  if (state === undefined) return undefined
  const { commit, consistent } = state
  return {
    inventory: new CopyInventory(state.tree),
    position: commit?.position,
    consistent: consistentOf(consistent),
  }
}

function consistentOf(commit: RecordedCommit | undefined): ConsistentCommit | undefined {
  return commit === undefined ? undefined : toConsistent(commit)
}
