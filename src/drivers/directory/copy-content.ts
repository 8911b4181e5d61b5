/** The bytes of files that are pending: read through their pieces; and the digests of what was changed. */
import { blake3 } from '@napi-rs/blake-hash'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { ELOOP, ENOENT, ENOTDIR, ENXIO, openFlag } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'
import { changedCopy } from './copy-changed.ts'
import { digestOf } from './copy-digest.ts'
import type { CopyFiles } from './copy-files.ts'
import { blockBytes, type FileNode } from './copy-node.ts'
import type { PendingFile } from './copy-pending.ts'
import type { CopyStage } from './copy-stage.ts'

let zeroDigest: Buffer | undefined

export function digestOfZeros(): Buffer {
  zeroDigest ??= blake3(Buffer.alloc(blockBytes))
  return zeroDigest
}

export function asBuffer(data: Uint8Array): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Buffer.from(data.buffer, data.byteOffset, data.length)
}

function blockLength(node: FileNode, block: number): number {
  return Math.min(blockBytes, node.size - block * blockBytes)
}

function stale(node: FileNode, block: number): void {
  node.stale ??= new Set()
  node.stale.add(block)
}

/** A file's size changes, by zeros or by a cut. */
export function resizeDigests(node: FileNode, size: number): void {
  const before = node.size
  if (size === before) return
  const oldBlocks = node.blocks
  node.size = size
  const blocks = node.blocks
  if (size < before) {
    if (node.stale !== undefined)
      for (const block of [...node.stale]) if (block >= blocks) node.stale.delete(block)
    if (size % blockBytes !== 0) stale(node, blocks - 1)
    return
  }
  if (before % blockBytes !== 0) stale(node, oldBlocks - 1)
  for (let block = oldBlocks; block < blocks; block++) {
    if (blockLength(node, block) === blockBytes) node.setDigest(block, Buffer.from(digestOfZeros()))
    else stale(node, block)
  }
}

/** Bytes were written; the file's size is brought up to date. */
export function writtenDigests(node: FileNode, offset: number, data: Uint8Array): void {
  if (data.length === 0) return
  const end = offset + data.length
  if (offset === 0 && node.size <= end && end <= blockBytes) {
    node.size = end
    node.setDigest(0, digestOf(asBuffer(data)))
    node.stale?.delete(0)
    return
  }
  if (end > node.size) resizeDigests(node, end)
  const last = Math.floor((end - 1) / blockBytes)
  for (let block = Math.floor(offset / blockBytes); block <= last; block++) {
    const start = block * blockBytes
    const length = blockLength(node, block)
    if (offset <= start && end >= start + length) {
      node.setDigest(block, blake3(asBuffer(data.subarray(start - offset, start - offset + length))))
      node.stale?.delete(block)
    } else stale(node, block)
  }
}

/** Reads what was only partly written, so that every digest is known. */
export function settleDigests(node: FileNode, read: (offset: number, into: Buffer) => void): void {
  if (node.stale === undefined) return
  const buffer = Buffer.allocUnsafe(Math.min(blockBytes, node.size))
  for (const block of node.stale) {
    const bytes = buffer.subarray(0, blockLength(node, block))
    read(block * blockBytes, bytes)
    node.setDigest(block, blake3(bytes))
  }
  node.stale = undefined
}

/** Reads a pending file; keeps the files that it is made of open until `close`. */
export class PendingReader {
  readonly #calls: CopyCalls
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #file: PendingFile
  readonly #open = new Map<number, number>()

  constructor(files: CopyFiles, stage: CopyStage, file: PendingFile) {
    this.#calls = files.calls
    this.#files = files
    this.#stage = stage
    this.#file = file
  }

  /** All of `into` lies within the file. */
  read(offset: number, into: Buffer): void {
    into.fill(0)
    const file = this.#file
    const valid = Math.min(file.valid - offset, into.length)
    if (valid > 0) this.#calls.readAt(this.#fd(file.stage), into.subarray(0, valid), offset)
    for (const piece of file.pieces) {
      const start = Math.max(piece.offset, offset)
      const end = Math.min(piece.offset + piece.length, offset + into.length)
      if (start < end)
        this.#calls.readAt(this.#fd(piece.stage), into.subarray(start - offset, end - offset), start)
    }
  }

  /** Of the content that the file begins with, pieces or not; what is missing is zeros. */
  readBase(offset: number, into: Buffer): void {
    into.fill(0)
    this.#calls.readAt(this.#fd(this.#file.stage), into, offset)
  }

  #fd(stage: number): number {
    let fd = this.#open.get(stage)
    if (fd === undefined) {
      fd = stage === 0 ? openHome(this.#files, this.#file.home) : this.#stage.open(stage, openFlag.read)
      this.#open.set(stage, fd)
    }
    return fd
  }

  close(): void {
    for (const fd of this.#open.values()) this.#calls.closeFd(fd)
    this.#open.clear()
  }
}

function openHome(files: CopyFiles, path: string): number {
  const fd = files.tryOpen(path, openFlag.read | openFlag.nonBlocking)
  const isOther = [ENOENT, ENOTDIR, ELOOP, ENXIO].some(number => fd === -(number as number))
  if (isOther) throw changedCopy(path, 'is not the file that it was')
  if (fd < 0) files.fail('openat', fd, path)
  const stat = new StatBuffer()
  files.calls.statFd(fd, stat)
  if (stat.kind === fileKind.file) return fd
  files.calls.closeFd(fd)
  throw changedCopy(path, 'is no file any more')
}
