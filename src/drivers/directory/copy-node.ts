/** What a copy has under one name, with all metadata; and its bytes in the record. */
import { HotspareError } from '../../os/errors.ts'
import type { StatBuffer } from '../../os/stat-buffer.ts'
import type { ByteReader, ByteWriter } from '../../stream/bytes.ts'

export const blockBytes = 1024 * 1024
export const digestBytes = 32

/** By name in latin1, in ascending order. */
export type Xattrs = ReadonlyMap<string, Uint8Array>

export const noXattrs: Xattrs = new Map()

export interface Metadata {
  mode: number
  uid: number
  gid: number
  /** Since 1970; may be negative. */
  mtimeSeconds: number
  mtimeNanoseconds: number
  /** Somebody asked for the time of modification; else it is whatever the copy's own is. */
  timed: boolean
  xattrs: Xattrs
}

abstract class AnyNode implements Metadata {
  mode: number
  uid = 0
  gid = 0
  mtimeSeconds = 0
  mtimeNanoseconds = 0
  timed = false
  xattrs: Xattrs = noXattrs

  constructor(mode: number) {
    this.mode = mode
  }
}

/** A plain file: one object for all its names. */
export class FileNode extends AnyNode {
  readonly kind = 'file'
  size = 0
  /** Of each block of 1 MiB, one after another; the buffer may be longer. */
  digests: Buffer = noBytes
  /** Blocks whose digest is not known; undefined: none. */
  stale: Set<number> | undefined
  /** The copy's own: by these it is known whether somebody changed it. */
  inodeLow = 0
  inodeHigh = 0
  ctimeSeconds = 0
  ctimeNanoseconds = 0
  /** The mark is that of the file as it is now. */
  marked = false
  /** Names the hard-link group in the record; 0: it has one name. */
  group = 0
  /** Of the transaction that made it (see copy-engine.ts); 0: it was loaded. */
  epoch = 0
  /** Bytes that a commit counts on. */
  committedSize = 0

  constructor() {
    super(0o600)
  }

  get blocks(): number {
    return Math.ceil(this.size / blockBytes)
  }

  digest(block: number): Buffer {
    return this.digests.subarray(block * digestBytes, (block + 1) * digestBytes)
  }

  setDigest(block: number, digest: Uint8Array): void {
    const end = (block + 1) * digestBytes
    if (this.digests.length < end) {
      if (block === 0 && digest.length === digestBytes) {
        this.digests = Buffer.isBuffer(digest)
          ? digest
          : Buffer.from(digest.buffer, digest.byteOffset, digestBytes)
        return
      }
      const grown = Buffer.alloc(Math.max(end, this.digests.length * 2))
      this.digests.copy(grown)
      this.digests = grown
    }
    this.digests.set(digest, block * digestBytes)
  }

  clone(): FileNode {
    const copy = new FileNode()
    copyMetadata(this, copy)
    copy.size = this.size
    copy.digests = Buffer.from(this.digests.subarray(0, this.blocks * digestBytes))
    copy.stale = this.stale === undefined ? undefined : new Set(this.stale)
    copy.inodeLow = this.inodeLow
    copy.inodeHigh = this.inodeHigh
    copy.ctimeSeconds = this.ctimeSeconds
    copy.ctimeNanoseconds = this.ctimeNanoseconds
    copy.marked = this.marked
    copy.committedSize = this.committedSize
    return copy
  }

  /** Takes the mark, and what nobody asked for, from what is there. */
  mark(stat: StatBuffer): void {
    this.inodeLow = stat.inodeLow
    this.inodeHigh = stat.inodeHigh
    this.ctimeSeconds = secondsOf(stat.ctimeSecondsLow, stat.ctimeSecondsHigh)
    this.ctimeNanoseconds = stat.ctimeNanoseconds
    this.marked = true
    if (!this.timed) takeTime(this, stat)
  }

  isInode(stat: StatBuffer): boolean {
    return stat.inodeLow === this.inodeLow && stat.inodeHigh === this.inodeHigh
  }

  isAsMarked(stat: StatBuffer): boolean {
    return (
      this.isInode(stat) &&
      stat.size === this.size &&
      stat.ctimeNanoseconds === this.ctimeNanoseconds &&
      secondsOf(stat.ctimeSecondsLow, stat.ctimeSecondsHigh) === this.ctimeSeconds
    )
  }
}

export class DirectoryNode extends AnyNode {
  readonly kind = 'directory'

  constructor() {
    super(0o700)
  }
}

export class SymlinkNode extends AnyNode {
  readonly kind = 'symlink'
  /** Bytes in latin1. */
  readonly target: string

  constructor(target: string) {
    super(0o777)
    this.target = target
  }
}

/** A pipe, socket or device, found when a copy was taken over. */
export class OtherNode {
  readonly kind = 'other'
}

export type CopyNode = FileNode | DirectoryNode | SymlinkNode | OtherNode
export type AttributedNode = Exclude<CopyNode, OtherNode>

const noBytes = Buffer.alloc(0)

export function secondsOf(low: number, high: number): number {
  return (low >>> 0) + high * 2 ** 32
}

export function copyMetadata(from: Metadata, to: Metadata): void {
  to.mode = from.mode
  to.uid = from.uid
  to.gid = from.gid
  to.mtimeSeconds = from.mtimeSeconds
  to.mtimeNanoseconds = from.mtimeNanoseconds
  to.timed = from.timed
  to.xattrs = from.xattrs
}

export function takeTime(node: Metadata, stat: StatBuffer): void {
  node.mtimeSeconds = secondsOf(stat.mtimeSecondsLow, stat.mtimeSecondsHigh)
  node.mtimeNanoseconds = stat.mtimeNanoseconds
}

export function sameXattrs(a: Xattrs, b: Xattrs): boolean {
  if (a.size !== b.size) return false
  for (const [name, value] of a) {
    const other = b.get(name)
    if (other === undefined || Buffer.compare(value, other) !== 0) return false
  }
  return true
}

export function toXattrs(given: Readonly<Record<string, Uint8Array>>): Xattrs {
  const names = Object.keys(given).sort()
  if (names.length === 0) return noXattrs
  return new Map(names.map(name => [name, given[name] as Uint8Array]))
}

// ---- bytes

const kindByte = { file: 1, directory: 2, symlink: 3, other: 4 } as const
const flag = { timed: 16, xattrs: 32, marked: 64 } as const

export function writeNode(writer: ByteWriter, node: CopyNode): void {
  if (node.kind === 'other') {
    writer.u8(kindByte.other)
    return
  }
  let first: number = kindByte[node.kind]
  if (node.timed) first |= flag.timed
  if (node.xattrs.size > 0) first |= flag.xattrs
  if (node.kind === 'file' && node.marked) first |= flag.marked
  writer.u8(first).integer(node.mode).integer(node.uid).integer(node.gid)
  writer.float64(node.mtimeSeconds).integer(node.mtimeNanoseconds)
  if (node.xattrs.size > 0) writeXattrs(writer, node.xattrs)
  if (node.kind === 'symlink') writer.latin1(node.target)
  if (node.kind !== 'file') return
  writer.integer(node.size)
  if (node.marked) {
    writer.integer(node.inodeLow).integer(node.inodeHigh)
    writer.float64(node.ctimeSeconds).integer(node.ctimeNanoseconds)
  }
  writer.raw(node.digests.subarray(0, node.blocks * digestBytes))
}

export function readNode(reader: ByteReader): CopyNode {
  const first = reader.u8('the kind of a node')
  const kind = first & 15
  if (kind === kindByte.other) return new OtherNode()
  const mode = reader.integer('the mode')
  const uid = reader.integer('the owner')
  const gid = reader.integer('the group')
  const mtimeSeconds = reader.float64('the time')
  const mtimeNanoseconds = reader.integer('the time')
  const xattrs = (first & flag.xattrs) === 0 ? noXattrs : readXattrs(reader)
  const node =
    kind === kindByte.file
      ? new FileNode()
      : kind === kindByte.directory
        ? new DirectoryNode()
        : kind === kindByte.symlink
          ? new SymlinkNode(reader.latin1('a link', 64 * 1024))
          : undefined
  if (node === undefined) throw new HotspareError('entry-invalid', `a node of kind ${kind}`)
  node.mode = mode
  node.uid = uid
  node.gid = gid
  node.mtimeSeconds = mtimeSeconds
  node.mtimeNanoseconds = mtimeNanoseconds
  node.timed = (first & flag.timed) !== 0
  node.xattrs = xattrs
  if (node.kind !== 'file') return node
  node.size = reader.integer('the size')
  node.committedSize = node.size
  if ((first & flag.marked) !== 0) {
    node.marked = true
    node.inodeLow = reader.integer('the inode')
    node.inodeHigh = reader.integer('the inode')
    node.ctimeSeconds = reader.float64('the time of change')
    node.ctimeNanoseconds = reader.integer('the time of change')
  }
  node.digests = reader.raw('the digests', node.blocks * digestBytes)
  return node
}

function writeXattrs(writer: ByteWriter, xattrs: Xattrs): void {
  writer.integer(xattrs.size)
  for (const [name, value] of xattrs) writer.latin1(name).bytes(value)
}

function readXattrs(reader: ByteReader): Xattrs {
  const xattrs = new Map<string, Uint8Array>()
  const count = reader.integer('the number of extended attributes')
  for (let i = 0; i < count; i++) {
    const name = reader.latin1('the name of an extended attribute', 4096)
    xattrs.set(name, reader.bytes('an extended attribute', 16 * 1024 * 1024))
  }
  return xattrs
}
