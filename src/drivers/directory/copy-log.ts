/**
 * The log of a copy's state, a file of numbered groups, each counting as a whole or not at all. A group has a status
 * (commits, and what is being done) and what changed of the record and of what is pending.
 *
 *     offset  bytes
 *          0      8  'hsCOPY01'
 *          8      8  number of the group, from 1
 *         16      8  bytes of its sections
 *         24      8  xxh64 of the sections
 *         32      8  xxh64 of these 32 bytes
 *         40         sections: 1 byte type, 6 bytes length, the section
 *
 * Behind the last group stands a closing (copy-closing.ts) when its sync had succeeded and the log was closed in order; else
 * the last group is written again at the next opening, because after a sync that failed bytes can be read and yet be lost.
 *
 * Invariant: a group is written only when the content that it tells of is durable. A crash leaves at most a torn last
 * group, which then counts as not written; damage before a later group is named (`state-damaged`).
 */
import { xxh64 } from '@node-rs/xxhash'
import { HotspareError } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { cName, ENOENT, openFlag, systemError } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'
import { closedMark, encodeClosing, logName } from './copy-closing.ts'
import type { SectionWriter } from './copy-record.ts'

const magic = Buffer.from('hsCOPY01', 'latin1')
const headBytes = 40
const readBytesMax = 64 * 1024 * 1024
const temporaryName = cName('state.log.tmp')

export interface LoadedLog {
  readonly groups: readonly Buffer[]
  readonly end: number
  readonly lastStart: number
  /** Of the first group, which is all there was when the log was written anew. */
  readonly firstBytes: number
  readonly closed: boolean
}

/** Reads the log in a sidecar, also while somebody appends to it; undefined when there is none. */
export function loadLog(calls: CopyCalls, sidecar: number): LoadedLog | undefined {
  for (let attempt = 1; ; attempt++) {
    try {
      return loadOnce(calls, sidecar)
    } catch (error) {
      // a group that is just being written can look damaged from outside, once
      const damaged = error instanceof HotspareError && error.code === 'state-damaged'
      if (!damaged || attempt === 3) throw error
    }
  }
}

function loadOnce(calls: CopyCalls, sidecar: number): LoadedLog | undefined {
  const bytes = readLog(calls, sidecar)
  if (bytes === undefined) return undefined
  const groups: Buffer[] = []
  let at = 0
  let lastStart = 0
  let firstBytes = 0
  for (;;) {
    const group = readGroup(bytes, at, groups.length + 1)
    if (group === undefined) break
    groups.push(group)
    lastStart = at
    at += headBytes + group.length
    if (groups.length === 1) firstBytes = at
  }
  const closed = bytes.compare(closedMark, 0, 8, at, Math.min(at + 8, bytes.length)) === 0
  if (groups.length === 0 || (!closed && laterGroup(bytes, at, groups.length + 1))) throw damagedLog(at)
  return { groups, end: at, lastStart, firstBytes, closed }
}

function readLog(calls: CopyCalls, sidecar: number): Buffer | undefined {
  const fd = calls.tryOpenAt(sidecar, logName, openFlag.read)
  if (fd === -(ENOENT as number)) return undefined
  if (fd < 0) throw systemError('openat', -fd, 'state.log')
  try {
    const stat = new StatBuffer()
    calls.statFd(fd, stat)
    const bytes = Buffer.allocUnsafeSlow(stat.size)
    let done = 0
    while (done < bytes.length) {
      const length = calls.readAt(fd, bytes.subarray(done, done + readBytesMax), done)
      if (length === 0) break
      done += length
    }
    return bytes.subarray(0, done)
  } finally {
    calls.closeFd(fd)
  }
}

function readGroup(bytes: Buffer, at: number, number: number): Buffer | undefined {
  const head = readHead(bytes, at)
  if (head === undefined || head.number !== number) return undefined
  const sections = bytes.subarray(at + headBytes, at + headBytes + head.length)
  if (sections.length < head.length) return undefined
  return xxh64(sections) === bytes.readBigUInt64LE(at + 24) ? sections : undefined
}

function readHead(bytes: Buffer, at: number): { number: number; length: number } | undefined {
  if (at + headBytes > bytes.length || bytes.compare(magic, 0, 8, at, at + 8) !== 0) return undefined
  if (xxh64(bytes.subarray(at, at + 32)) !== bytes.readBigUInt64LE(at + 32)) return undefined
  return { number: Number(bytes.readBigUInt64LE(at + 8)), length: Number(bytes.readBigUInt64LE(at + 16)) }
}

/** True when a whole group that comes later stands behind a place: then what is there is damage, and no torn end. */
function laterGroup(bytes: Buffer, at: number, number: number): boolean {
  for (let from = at + 1; ; ) {
    const found = bytes.indexOf(magic, from)
    if (found < 0) return false
    const head = readHead(bytes, found)
    if (head !== undefined && head.number > number && readGroup(bytes, found, head.number) !== undefined)
      return true
    from = found + 1
  }
}

export function damagedLog(
  offset: number,
  what = 'what stands there is not what was written',
): HotspareError {
  return new HotspareError(
    'state-damaged',
    `The copy's state, 'state.log' in its sidecar, is damaged at offset ${offset}: ${what}. Use --resync to compare the copy with its source anew.`,
    { details: { offset } },
  )
}

function encodeGroup(number: number, sections: SectionWriter): Buffer {
  const group = Buffer.concat([Buffer.alloc(headBytes), ...sections.parts])
  magic.copy(group)
  group.writeBigUInt64LE(BigInt(number), 8)
  group.writeBigUInt64LE(BigInt(sections.length), 16)
  group.writeBigUInt64LE(xxh64(group.subarray(headBytes)), 24)
  group.writeBigUInt64LE(xxh64(group.subarray(0, 32)), 32)
  return group
}

/** Appends to the log of one sidecar. After a failure it must be closed and loaded again. */
export class CopyLog {
  readonly #calls: CopyCalls
  readonly #sidecar: number
  #fd: number
  #end: number
  #groups: number
  /** What a log that is written anew would have, about: the bytes of what was written last that took the place of nothing. */
  #saidBytes: number
  #marked: boolean
  #failed = false

  private constructor(
    calls: CopyCalls,
    sidecar: number,
    fd: number,
    { end, groups, firstBytes, closed }: Omit<LoadedLog, 'groups' | 'lastStart'> & { groups: number },
  ) {
    this.#calls = calls
    this.#sidecar = sidecar
    this.#fd = fd
    this.#end = end
    this.#groups = groups
    this.#saidBytes = firstBytes
    this.#marked = closed
  }

  /** Goes on behind what was loaded; what follows it is cut off. */
  static open(calls: CopyCalls, sidecar: number, loaded: LoadedLog): CopyLog {
    const fd = calls.openAt(sidecar, logName, openFlag.readWrite)
    try {
      const log = new CopyLog(calls, sidecar, fd, { ...loaded, groups: loaded.groups.length })
      if (!loaded.closed) {
        calls.truncateFd(fd, loaded.end)
        const last = Buffer.alloc(loaded.end - loaded.lastStart)
        if (calls.readAt(fd, last, loaded.lastStart) < last.length) throw damagedLog(loaded.lastStart)
        calls.writeAt(fd, last, loaded.lastStart)
        calls.syncFd(fd)
      }
      return log
    } catch (error) {
      calls.closeFd(fd)
      throw error
    }
  }

  /** Begins a log of one group, in place of any there was; durable when it returns. */
  static create(calls: CopyCalls, sidecar: number, sections: SectionWriter): CopyLog {
    const { fd, bytes } = writeAnew(calls, sidecar, sections)
    return new CopyLog(calls, sidecar, fd, { end: bytes, groups: 1, firstBytes: bytes, closed: false })
  }

  /** Durable when it returns. `adds`: it tells of new things only, and takes the place of nothing. */
  append(sections: SectionWriter, adds = false): void {
    this.#failed = true
    const calls = this.#calls
    if (this.#marked) calls.truncateFd(this.#fd, this.#end)
    this.#marked = false
    const group = encodeGroup(this.#groups + 1, sections)
    calls.writeAt(this.#fd, group, this.#end)
    calls.syncContent(this.#fd)
    this.#end += group.length
    if (adds) this.#saidBytes = this.#end
    this.#groups++
    this.#failed = false
  }

  /** Time to write it anew: it has grown by as much again as it says, so that this costs no more than the growing. */
  get isLarge(): boolean {
    const grown = this.#end - this.#saidBytes
    return grown > Math.max(1024 * 1024, this.#saidBytes)
  }

  rewrite(sections: SectionWriter): void {
    this.#failed = true
    const { fd, bytes } = writeAnew(this.#calls, this.#sidecar, sections)
    this.#calls.closeFd(this.#fd)
    this.#fd = fd
    this.#end = bytes
    this.#saidBytes = bytes
    this.#groups = 1
    this.#marked = false
    this.#failed = false
  }

  /** `status`: what the copy has by the last group, when nothing failed, here or above. */
  close(status: Uint8Array | undefined): void {
    try {
      // only after syncs that succeeded, and itself worth nothing but time: so it is not synced
      if (status !== undefined && !this.#failed && !this.#marked)
        this.#calls.writeAt(this.#fd, encodeClosing(this.#end, status), this.#end)
    } catch {
      // without the mark, or with a part of it, the next opening does more than it must, and nothing else
    } finally {
      this.#calls.closeFd(this.#fd)
    }
  }
}

function writeAnew(
  calls: CopyCalls,
  sidecar: number,
  sections: SectionWriter,
): { fd: number; bytes: number } {
  const flags = openFlag.readWrite | openFlag.create | openFlag.truncate
  const fd = calls.openAt(sidecar, temporaryName, flags, 0o600)
  try {
    const bytes = encodeGroup(1, sections)
    calls.writeAt(fd, bytes, 0)
    calls.syncFd(fd)
    const renamed = calls.tryRenameAt(sidecar, temporaryName, sidecar, logName)
    if (renamed < 0) throw systemError('renameat2', -renamed, 'state.log.tmp')
    calls.syncFd(sidecar)
    return { fd, bytes: bytes.length }
  } catch (error) {
    calls.closeFd(fd)
    throw error
  }
}
