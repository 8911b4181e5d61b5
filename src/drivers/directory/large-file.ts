/**
 * Gives the entries of one large file, or of one with holes: only the blocks that the copy does not have, in place; or a
 * new version, when nothing of the copy's can be built on. Holes of what is new to the copy are not sent.
 *
 * What changes while it is read is read again while writers are held; else it is `racy`, and the next pass finds what is
 * different. The digests that are recorded are always those of what was given.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { describeSystemError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import {
  closeFd,
  EPERM,
  nextData,
  nextHole,
  openFlag,
  readAt,
  statFd,
  systemError,
  tryOpenBeneath,
} from '../../os/tree-calls.ts'
import { readXattrs } from '../../os/xattr-calls.ts'
import { type Change, displayPath, type EntryPath, type StoreName } from '../../stream/entry.ts'
import { type Arena, type ArenaPool, arenaBytes } from './arena-pool.ts'
import { attributesChange, sameMetadata, type Xattrs } from './entry-attributes.ts'
import { blockBytes, blockDigestBytes, entryFlag, isSmall } from './entry-flags.ts'
import type { ScanPool } from './scan-pool.ts'
import type { BlocksAnswer } from './scan-protocol.ts'
import { isGone } from './scan-read.ts'
import { smallDigest } from './small-digest.ts'
import { Signature } from './tree-block.ts'

const blocksAtOnce = arenaBytes / blockBytes
const requestsEach = 3
/** While writers are held. */
const readingsMax = 4

/** What the copy has of a file. */
export interface KnownFile {
  readonly size: number
  readonly payload: Uint8Array
  readonly flags: number
  readonly signature: Signature
}

export interface LargeFileOptions {
  readonly store: StoreName
  readonly pool: ScanPool
  readonly root: number
  readonly arenas: ArenaPool
  readonly racyMs: number
  readonly held: boolean
  readonly signal: AbortSignal
  readonly path: string
  /** What the copy has, that can be built on. */
  readonly old: KnownFile | undefined
  readonly isNew: boolean
}

export interface LargeFileOutcome {
  readonly signature: Signature
  readonly payload: Uint8Array
  readonly flags: number
  /** Something of the content was given. */
  readonly content: boolean
  readonly replaced: boolean
  readonly bytes: number
  /** False: it shrank while it was read, and what was given is not a version of it. */
  readonly whole: boolean
  readonly restless: boolean
}

let zeroDigest: Buffer | undefined

export class LargeFile {
  readonly #options: LargeFileOptions
  readonly #path: EntryPath
  #bytes = 0
  #content = false
  /** Undefined when there was no file. */
  outcome: LargeFileOutcome | undefined

  constructor(options: LargeFileOptions) {
    this.#options = options
    this.#path = options.path as EntryPath
  }

  async *entries(): AsyncGenerator<Change> {
    const { root, path } = this.#options
    let fd = tryOpenBeneath(root, path, openFlag.read | openFlag.nonBlocking | openFlag.noAccessTime)
    if (fd === -(EPERM as number)) fd = tryOpenBeneath(root, path, openFlag.read | openFlag.nonBlocking)
    if (fd < 0) {
      if (isGone(fd)) return
      throw describeSystemError(systemError('open', -fd), `Reading ${displayPath(path)}`)
    }
    try {
      yield* this.#open(fd)
    } finally {
      closeFd(fd)
    }
  }

  async *#open(fd: number): AsyncGenerator<Change> {
    const stat = new StatBuffer()
    statFd(fd, stat)
    if (stat.kind !== fileKind.file) return
    if (isSmall(stat.size)) yield* this.#small(fd, stat)
    else yield* this.#large(fd, stat)
  }

  async *#large(fd: number, stat: StatBuffer): AsyncGenerator<Change> {
    const { store, old, isNew, held, racyMs } = this.#options
    const path = this.#path
    let known = old === undefined ? undefined : this.#knownDigests(old)
    let knownSize = known === undefined ? 0 : (old?.size ?? 0)
    const replaces = known === undefined && !isNew
    if (replaces) yield this.#begin('replace')
    for (let reading = 1; ; reading++) {
      const nowMs = Date.now()
      const signature = Signature.of(stat)
      const { size } = signature
      if (known !== undefined && size !== knownSize) yield this.#truncate(size)
      const digests = Buffer.alloc(Math.ceil(size / blockBytes) * blockDigestBytes)
      const read = yield* this.#blocks(fd, size, digests, known, Math.min(knownSize, size))
      if (known === undefined && read.end < size) {
        if (read.end === 0) yield this.#write(0, Buffer.alloc(0), undefined)
        yield this.#truncate(size)
      }
      known = digests
      knownSize = size
      const xattrs = readXattrs(fd)
      statFd(fd, stat)
      const still = Signature.of(stat).equals(signature)
      const whole = read.bytes >= size
      if (!still && held && reading < readingsMax && !isSmall(stat.size)) continue
      yield* this.#end(signature, xattrs)
      if (replaces) yield { type: 'replaced', store, path }
      const racy = !still || isRacy(signature, nowMs, racyMs)
      this.#conclude(signature, digests, racy, xattrs, replaces, whole, !still)
      return
    }
  }

  /** One that has holes, or that shrank since it was seen: the digest is that of small files. */
  *#small(fd: number, stat: StatBuffer): Generator<Change> {
    const { store, old, isNew, racyMs } = this.#options
    const path = this.#path
    for (let reading = 1; ; reading++) {
      const nowMs = Date.now()
      const signature = Signature.of(stat)
      const { size } = signature
      const data = Buffer.alloc(size)
      const length = readAt(fd, data, 0)
      const extents = dataExtents(fd, size)
      const xattrs = readXattrs(fd)
      statFd(fd, stat)
      const still = length === size && Signature.of(stat).equals(signature)
      if (!still && reading < readingsMax && isSmall(stat.size)) continue
      const digest = smallDigest(data)
      const same =
        old?.size === size && (size === 0 || digest.equals(old.payload) || isBlake3(data, old.payload))
      const replaces = !same && !isNew
      if (replaces) yield this.#begin('replace')
      if (!same) {
        let end = 0
        for (const [from, to] of extents) {
          yield this.#write(from, data.subarray(from, to), undefined)
          end = to
        }
        if (end === 0 && isNew) yield this.#write(0, Buffer.alloc(0), undefined)
        if (end < size) yield this.#truncate(size)
      }
      yield* this.#end(signature, xattrs)
      if (replaces) yield { type: 'replaced', store, path }
      const racy = !still || isRacy(signature, nowMs, racyMs)
      this.#conclude(signature, digest, racy, xattrs, replaces, length === size, !still)
      return
    }
  }

  #begin(type: 'replace'): Change {
    this.#content = true
    return { type, store: this.#options.store, path: this.#path }
  }

  *#end(signature: Signature, xattrs: Xattrs | undefined): Generator<Change> {
    const { store, old, isNew } = this.#options
    const had = old === undefined ? !isNew : (old.flags & entryFlag.xattrs) !== 0
    const told = xattrs ?? (had ? {} : undefined)
    const differs = old === undefined || !sameMetadata(old.signature, signature)
    if (this.#content || differs || told !== undefined)
      yield attributesChange(store, this.#path, signature, told)
  }

  #conclude(
    signature: Signature,
    payload: Uint8Array,
    racy: boolean,
    xattrs: Xattrs | undefined,
    replaced: boolean,
    whole: boolean,
    restless: boolean,
  ): void {
    const flags = (racy ? entryFlag.racy : 0) | (xattrs === undefined ? 0 : entryFlag.xattrs)
    const content = this.#content
    this.outcome = { signature, payload, flags, content, replaced, bytes: this.#bytes, whole, restless }
  }

  /** Digests of the copy's blocks, if it has any that can be compared. */
  #knownDigests({ size, payload }: KnownFile): Uint8Array | undefined {
    return size > 0 && payload.length === Math.ceil(size / blockBytes) * blockDigestBytes
      ? payload
      : undefined
  }

  #truncate(size: number): Change {
    this.#content = true
    return { type: 'truncate', store: this.#options.store, path: this.#path, size }
  }

  async *#blocks(
    fd: number,
    size: number,
    digests: Buffer,
    known: Uint8Array | undefined,
    knownSize: number,
  ): AsyncGenerator<Change, { bytes: number; end: number }> {
    const { pool, arenas, signal } = this.#options
    const blocks = Math.ceil(size / blockBytes)
    const ahead: { readonly first: number; readonly arena: Arena; readonly answer: Promise<BlocksAnswer> }[] =
      []
    let next = 0
    let bytes = 0
    let end = 0
    try {
      for (;;) {
        while (next < blocks && ahead.length < pool.threads * requestsEach) {
          if (known === undefined) {
            const skipped = this.#skipHole(fd, next, size, digests)
            bytes += skipped.bytes
            next = skipped.next
            if (next >= blocks) break
          }
          const arena = arenas.take()
          const count = Math.min(blocksAtOnce, blocks - next)
          const request = {
            kind: 'blocks',
            fd,
            firstBlock: next,
            blocks: count,
            end: size,
            old: known,
          } as const
          const answer = pool.blocks({ ...request, oldSize: knownSize, arena: arena.memory })
          answer.catch(() => undefined)
          ahead.push({ first: next, arena, answer })
          next += count
        }
        const reading = ahead.shift()
        if (reading === undefined) return { bytes, end }
        signal.throwIfAborted()
        const answer = await reading.answer
        digests.set(answer.digests, reading.first * blockDigestBytes)
        bytes += answer.bytes
        const { segments } = answer
        for (let at = 0; at < segments.length; at += 3) {
          const [offset, place, length] = segments.subarray(at, at + 3) as unknown as [number, number, number]
          yield this.#write(offset, reading.arena.view(place, length), reading.arena.giveBack)
          end = Math.max(end, offset + length)
        }
        reading.arena.done()
      }
    } finally {
      await Promise.allSettled(ahead.map(reading => reading.answer))
    }
  }

  /** Blocks of nothing but a hole are not read. */
  #skipHole(fd: number, first: number, size: number, digests: Buffer): { next: number; bytes: number } {
    const data = nextData(fd, first * blockBytes) ?? size
    const next = data >= size ? Math.ceil(size / blockBytes) : Math.floor(data / blockBytes)
    if (next <= first) return { next: first, bytes: 0 }
    zeroDigest ??= blake3(Buffer.alloc(blockBytes))
    for (let block = first; block < next; block++) {
      const length = Math.min(blockBytes, size - block * blockBytes)
      const digest = length === blockBytes ? zeroDigest : blake3(Buffer.alloc(length))
      digests.set(digest, block * blockDigestBytes)
    }
    return { next, bytes: Math.min(next * blockBytes, size) - first * blockBytes }
  }

  #write(offset: number, data: Buffer, recycle: (() => void) | undefined): Change {
    this.#content = true
    this.#bytes += data.length
    const write = { type: 'write', store: this.#options.store, path: this.#path, offset, data } as const
    return recycle === undefined ? write : { ...write, recycle }
  }
}

function isRacy(signature: Signature, nowMs: number, racyMs: number): boolean {
  return Number(signature.ctimeNs / 1000n) / 1000 > nowMs - racyMs
}

function isBlake3(data: Buffer, payload: Uint8Array): boolean {
  return payload.length === blockDigestBytes && blake3(data).equals(payload)
}

/** What is not a hole, as pairs of beginning and end. */
function dataExtents(fd: number, size: number): [from: number, to: number][] {
  const extents: [number, number][] = []
  for (let at = 0; at < size; ) {
    const from = nextData(fd, at)
    if (from === undefined || from >= size) break
    const to = Math.min(nextHole(fd, from) ?? size, size)
    if (to <= from) break
    extents.push([from, to])
    at = to
  }
  return extents
}
