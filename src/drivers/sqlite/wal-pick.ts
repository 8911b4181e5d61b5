/**
 * Takes of a stretch of a log only the newest version of each page: which frame has it tells the engine's index of the
 * log. Where an application writes the same pages over and over, that is a small part of what the log has.
 *
 * Invariant: each frame that is taken has the log's salts, the page that the index names, and a checksum that runs on
 * from the frame before it; and the index was that of this log after its entries had been read, so none is of another
 * log. Whatever is not so is left to who reads the stretch frame by frame, and proves or names what is wrong.
 */
import { readSync } from 'node:fs'
import {
  frameChecksum,
  frameHeaderBytes,
  frameOffset,
  parseFrameHeader,
  sameChecksum,
  type WalChecksum,
  type WalHeader,
} from './wal-format.ts'

/** In fewer frames than this there is little to leave out. */
const framesMin = 16
/** A longer stretch is taken in parts, so that each is handed on soon. */
const framesMax = 4096
/** Memory for the pages of a stretch. */
const pickedBytesMax = 2 * 1024 * 1024
/** Of a stretch that is taken in parts, so many frames are looked at for the end of a transaction. */
const commitLooksMax = 64
const checksumOffset = 16
const checksumBytes = 8

export interface FrameIndex {
  /** The page of a committed frame. */
  page(frame: number): number
  /** The index is still that of the same log. */
  isCurrent(): boolean
}

export interface Stretch {
  readonly fd: number
  readonly header: WalHeader
  /** After this frame, up to that one, which is a transaction's last. */
  readonly after: number
  readonly last: number
}

export interface Picked {
  /** In ascending order. The data is valid as long as the buffer. */
  readonly pages: ReadonlyMap<number, Buffer>
  /** The last frame of the stretch that was taken, and the size of the database after it. */
  readonly frame: number
  readonly checksum: WalChecksum
  readonly databasePages: number
}

/** Undefined where reading frame by frame is as good, or where something is not as it should be. */
export function pickPages(
  stretch: Stretch,
  index: FrameIndex,
  buffer: (bytes: number) => Buffer,
): Picked | undefined {
  const { fd, header, after } = stretch
  if (stretch.last - after < framesMin) return undefined
  const end = stretchEnd(stretch)
  if (end === undefined) return undefined
  const newest = newestFrames(index, after, end.frame)
  const frameBytes = frameHeaderBytes + header.pageBytes
  const isWorthIt = newest.size * 2 <= end.frame - after && newest.size * frameBytes <= pickedBytesMax
  if (!isWorthIt || !index.isCurrent() || newest.has(0)) return undefined
  const pages = [...newest.keys()].sort((a, b) => a - b)
  // a frame is read together with the one before it, of which the checksum is wanted: from the last place down, so that
  // what is in the way is overwritten by what belongs there
  const lead = frameBytes - checksumOffset
  const bytes = buffer(lead + pages.length * frameBytes)
  const picked: [number, Buffer][] = []
  for (let i = pages.length - 1; i >= 0; i--) {
    const page = pages[i] as number
    const at = lead + i * frameBytes
    if (!readFrame(fd, header, newest.get(page) as number, page, bytes, at)) return undefined
    picked.push([page, bytes.subarray(at + frameHeaderBytes, at + frameBytes)])
  }
  return { pages: new Map(picked.reverse()), ...end }
}

/** The last commit of the stretch, or of a part of it that is not too long. */
function stretchEnd({ fd, header, after, last }: Stretch): Omit<Picked, 'pages'> | undefined {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes)
  const from = Math.min(last, after + framesMax)
  for (let frame = from; frame > Math.max(after, from - commitLooksMax); frame--) {
    const offset = frameOffset(frame, header.pageBytes)
    if (readSync(fd, bytes, 0, frameHeaderBytes, offset) < frameHeaderBytes) return undefined
    const { salt1, salt2, commitPages, checksum } = parseFrameHeader(bytes, 0)
    if (salt1 !== header.salt1 || salt2 !== header.salt2) return undefined
    if (commitPages > 0) return { frame, checksum, databasePages: commitPages }
  }
  return undefined
}

function newestFrames(index: FrameIndex, after: number, last: number): Map<number, number> {
  const newest = new Map<number, number>()
  for (let frame = after + 1; frame <= last; frame++) newest.set(index.page(frame), frame)
  return newest
}

/** Reads a frame to `at`, over what stands before it there; true when it is what it should be. */
function readFrame(
  fd: number,
  header: WalHeader,
  frame: number,
  page: number,
  bytes: Buffer,
  at: number,
): boolean {
  const frameBytes = frameHeaderBytes + header.pageBytes
  const isFirst = frame === 1
  const before = isFirst ? 0 : frameBytes - checksumOffset
  const offset = frameOffset(frame, header.pageBytes) - before
  if (readSync(fd, bytes, at - before, before + frameBytes, offset) < before + frameBytes) return false
  const start = isFirst ? header.checksum : readChecksum(bytes, at - before)
  const found = parseFrameHeader(bytes, at)
  return (
    found.page === page &&
    found.salt1 === header.salt1 &&
    found.salt2 === header.salt2 &&
    sameChecksum(frameChecksum(bytes, at, header, start), found.checksum)
  )
}

function readChecksum(bytes: Buffer, at: number): WalChecksum {
  return { s1: bytes.readUInt32BE(at), s2: bytes.readUInt32BE(at + checksumBytes / 2) }
}
