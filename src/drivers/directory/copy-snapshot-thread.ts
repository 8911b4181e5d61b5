/** The thread that reads a copy for a snapshot, in synchronous calls. See copy-snapshot.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { unreachable } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { openFlag } from '../../os/tree-calls.ts'
import type { EntryPath } from '../../stream/entry.ts'
import { batchBytesMax, type SnapshotExtent, smallContentBytesMax } from '../snapshot.ts'
import { systemCalls as calls } from './copy-calls.ts'
import { blockBytes, type CopyNode, type FileNode } from './copy-node.ts'
import { joinPath } from './copy-paths.ts'
import { sendError } from './copy-protocol.ts'
import { RecordedCopy } from './copy-recorded.ts'
import { BatchMemory } from './copy-snapshot-batch.ts'
import type {
  SnapshotAnswer,
  SnapshotMessage,
  SnapshotRequest,
  SnapshotThreadData,
} from './copy-snapshot-protocol.ts'
import type { CopyCommit } from './copy-status.ts'

const { path: copyPath, sidecar, provedLater } = workerData as SnapshotThreadData

/** A file of `smallContentBytesMax` fits. */
const firstBatchBytesMax = smallContentBytesMax
/** Of one batch: each of them is held open. */
const largeFilesMax = 16

interface LargeFile {
  readonly path: string
  readonly node: FileNode
  readonly fd: number
  readonly extents: readonly SnapshotExtent[] | undefined
  block: number
}

class SnapshotReading {
  readonly #copy = new RecordedCopy(calls, copyPath, sidecar)
  readonly #given = new Map<FileNode, string>()
  readonly #large = new Map<number, LargeFile>()
  #lastLarge = 0
  readonly #walk = this.#inOrder('')
  #rootGiven = false
  readonly #block = Buffer.allocUnsafe(blockBytes)
  readonly #stat = new StatBuffer()
  /** What did not fit into the batch before. */
  #left: readonly [string, CopyNode] | undefined

  open(): SnapshotAnswer {
    return { commit: this.#copy.state.status.shown as CopyCommit }
  }

  count(): SnapshotAnswer {
    const seen = new Set<FileNode>()
    let totalBytes = 0
    let totalEntries = 1
    const { record } = this.#copy.state
    for (const path of record.directories) {
      for (const node of record.childrenOnce(path)?.values() ?? []) {
        if (node.kind === 'other') continue
        totalEntries++
        if (node.kind !== 'file') continue
        if (node.group !== 0) {
          if (seen.has(node)) continue
          seen.add(node)
        }
        totalBytes += node.size
      }
    }
    return { totalBytes, totalEntries }
  }

  batch(shared: SharedArrayBuffer): SnapshotAnswer {
    const memory = new BatchMemory(shared)
    // whoever waits for the first has nothing to do meanwhile
    const bytesMax = this.#rootGiven ? batchBytesMax : firstBatchBytesMax
    let used = 0
    const largeBefore = this.#lastLarge
    while (memory.hasRoom && this.#lastLarge - largeBefore < largeFilesMax) {
      const next = this.#next()
      if (next === undefined) break
      const [path, node] = next
      if (node.kind === 'other') continue
      if (node.kind !== 'file') {
        memory.add({ kind: node.kind, path, node, ...(node.kind === 'symlink' ? { to: node.target } : {}) })
        continue
      }
      const first = node.group === 0 ? undefined : this.#given.get(node)
      if (first !== undefined) {
        memory.add({ kind: 'hardlink', path, node, to: first })
        continue
      }
      if (node.size <= smallContentBytesMax && used + node.size > bytesMax) {
        this.#left = next
        break
      }
      if (node.group !== 0) this.#given.set(node, path)
      // where it begins like the block that it goes to, it is copied by words
      used = alignUp(used + this.#file(path, node, memory, used))
    }
    return { count: memory.count, extras: memory.extras }
  }

  #next(): readonly [string, CopyNode] | undefined {
    const left = this.#left
    this.#left = undefined
    if (left !== undefined) return left
    if (!this.#rootGiven) {
      this.#rootGiven = true
      const { root } = this.#copy.state.record
      if (root !== undefined) return ['', root]
    }
    const step = this.#walk.next()
    return step.done ? undefined : step.value
  }

  /** A directory just before what it holds, as if '/' were part of its name. */
  *#inOrder(path: string): Generator<readonly [string, CopyNode]> {
    const children = [...(this.#copy.state.record.childrenOnce(path) ?? [])].map(
      ([name, node]) => [node.kind === 'directory' ? `${name}/` : name, name, node] as const,
    )
    children.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    for (const [, name, node] of children) {
      const at = joinPath(path, name)
      yield [at, node]
      if (node.kind === 'directory') yield* this.#inOrder(at)
    }
  }

  /** Gives how many bytes of content went into the memory. */
  #file(path: string, node: FileNode, memory: BatchMemory, start: number): number {
    if (provedLater && node.size <= smallContentBytesMax && this.#readAsMarked(path, node, memory, start)) {
      memory.add({ kind: 'file', path, node, start, length: node.size })
      return node.size
    }
    const fd = this.#copy.open(path, node)
    if (fd === undefined) throw this.#copy.mismatch(path, 0)
    const extents = this.#extents(fd, node)
    if (node.size > smallContentBytesMax) {
      const large = ++this.#lastLarge
      this.#large.set(large, { path, node, fd, extents, block: 0 })
      memory.add({ kind: 'file', path, node, extents, large })
      return 0
    }
    try {
      let length = node.size
      if (length > 0) {
        // read in its place where there is no hole, which is nearly always
        const room = extents === undefined ? memory.content.subarray(start, start + length) : this.#block
        if (this.#copy.readBlock(fd, node, 0, room) === undefined) throw this.#copy.mismatch(path, 0)
        if (extents !== undefined) length = copyExtents(extents, room, 0, node.size, memory.content, start)
      }
      memory.add({ kind: 'file', path, node, extents, start, length })
      return length
    } finally {
      calls.closeFd(fd)
    }
  }

  /**
   * Reads a small file whose digest somebody else compares. False when it has holes, or is not the file that was marked
   * when it was recorded, once it was read: then what was read may have been changed since, and is not to be used.
   */
  #readAsMarked(path: string, node: FileNode, memory: BatchMemory, start: number): boolean {
    const fd = this.#copy.files.tryOpen(path, openFlag.read | openFlag.nonBlocking)
    if (fd < 0) return false
    try {
      const { size } = node
      if (size > 0 && calls.readAt(fd, memory.content.subarray(start, start + size), 0) < size) return false
      calls.statFd(fd, this.#stat)
      return node.isAsMarked(this.#stat) && this.#stat.blocks * 512 >= size
    } finally {
      calls.closeFd(fd)
    }
  }

  /**
   * A block of a large file; undefined when it is not what was recorded. A file that is still marked as it was recorded,
   * once the block was read, had those bytes; else its digest is compared here, and what was kept of it is read.
   */
  #read(fd: number, node: FileNode, block: number, into: Buffer): number | undefined {
    if (!provedLater) return this.#copy.readBlock(fd, node, block, into)
    const offset = block * blockBytes
    const wanted = Math.min(blockBytes, node.size - offset)
    const room = into.length === wanted ? into : into.subarray(0, wanted)
    const whole = calls.readAt(fd, room, offset) === wanted
    calls.statFd(fd, this.#stat)
    return whole && node.isAsMarked(this.#stat) ? wanted : this.#copy.readBlock(fd, node, block, into)
  }

  prove(path: EntryPath): SnapshotAnswer {
    const node = this.#copy.state.record.find(path)
    if (node?.kind !== 'file') return {}
    const fd = this.#copy.open(path, node)
    if (fd === undefined) throw this.#copy.mismatch(path, 0)
    try {
      for (let block = 0; block < node.blocks; block++)
        if (this.#copy.readBlock(fd, node, block, this.#block) === undefined)
          throw this.#copy.mismatch(path, block)
      return {}
    } finally {
      calls.closeFd(fd)
    }
  }

  /** Undefined when there is no hole. */
  #extents(fd: number, node: FileNode): SnapshotExtent[] | undefined {
    if (node.size === 0 || this.#copy.opened.blocks * 512 >= node.size) return undefined
    const extents: SnapshotExtent[] = []
    for (let at = calls.nextData(fd, 0); at !== undefined && at < node.size; ) {
      const end = Math.min(calls.nextHole(fd, at) ?? node.size, node.size)
      if (end > at) extents.push({ offset: at, length: end - at })
      if (end >= node.size) break
      at = calls.nextData(fd, end)
    }
    const [only] = extents
    return extents.length === 1 && only?.offset === 0 && only.length === node.size ? undefined : extents
  }

  piece(file: number, memory: SharedArrayBuffer): SnapshotAnswer {
    const large = this.#large.get(file)
    if (large === undefined) return { length: 0 }
    const into = Buffer.from(memory)
    const { path, node, fd, extents } = large
    let used = 0
    // a whole block has to fit
    while (large.block < node.blocks && used + blockBytes <= batchBytesMax) {
      const length = this.#read(fd, node, large.block, this.#block)
      if (length === undefined) throw this.#copy.mismatch(path, large.block)
      const offset = large.block * blockBytes
      if (extents === undefined) {
        into.set(this.#block.subarray(0, length), used)
        used += length
      } else used += copyExtents(extents, this.#block, offset, length, into, used)
      large.block++
    }
    if (large.block >= node.blocks && used === 0) {
      calls.closeFd(fd)
      this.#large.delete(file)
    }
    return { length: used }
  }

  close(): SnapshotAnswer {
    for (const { fd } of this.#large.values()) calls.closeFd(fd)
    this.#large.clear()
    this.#copy.close()
    return {}
  }
}

function alignUp(bytes: number): number {
  return (bytes + 15) & ~15
}

/** Copies what of a block is in extents; gives how many bytes that are. */
function copyExtents(
  extents: readonly SnapshotExtent[],
  block: Buffer,
  offset: number,
  length: number,
  into: Buffer,
  start: number,
): number {
  let used = 0
  for (const extent of extents) {
    const from = Math.max(extent.offset, offset)
    const end = Math.min(extent.offset + extent.length, offset + length)
    if (from >= end) continue
    into.set(block.subarray(from - offset, end - offset), start + used)
    used += end - from
  }
  return used
}

let reading: SnapshotReading | undefined

parentPort?.on('message', ({ id, request }: { id: number; request: SnapshotRequest }) => {
  const send = (message: SnapshotMessage) => parentPort?.postMessage(message)
  try {
    send({ id, answer: answer(request) })
  } catch (error) {
    send({ id, error: sendError(error) })
  }
})

function answer(request: SnapshotRequest): SnapshotAnswer {
  reading ??= new SnapshotReading()
  switch (request.kind) {
    case 'open':
      return reading.open()
    case 'count':
      return reading.count()
    case 'batch':
      return reading.batch(request.memory)
    case 'piece':
      return reading.piece(request.file, request.memory)
    case 'prove':
      return reading.prove(request.path)
    case 'close':
      return reading.close()
    default:
      return unreachable(request)
  }
}
