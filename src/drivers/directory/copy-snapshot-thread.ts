/** The thread that reads a copy for a snapshot, in synchronous calls. See copy-snapshot.ts. */
import { parentPort, workerData } from 'node:worker_threads'
import { unreachable } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import type { EntryPath } from '../../stream/entry.ts'
import { batchBytesMax, batchEntriesMax, type SnapshotExtent, smallContentBytesMax } from '../snapshot.ts'
import { systemCalls as calls } from './copy-calls.ts'
import { type AttributedNode, blockBytes, type CopyNode, digestBytes, type FileNode } from './copy-node.ts'
import { joinPath } from './copy-paths.ts'
import { sendError } from './copy-protocol.ts'
import { RecordedCopy } from './copy-recorded.ts'
import type {
  PlainEntry,
  SnapshotAnswer,
  SnapshotMessage,
  SnapshotRequest,
  SnapshotThreadData,
} from './copy-snapshot-protocol.ts'
import type { CopyCommit } from './copy-state.ts'

const { path: copyPath, sidecar } = workerData as SnapshotThreadData

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
  readonly #stat = new StatBuffer()
  readonly #block = Buffer.allocUnsafe(blockBytes)
  /** What did not fit into the batch before. */
  #left: readonly [string, CopyNode] | undefined

  open(): SnapshotAnswer {
    const seen = new Set<FileNode>()
    let totalBytes = 0
    let totalEntries = 1
    for (const [, node] of this.#copy.state.record.walk()) {
      if (node.kind === 'other') continue
      totalEntries++
      if (node.kind !== 'file' || seen.has(node)) continue
      if (node.group !== 0) seen.add(node)
      totalBytes += node.size
    }
    return { commit: this.#copy.state.status.shown as CopyCommit, totalBytes, totalEntries }
  }

  batch(memory: SharedArrayBuffer): SnapshotAnswer {
    const into = Buffer.from(memory)
    const entries: PlainEntry[] = []
    let used = 0
    const largeBefore = this.#lastLarge
    while (entries.length < batchEntriesMax && this.#lastLarge - largeBefore < largeFilesMax) {
      const next = this.#next()
      if (next === undefined) break
      const [path, node] = next
      if (node.kind === 'other') continue
      if (node.kind !== 'file') {
        entries.push(node.kind === 'symlink' ? { ...plain(path, node), to: node.target } : plain(path, node))
        continue
      }
      const first = this.#given.get(node)
      if (first !== undefined) {
        entries.push({ ...plain(path, node), kind: 'hardlink', to: first })
        continue
      }
      if (node.size <= smallContentBytesMax && used + node.size > batchBytesMax) {
        this.#left = next
        break
      }
      if (node.group !== 0) this.#given.set(node, path)
      const entry = this.#file(path, node, into, used)
      entries.push(entry)
      used += entry.length ?? 0
    }
    return { entries }
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
    const children = [...(this.#copy.state.record.children(path) ?? [])].map(
      ([name, node]) => [node.kind === 'directory' ? `${name}/` : name, name, node] as const,
    )
    children.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    for (const [, name, node] of children) {
      const at = joinPath(path, name)
      yield [at, node]
      if (node.kind === 'directory') yield* this.#inOrder(at)
    }
  }

  #file(path: string, node: FileNode, into: Buffer, start: number): PlainEntry {
    const fd = this.#copy.open(path, node)
    if (fd === undefined) throw this.#copy.mismatch(path, 0)
    const extents = this.#extents(fd, node)
    const digests = Buffer.from(node.digests.subarray(0, node.blocks * digestBytes))
    const entry = { ...plain(path, node), size: node.size, digests, extents }
    if (node.size > smallContentBytesMax) {
      const file = ++this.#lastLarge
      this.#large.set(file, { path, node, fd, extents, block: 0 })
      return { ...entry, file }
    }
    try {
      if (node.size === 0) return { ...entry, start, length: 0 }
      // read in its place where there is no hole, which is nearly always
      const room = extents === undefined ? into.subarray(start, start + node.size) : this.#block
      if (this.#copy.readBlock(fd, node, 0, room) === undefined) throw this.#copy.mismatch(path, 0)
      const length = extents === undefined ? node.size : copyExtents(extents, room, 0, node.size, into, start)
      return { ...entry, start, length }
    } finally {
      calls.closeFd(fd)
    }
  }

  /** Undefined when there is no hole. */
  #extents(fd: number, node: FileNode): SnapshotExtent[] | undefined {
    calls.statFd(fd, this.#stat)
    if (this.#stat.blocks * 512 >= node.size) return undefined
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
      const length = this.#copy.readBlock(fd, node, large.block, this.#block)
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

function plain(path: string, node: AttributedNode): PlainEntry {
  return {
    kind: node.kind,
    path: path as EntryPath,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    mtimeSeconds: node.mtimeSeconds,
    mtimeNanoseconds: node.mtimeNanoseconds,
    xattrs: node.xattrs.size === 0 ? undefined : Object.fromEntries(node.xattrs),
  }
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
    case 'batch':
      return reading.batch(request.memory)
    case 'piece':
      return reading.piece(request.file, request.memory)
    case 'close':
      return reading.close()
    default:
      return unreachable(request)
  }
}
