/**
 * Reads what a copy showed when the reading began, whatever its follower does meanwhile: files that were replaced or
 * removed since are found where they are kept (copy-kept.ts).
 */
import { blake3 } from '@napi-rs/blake-hash'
import { HotspareError } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { ELOOP, ENOENT, ENOTDIR, ENXIO, openFlag } from '../../os/tree-calls.ts'
import { displayPath } from '../../stream/entry.ts'
import type { CopyCalls } from './copy-calls.ts'
import { CopyFiles } from './copy-files.ts'
import { keptName } from './copy-kept.ts'
import { loadLog } from './copy-log.ts'
import { blockBytes, type FileNode } from './copy-node.ts'
import { CopyState } from './copy-state.ts'

export class RecordedCopy {
  readonly state: CopyState
  readonly files: CopyFiles
  readonly #calls: CopyCalls
  readonly #sidecar: number
  readonly #path: string
  /** Of the file that was opened last. */
  readonly opened = new StatBuffer()

  /** Throws `target-missing` and `target-incomplete`. To be made while nothing is changed in the copy (names.lock). */
  constructor(calls: CopyCalls, path: string, sidecar: string) {
    this.#calls = calls
    this.#path = path
    this.#sidecar = calls.openRoot(sidecar)
    try {
      const log = loadLog(calls, this.#sidecar)
      if (log === undefined) throw missing(path)
      this.state = CopyState.load(log)
      const { phase, applying, shown } = this.state.status
      if (phase !== 'live') throw incomplete(path, 'the first copy has not come to its end')
      if (applying) throw incomplete(path, 'its follower was stopped in the middle of a change')
      if (shown === undefined) throw incomplete(path, 'a resync has not come to its end')
      this.files = new CopyFiles(calls, openTarget(calls, path), false)
    } catch (error) {
      calls.closeFd(this.#sidecar)
      throw error
    }
  }

  /** A descriptor of the file as it was recorded; undefined when it is gone. */
  open(path: string, node: FileNode): number | undefined {
    const fd = this.files.tryOpen(path, openFlag.read | openFlag.nonBlocking)
    if (fd < 0) {
      if (![ENOENT, ENOTDIR, ELOOP, ENXIO].some(number => fd === -(number as number)))
        this.files.fail('openat', fd, path)
      return this.#openKept(node)
    }
    this.#calls.statFd(fd, this.opened)
    if (node.isInode(this.opened)) return fd
    const kept = this.#openKept(node)
    // a copy that was moved has other inodes; its bytes are compared in any case
    if (kept === undefined) return fd
    this.#calls.closeFd(fd)
    return kept
  }

  #openKept(node: FileNode): number | undefined {
    const path = `kept/${keptName(node.inodeLow, node.inodeHigh).toString('latin1').slice(0, -1)}`
    const fd = this.#calls.tryOpenBeneath(this.#sidecar, path, openFlag.read)
    if (fd < 0) return undefined
    this.#calls.statFd(fd, this.opened)
    return fd
  }

  /** The block that was read last came from what is kept, and `fd` has other bytes by now. */
  wasKept = false

  /**
   * Reads a block into `into`, whose length it gives; undefined when it is not what was recorded. A file that is changed
   * in place after it was opened is read from what was kept of it.
   */
  readBlock(fd: number, node: FileNode, block: number, into: Buffer): number | undefined {
    this.wasKept = false
    const length = this.#readFrom(fd, node, block, into)
    if (length !== undefined) return length
    const kept = this.#openKept(node)
    if (kept === undefined) return undefined
    try {
      this.wasKept = true
      return this.#readFrom(kept, node, block, into)
    } finally {
      this.#calls.closeFd(kept)
    }
  }

  #readFrom(fd: number, node: FileNode, block: number, into: Buffer): number | undefined {
    const offset = block * blockBytes
    const wanted = Math.min(blockBytes, node.size - offset)
    const bytes = into.subarray(0, wanted)
    if (this.#calls.readAt(fd, bytes, offset) < wanted) return undefined
    return blake3(bytes).equals(node.digest(block)) ? wanted : undefined
  }

  mismatch(path: string, block: number): HotspareError {
    const offset = block * blockBytes
    return new HotspareError(
      'digest-mismatch',
      `'${displayPath(path)}' in the copy '${this.#path}' is not what was copied, in its bytes from ${offset}. Run 'hotspare check', and 'hotspare follow --resync' to repair it.`,
      { details: { path: displayPath(path), offset } },
    )
  }

  close(): void {
    this.files.close()
    this.#calls.closeFd(this.#sidecar)
  }
}

function openTarget(calls: CopyCalls, path: string): number {
  try {
    return calls.openRoot(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno === ENOENT) throw missing(path)
    throw error
  }
}

export function missing(path: string): HotspareError {
  return new HotspareError(
    'target-missing',
    `There is no copy at '${path}'. Make one with 'hotspare follow'.`,
    { details: { path } },
  )
}

function incomplete(path: string, why: string): HotspareError {
  return new HotspareError(
    'target-incomplete',
    `The copy '${path}' is not complete yet: ${why}. Run 'hotspare follow' until it says that it is live.`,
    { details: { path } },
  )
}
