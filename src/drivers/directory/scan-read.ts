/**
 * In a scanning thread: reads small files, and the extended attributes of anything, into shared memory. A file counts as
 * read when statx says after it what it said when the tree was looked at, or right before the reading; else it is read
 * again, a few times. Its final signature and its digest are written into its entry.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { isSystemError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import {
  closeFd,
  ELOOP,
  ENOENT,
  ENOTDIR,
  ENXIO,
  EPERM,
  nameBuffer,
  openFlag,
  readAt,
  statFd,
  systemError,
  tryOpenAt,
  tryOpenBeneath,
  tryReadAt,
  tryReadLinkAt,
  tryStatAt,
} from '../../os/tree-calls.ts'
import { readXattrs, xattrPlace } from '../../os/xattr-calls.ts'
import { blockDigestBytes, entryFlag, isSmall, smallDigestBytes } from './entry-flags.ts'
import { PathError } from './path-error.ts'
import {
  type ReadAnswer,
  type ReadItem,
  type ReadRequest,
  readResultWords,
  readStatus,
} from './scan-protocol.ts'
import { smallDigest } from './small-digest.ts'
import { signatureMatches, TreeBlock, writeSignature } from './tree-block.ts'
import { encodeXattrs } from './xattr-bytes.ts'

const readingsMax = 5
const restMsFirst = 1
/** A file with fewer allocated bytes than this of its size may have holes worth keeping. */
const sparseBytesMin = 64 * 1024

const entryName = nameBuffer()
const before = new StatBuffer()
const after = new StatBuffer()
const rest = new Int32Array(new SharedArrayBuffer(4))
let mayKeepAccessTime = true

export function readEntries(request: ReadRequest): ReadAnswer {
  const count = request.items.reduce((sum, item) => sum + item.entries.length, 0)
  const results = new Int32Array(count * readResultWords)
  const arena = new Arena(request.arena)
  let at = 0
  for (const item of request.items) {
    const path = item.path === '.' ? '' : item.path
    const directory = tryOpenBeneath(request.root, path, openFlag.path | openFlag.directory)
    if (directory < 0) {
      if (!isGone(directory)) throw new PathError(systemError('open', -directory), item.path)
      for (let i = 0; i < item.entries.length; i++, at += readResultWords) results[at] = readStatus.vanished
      continue
    }
    try {
      const reading = new DirectoryReading(item, directory, arena, request.racyMs)
      for (let i = 0; i < item.entries.length; i++, at += readResultWords) reading.read(i, results, at)
    } finally {
      closeFd(directory)
    }
  }
  return { results }
}

/** Memory for what was read, filled from its beginning. */
class Arena {
  readonly bytes: Buffer
  used = 0

  constructor(memory: SharedArrayBuffer) {
    this.bytes = Buffer.from(memory)
  }

  get free(): number {
    return this.bytes.length - this.used
  }
}

class DirectoryReading {
  readonly #item: ReadItem
  readonly #directory: number
  readonly #arena: Arena
  readonly #racyMs: number
  readonly #block: TreeBlock
  readonly #old: TreeBlock | undefined

  constructor(item: ReadItem, directory: number, arena: Arena, racyMs: number) {
    this.#item = item
    this.#directory = directory
    this.#arena = arena
    this.#racyMs = racyMs
    this.#block = new TreeBlock(item.block)
    this.#old = item.old === undefined ? undefined : new TreeBlock(item.old)
  }

  read(number: number, results: Int32Array, at: number): void {
    const i = this.#item.entries[number] as number
    const name = entryName
    const start = this.#block.nameStart(i)
    const length = this.#block.nameLength(i)
    this.#block.bytes.copy(name, 0, start, start + length)
    name[length] = 0
    try {
      const kind = (this.#block.words[this.#block.wordOf(i)] as number) & 0o170000
      if (kind === fileKind.symlink) this.#readLink(i, name, results, at)
      else if (kind === fileKind.directory) this.#readDirectory(i, name, results, at)
      else this.#readFile(number, i, name, results, at)
    } catch (error) {
      const text = this.#block.name(i)
      throw error instanceof PathError
        ? error
        : new PathError(error, this.#item.path === '' ? text : `${this.#item.path}/${text}`)
    }
  }

  #readFile(number: number, i: number, name: Buffer, results: Int32Array, at: number): void {
    const fd = openForReading(this.#directory, name)
    if (fd < 0) {
      if (!isGone(fd)) throw systemError('open', -fd)
      results[at] = readStatus.vanished
      return
    }
    try {
      if (this.#readAsSeen(number, i, fd, results, at)) return
      statFd(fd, before)
      let restMs = restMsFirst
      for (let reading = 1; ; reading++) {
        const size = before.size
        if (before.kind !== fileKind.file) {
          results[at] = readStatus.vanished
          return
        }
        const sparse = size >= sparseBytesMin && before.blocks * 512 < size - 4096
        if (!isSmall(size) || sparse || this.#block.payloadLength(i) !== smallDigestBytes) {
          results[at] = readStatus.large
          return
        }
        // a byte more, to see that it has grown
        if (this.#arena.free < size + 1) {
          results[at] = readStatus.noRoom
          return
        }
        const nowMs = Date.now()
        const start = this.#arena.used
        const length = readAt(fd, this.#arena.bytes.subarray(start, start + size + 1), 0)
        const xattrs = readXattrs(fd)
        statFd(fd, after)
        const still = length === size && sameSignature(before, after)
        if (still || reading === readingsMax) {
          const bytes = Math.min(length, size)
          // the signature from before: what was changed since will be seen
          this.#take(number, i, before, start, bytes, nowMs, still, xattrs, results, at)
          return
        }
        Atomics.wait(rest, 0, 0, restMs)
        restMs *= 2
        statFd(fd, before)
      }
    } finally {
      closeFd(fd)
    }
  }

  /**
   * The usual case, in the fewest calls: statx says after the reading what the entry says of an earlier look, so that
   * nothing was changed in between, up to a tick (which is `racy`). False when it is another case, and nothing was taken.
   */
  #readAsSeen(number: number, i: number, fd: number, results: Int32Array, at: number): boolean {
    const size = this.#block.signature(i).size
    const maybeSparse = size >= sparseBytesMin
    if (maybeSparse || this.#block.payloadLength(i) !== smallDigestBytes || this.#arena.free < size + 1)
      return false
    const nowMs = Date.now()
    const start = this.#arena.used
    // a byte more, to see that it has grown
    if (tryReadAt(fd, this.#arena.bytes.subarray(start, start + size + 1), 0) !== size) return false
    const xattrs = readXattrs(fd)
    statFd(fd, after)
    if (!this.#block.matches(i, after)) return false
    this.#take(number, i, after, start, size, nowMs, true, xattrs, results, at)
    return true
  }

  /** What was read counts, under this signature: tells whether the copy has it already. */
  #take(
    number: number,
    i: number,
    stat: StatBuffer,
    start: number,
    length: number,
    nowMs: number,
    still: boolean,
    xattrs: Record<string, Buffer> | undefined,
    results: Int32Array,
    at: number,
  ): void {
    const data = this.#arena.bytes.subarray(start, start + length)
    const block = this.#block
    const digest = smallDigest(data)
    const same = this.#isSame(number, digest, data)
    block.payload(i).set(digest)
    writeSignature(stat, block.words, block.wordOf(i))
    const racy = !still || changedMs(stat) > nowMs - this.#racyMs
    const keep = block.flags(i) & entryFlag.pending
    block.setFlags(i, keep | (racy ? entryFlag.racy : 0) | (xattrs === undefined ? 0 : entryFlag.xattrs))
    results[at + 1] = start
    results[at + 2] = length
    if (same && still) results[at] = readStatus.same
    else {
      results[at] = still ? readStatus.content : readStatus.restless
      this.#arena.used = start + length
    }
    this.#putXattrs(xattrs, results, at)
  }

  #isSame(number: number, digest: Buffer, data: Buffer): boolean {
    const old = this.#old
    const oldEntry = this.#item.oldEntries[number] as number
    if (old === undefined || oldEntry < 0) return false
    const size = old.signature(oldEntry).size
    if (size !== data.length) return false
    if (size === 0) return true
    const known = old.payload(oldEntry)
    if (known.length === smallDigestBytes) return known.equals(digest)
    return known.length === blockDigestBytes && known.equals(blake3(data))
  }

  #readDirectory(i: number, name: Buffer, results: Int32Array, at: number): void {
    const fd = tryOpenAt(this.#directory, name, openFlag.read | openFlag.directory)
    if (fd < 0) {
      if (!isGone(fd)) throw systemError('open', -fd)
      results[at] = readStatus.vanished
      return
    }
    try {
      const nowMs = Date.now()
      statFd(fd, before)
      this.#takeNode(i, nowMs, readXattrs(fd), results, at)
    } finally {
      closeFd(fd)
    }
  }

  #readLink(i: number, name: Buffer, results: Int32Array, at: number): void {
    const nowMs = Date.now()
    const error = tryStatAt(this.#directory, name, before)
    const target = error < 0 ? error : tryReadLinkAt(this.#directory, name)
    const isLink = typeof target === 'string' && before.kind === fileKind.symlink
    // another target has another inode, or other times: the entry is made anew by the next look
    if (!isLink || target !== this.#block.payload(i).toString('latin1')) {
      results[at] = readStatus.vanished
      return
    }
    let xattrs: Record<string, Buffer> | undefined
    try {
      xattrs = readXattrs(xattrPlace(this.#directory, name))
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) throw error
      results[at] = readStatus.vanished
      return
    }
    this.#takeNode(i, nowMs, xattrs, results, at)
  }

  #takeNode(
    i: number,
    nowMs: number,
    xattrs: Record<string, Buffer> | undefined,
    results: Int32Array,
    at: number,
  ): void {
    const block = this.#block
    writeSignature(before, block.words, block.wordOf(i))
    const racy = changedMs(before) > nowMs - this.#racyMs ? entryFlag.racy : 0
    const keep = block.flags(i) & entryFlag.pending
    block.setFlags(i, keep | racy | (xattrs === undefined ? 0 : entryFlag.xattrs))
    results[at] = readStatus.same
    this.#putXattrs(xattrs, results, at)
  }

  #putXattrs(xattrs: Record<string, Buffer> | undefined, results: Int32Array, at: number): void {
    if (xattrs === undefined) return
    const bytes = encodeXattrs(xattrs)
    if (bytes.length > this.#arena.free) {
      results[at] = readStatus.noRoom
      return
    }
    results[at + 3] = this.#arena.used
    results[at + 4] = bytes.length
    this.#arena.bytes.set(bytes, this.#arena.used)
    this.#arena.used += bytes.length
  }
}

/** A descriptor, or the negative number of the error. Never waits for the other end of a pipe. */
export function openForReading(directory: number, name: Buffer): number {
  const flags = openFlag.read | openFlag.nonBlocking
  if (mayKeepAccessTime) {
    const fd = tryOpenAt(directory, name, flags | openFlag.noAccessTime)
    if (fd !== -(EPERM as number)) return fd
    // only the owner may: one refusal and we do not ask again for each of a million files
    if (process.geteuid?.() !== 0) mayKeepAccessTime = false
  }
  return tryOpenAt(directory, name, flags)
}

/** There is nothing, or nothing of its kind any more: a file that is a link now, a directory that is a file. */
export function isGone(error: number): boolean {
  return goneErrors.includes(-error)
}

const goneErrors: readonly (number | undefined)[] = [ENOENT, ENOTDIR, ELOOP, ENXIO]

function changedMs(stat: StatBuffer): number {
  const seconds = stat.ctimeSecondsLow + stat.ctimeSecondsHigh * 2 ** 32
  return seconds * 1000 + stat.ctimeNanoseconds / 1e6
}

const signature = new Int32Array(16)

function sameSignature(one: StatBuffer, other: StatBuffer): boolean {
  writeSignature(one, signature, 0)
  return signatureMatches(other, signature, 0)
}
