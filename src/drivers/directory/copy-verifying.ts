/**
 * Looks at all that is about to be replaced or removed, before anything is: what somebody else changed is named
 * (`target-changed`), and nothing is overwritten.
 *
 * A file is as recorded when its inode, time of change and size are; else its content, size, mode and time decide, since
 * a copy may have been moved to another disk, and a power failure may lose a time of change.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { openFlag } from '../../os/tree-calls.ts'
import { changedCopy } from './copy-changed.ts'
import type { CopyFiles } from './copy-files.ts'
import { blockBytes, type CopyNode, type FileNode, secondsOf } from './copy-node.ts'
import { joinPath, parentOf } from './copy-paths.ts'
import type { CopyState } from './copy-state.ts'

export function verifyBeforeApplying(state: CopyState, files: CopyFiles): void {
  const { pending, view, record } = state
  const verifying = new Verifying(state, files)
  for (const [path, entry] of pending.walk()) {
    const parent = parentOf(path)
    if (path !== '' && view.hides(parent)) continue
    verifying.checkDirectory(parent)
    const before = record.find(path)
    if (before === undefined) verifying.checkFree(path)
    else if (before.kind !== 'directory') verifying.checkNode(path, before)
    else if (entry.kind === 'node' && entry.node.kind === 'directory') verifying.checkDirectory(path)
    else verifying.checkTree(path)
  }
}

class Verifying {
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stat = new StatBuffer()
  readonly #directories = new Set<string>()

  constructor(state: CopyState, files: CopyFiles) {
    this.#state = state
    this.#files = files
  }

  /** What the record calls a directory is one; those that are to be made are not looked for. */
  checkDirectory(path: string): void {
    if (this.#directories.has(path)) return
    this.#directories.add(path)
    if (!this.#state.record.hasDirectory(path)) return
    if (!this.#files.exists(path, this.#stat)) throw changedCopy(path, 'is gone')
    if (this.#stat.kind !== fileKind.directory) throw changedCopy(path, 'is no directory any more')
  }

  checkFree(path: string): void {
    if (!this.#state.record.hasDirectory(parentOf(path))) return
    if (this.#files.exists(path, this.#stat)) throw changedCopy(path, 'was put there by somebody else')
  }

  checkNode(path: string, node: CopyNode): void {
    if (!this.#files.exists(path, this.#stat)) throw changedCopy(path, 'is gone')
    const { kind } = this.#stat
    switch (node.kind) {
      case 'file': {
        if (kind !== fileKind.file) throw changedCopy(path, 'is no file any more')
        if (node.isAsMarked(this.#stat)) return
        const what = whatChanged(this.#files, path, node, this.#stat)
        if (what !== undefined) throw changedCopy(path, what)
        return
      }
      case 'symlink': {
        const target = kind === fileKind.symlink ? readLink(this.#files, path) : undefined
        if (target !== node.target) throw changedCopy(path, 'is not the symbolic link that it was')
        return
      }
      case 'directory':
        this.checkTree(path)
        return
      case 'other':
        if (kind === fileKind.file || kind === fileKind.directory) throw changedCopy(path, 'was replaced')
    }
  }

  /** A directory that is to go holds what is recorded, and nothing else. */
  checkTree(path: string): void {
    this.checkDirectory(path)
    const children = this.#state.record.children(path) ?? new Map<string, CopyNode>()
    for (const name of this.#files.list(path))
      if (!children.has(name)) throw changedCopy(joinPath(path, name), 'was put there by somebody else')
    for (const [name, node] of children) this.checkNode(joinPath(path, name), node)
  }
}

export function readLink(files: CopyFiles, path: string): string | undefined {
  let target: string | undefined
  files.try(path, (at, name) => {
    const read = files.calls.tryReadLinkAt(at, name)
    if (typeof read === 'number') return read
    target = read
    return 0
  })
  return target
}

/** What of a file whose mark differs is really different. */
function whatChanged(files: CopyFiles, path: string, node: FileNode, stat: StatBuffer): string | undefined {
  if (stat.size !== node.size) return `has ${stat.size} bytes instead of ${node.size}`
  if (stat.mode !== node.mode) return `has mode ${octal(stat.mode)} instead of ${octal(node.mode)}`
  const seconds = secondsOf(stat.mtimeSecondsLow, stat.mtimeSecondsHigh)
  if (seconds !== node.mtimeSeconds || stat.mtimeNanoseconds !== node.mtimeNanoseconds)
    return 'was modified at another time'
  const block = differingBlock(files, path, node)
  return block === undefined ? undefined : `has other bytes from offset ${block * blockBytes}`
}

/** Reads a file of the copy; the first block that is not as recorded. */
function differingBlock(files: CopyFiles, path: string, node: FileNode): number | undefined {
  const fd = files.open(path, openFlag.read)
  try {
    const buffer = Buffer.allocUnsafe(Math.min(blockBytes, node.size))
    for (let block = 0; block < node.blocks; block++) {
      const offset = block * blockBytes
      const length = files.calls.readAt(fd, buffer, offset)
      const wanted = Math.min(blockBytes, node.size - offset)
      if (length < wanted || !blake3(buffer.subarray(0, wanted)).equals(node.digest(block))) return block
    }
    return undefined
  } finally {
    files.calls.closeFd(fd)
  }
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}
