/**
 * The source's index on disk, with the states that it had at the commits given last, so that whichever of them the copy
 * turns out to have can be gone on from. It may be lost at any time, and then source and copy are compared; so nothing of
 * it is synced, and any fault with it only drops it. Its checksums keep it from being wrong.
 */
import fs from 'node:fs'
import { fileKind } from '../../os/stat-buffer.ts'
import { displayPath } from '../../stream/entry.ts'
import { entryFlag } from './entry-flags.ts'
import type { DirectoryPosition } from './position.ts'
import { type TreeChange, TreeFile, type TreeIndex } from './tree-index.ts'
import { loadTree, type TreeBytes, treeOf, treeStamp } from './tree-load.ts'

export class IndexStore {
  readonly #path: string
  readonly #onLost: (error: unknown) => void
  #file: TreeFile | undefined

  constructor(directory: string, onLost: (error: unknown) => void) {
    this.#path = `${directory}/index`
    this.#onLost = onLost
  }

  /** The index as it was at a commit; undefined when that is not known. */
  load(position: DirectoryPosition): TreeIndex | undefined {
    this.#close()
    try {
      const wanted = encodeHeader(position)
      const loaded = loadTree(this.#path, header => header.equals(wanted))
      if (loaded === undefined) return undefined
      const missing = missingDirectory(loaded.index)
      if (missing !== undefined) throw new Error(`it does not say what is in '${displayPath(missing)}'`)
      this.#file = TreeFile.open(this.#path, loaded.group, { durable: false })
      return loaded.index
    } catch (error) {
      this.#drop(error)
      return undefined
    }
  }

  /** As `load`, by what was read of the file before, if the file is still that one, and ends with this commit. */
  loadRead(position: DirectoryPosition, read: TreeBytes): TreeIndex | undefined {
    this.#close()
    if (treeStamp(this.#path) !== read.stamp) return undefined
    try {
      const wanted = encodeHeader(position)
      const loaded = treeOf(read, this.#path, header => header.equals(wanted), true)
      if (loaded === undefined || !loaded.isLast) return undefined
      this.#file = TreeFile.open(this.#path, loaded.group, { durable: false })
      return loaded.index
    } catch (error) {
      this.#drop(error)
      return undefined
    }
  }

  /** What changed since the commit before; `whole` is asked for when there is no file yet. */
  commit(
    position: Pick<DirectoryPosition, 'index' | 'pass'>,
    changes: readonly TreeChange[],
    whole: () => TreeIndex,
  ): void {
    const header = encodeHeader(position)
    try {
      if (this.#file === undefined)
        this.#file = TreeFile.create(this.#path, header, whole(), { durable: false })
      else this.#file.append(header, changes)
    } catch (error) {
      this.#drop(error)
    }
  }

  /** The copy has this state: earlier ones are not needed any more. */
  settle(position: Pick<DirectoryPosition, 'index' | 'pass'>, index: TreeIndex, growthMax: number): void {
    try {
      if (this.#file?.isLarge(index.bytes, growthMax)) this.#file.rewrite(encodeHeader(position), index)
    } catch (error) {
      this.#drop(error)
    }
  }

  close(): void {
    this.#close()
  }

  /** Forgets all that is on disk. */
  clear(): void {
    this.#close()
    try {
      fs.rmSync(this.#path, { force: true })
    } catch (error) {
      this.#onLost(error)
    }
  }

  #drop(error: unknown): void {
    this.clear()
    this.#onLost(error)
  }

  #close(): void {
    const file = this.#file
    this.#file = undefined
    file?.close()
  }
}

/**
 * A directory that the copy is said to have, and of which nothing is known: nobody would look at it any more, so that an
 * index without it must not be used. What is pending is looked for anyway.
 */
export function missingDirectory(index: TreeIndex): string | undefined {
  for (const [path, block] of index.directories) {
    if (path === '.') continue
    const { words } = block
    for (let i = 0; i < block.count; i++) {
      if (((words[block.wordOf(i)] as number) & 0o170000) !== fileKind.directory) continue
      if ((block.flags(i) & entryFlag.pending) !== 0) continue
      const child = path === '' ? block.name(i) : `${path}/${block.name(i)}`
      if (!index.directories.has(child)) return child
    }
  }
  return index.directories.has('') ? undefined : ''
}

function encodeHeader({ index, pass }: Pick<DirectoryPosition, 'index' | 'pass'>): Buffer {
  return Buffer.from(JSON.stringify({ v: 1, index, pass }))
}
