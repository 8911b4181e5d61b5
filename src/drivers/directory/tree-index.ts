/**
 * The packed record of a tree: a block for each directory (`TreeBlock`), in one file that is loaded without parsing.
 *
 * The file is a sequence of numbered groups, each counting as a whole or not at all. A group has a header of its owner's
 * (a position, say) and, for each directory that changed since the group before, its whole new block, or that it is gone.
 * When the file has grown to several times what it says, it is written anew under another name and takes its own by a
 * rename. Who wants durability says so with each group.
 *
 *     offset  bytes
 *          0      8  'hsTREE01'
 *          8      4  number of the group, from 1
 *         12      4  bytes of the owner's header
 *         16      4  directories in its table
 *         20      4  bytes of the table
 *         24      8  bytes of the whole group
 *         32      8  xxh64 of all behind this head
 *         40      8  xxh64 of these 40 bytes
 *         48         owner's header, table, zeros up to 8; blocks, each at a multiple of 8
 *
 *     a row of the table: 8 bytes where the block begins from the group's start, 8 bytes its length (0: gone), 4 bytes
 *     length of the path, the path in latin1
 *
 * A crash leaves at most a torn last group, which then counts as not written. Damage before a later group is named.
 */
import fs from 'node:fs'
import { xxh64 } from '@node-rs/xxhash'
import type { Signature, TreeBlock } from './tree-block.ts'
import type { LoadedGroup } from './tree-load.ts'

/** Of a group (see tree-load.ts for the reading). */
export const magic = Buffer.from('hsTREE01', 'latin1')
export const headBytes = 48
/** Of one call. */
export const readBytesMax = 512 * 1024 * 1024
const copyBytes = 1024 * 1024
/** The file may grow to this, and to so many times the size of what it says. */
const fileBytesMin = 4 * 1024 * 1024
const growthMaxDefault = 3

/** Directories by path (latin1; '' is the root). */
export class TreeIndex {
  readonly directories = new Map<string, TreeBlock>()

  /** The entry of a path, which is not the root's. */
  find(path: string): { readonly block: TreeBlock; readonly i: number } | undefined {
    const cut = path.lastIndexOf('/')
    const block = this.directories.get(cut < 0 ? '' : path.slice(0, cut))
    if (block === undefined) return undefined
    const i = block.findName(cut < 0 ? path : path.slice(cut + 1))
    return i < 0 ? undefined : { block, i }
  }

  signature(path: string): Signature | undefined {
    const found = this.find(path)
    return found?.block.signature(found.i)
  }

  /** The paths of a directory and of all directories below it. */
  subtree(path: string): string[] {
    if (path === '') return [...this.directories.keys()]
    const prefix = `${path}/`
    return [...this.directories.keys()].filter(one => one === path || one.startsWith(prefix))
  }

  get entries(): number {
    let count = 0
    for (const block of this.directories.values()) count += block.count
    return count
  }

  get bytes(): number {
    let bytes = 0
    for (const [path, block] of this.directories) bytes += block.bytes.length + path.length + 32
    return bytes
  }
}

export type TreeChange = readonly [path: string, block: TreeBlock | undefined]

/** All of a group, copied before it is summed: threads may be at work on what is `pending` in a block. */
function encodeGroup(number: number, header: Uint8Array, changes: readonly TreeChange[]): Buffer {
  let tableBytes = 0
  for (const [path] of changes) tableBytes += 20 + path.length
  const blocksAt = align(headBytes + header.length + tableBytes)
  let length = blocksAt
  for (const [, block] of changes) length += align(block?.bytes.length ?? 0)
  const group = Buffer.allocUnsafe(length)
  magic.copy(group)
  group.writeUInt32LE(number, 8)
  group.writeUInt32LE(header.length, 12)
  group.writeUInt32LE(changes.length, 16)
  group.writeUInt32LE(tableBytes, 20)
  group.writeBigUInt64LE(BigInt(length), 24)
  group.set(header, headBytes)
  let row = headBytes + header.length
  let at = blocksAt
  group.fill(0, row + tableBytes, at)
  for (const [path, block] of changes) {
    group.writeBigUInt64LE(BigInt(block === undefined ? 0 : at), row)
    group.writeBigUInt64LE(BigInt(block?.bytes.length ?? 0), row + 8)
    group.writeUInt32LE(path.length, row + 16)
    group.write(path, row + 20, 'latin1')
    row += 20 + path.length
    if (block === undefined) continue
    group.set(block.bytes, at)
    const end = at + align(block.bytes.length)
    group.fill(0, at + block.bytes.length, end)
    at = end
  }
  group.writeBigUInt64LE(xxh64(group.subarray(headBytes)), 32)
  group.writeBigUInt64LE(xxh64(group.subarray(0, 40)), 40)
  return group
}

function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8
}

/** Gives the offset behind the bytes. */
function writeBytes(fd: number, bytes: Uint8Array, offset: number): number {
  for (let done = 0; done < bytes.length; )
    done += fs.writeSync(fd, bytes, done, Math.min(bytes.length - done, readBytesMax), offset + done)
  return offset + bytes.length
}

export interface TreeFileOptions {
  /** Groups are durable when `append` and `rewrite` return. */
  readonly durable: boolean
}

/** Writes a tree's file. */
export class TreeFile {
  readonly #path: string
  readonly #durable: boolean
  #fd: number
  #end: number
  #groups: number

  private constructor(path: string, durable: boolean, fd: number, end: number, groups: number) {
    this.#path = path
    this.#durable = durable
    this.#fd = fd
    this.#end = end
    this.#groups = groups
  }

  /** Goes on behind a group that was loaded; what follows it in the file is cut off. */
  static open(path: string, group: LoadedGroup, options: TreeFileOptions): TreeFile {
    const fd = fs.openSync(path, 'r+')
    try {
      if (fs.fstatSync(fd).size > group.end) fs.ftruncateSync(fd, group.end)
      if (options.durable) writeAgain(fd, group)
      return new TreeFile(path, options.durable, fd, group.end, group.number)
    } catch (error) {
      fs.closeSync(fd)
      throw error
    }
  }

  /** Begins a file that says just this, in place of any there was. */
  static create(path: string, header: Uint8Array, index: TreeIndex, options: TreeFileOptions): TreeFile {
    const { fd, end } = writeAnew(path, header, index, options.durable)
    return new TreeFile(path, options.durable, fd, end, 1)
  }

  /** After a failure the file must be closed and loaded again. */
  append(header: Uint8Array, changes: readonly TreeChange[]): void {
    const end = writeBytes(this.#fd, encodeGroup(this.#groups + 1, header, changes), this.#end)
    if (this.#durable) fs.fdatasyncSync(this.#fd)
    this.#end = end
    this.#groups++
  }

  /** Time to write it anew, for a tree of so many bytes. */
  isLarge(liveBytes: number, growthMax = growthMaxDefault): boolean {
    return this.#end > Math.max(fileBytesMin, liveBytes * growthMax)
  }

  rewrite(header: Uint8Array, index: TreeIndex): void {
    const { fd, end } = writeAnew(this.#path, header, index, this.#durable)
    fs.closeSync(this.#fd)
    this.#fd = fd
    this.#end = end
    this.#groups = 1
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}

/**
 * Makes durable what may have been left unsynced, before anything is built on it. A sync alone would not do: after one
 * that failed the bytes can be read and yet count as written.
 */
function writeAgain(fd: number, group: LoadedGroup): void {
  const bytes = Buffer.allocUnsafe(Math.min(group.end - group.start, copyBytes))
  for (let at = group.start; at < group.end; ) {
    const length = fs.readSync(fd, bytes, 0, Math.min(bytes.length, group.end - at), at)
    at = writeBytes(fd, bytes.subarray(0, length), at)
  }
  fs.fsyncSync(fd)
}

function writeAnew(
  path: string,
  header: Uint8Array,
  index: TreeIndex,
  durable: boolean,
): { fd: number; end: number } {
  const temporary = `${path}.tmp`
  fs.rmSync(temporary, { force: true })
  const fd = fs.openSync(temporary, 'wx+', 0o600)
  try {
    const end = writeBytes(fd, encodeGroup(1, header, [...index.directories]), 0)
    if (durable) fs.fsyncSync(fd)
    fs.renameSync(temporary, path)
    if (durable) syncParent(path)
    return { fd, end }
  } catch (error) {
    fs.closeSync(fd)
    throw error
  }
}

function syncParent(path: string): void {
  const directory = fs.openSync(path.slice(0, path.lastIndexOf('/')) || '/', 'r')
  try {
    fs.fsyncSync(directory)
  } finally {
    fs.closeSync(directory)
  }
}
