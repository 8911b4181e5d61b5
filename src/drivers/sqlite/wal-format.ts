/**
 * The bytes of a SQLite write-ahead log, from https://sqlite.org/fileformat2.html#walformat: a 32-byte header, then
 * frames of a 24-byte header and one page. Everything is big-endian but the words that the checksum runs over, whose
 * byte order the magic number tells.
 */
import { assert } from '../../os/errors.ts'

export const walHeaderBytes = 32
export const frameHeaderBytes = 24
const magicLittle = 0x377f0682
const magicBig = 0x377f0683
const formatVersion = 3007000

export interface WalHeader {
  /** Checksums run over big-endian words. */
  readonly bigEndian: boolean
  readonly pageBytes: number
  readonly checkpointSequence: number
  /** One more at each restart of the log. */
  readonly salt1: number
  /** Random at each restart. */
  readonly salt2: number
  readonly checksum: WalChecksum
}

/** The running checksum: two unsigned 32-bit words. */
export interface WalChecksum {
  readonly s1: number
  readonly s2: number
}

export interface FrameHeader {
  readonly page: number
  /** Size of the database in pages after the commit; 0 when the frame is not the last of a transaction. */
  readonly commitPages: number
  readonly salt1: number
  readonly salt2: number
  readonly checksum: WalChecksum
}

export function frameOffset(frame: number, pageBytes: number): number {
  assert(frame >= 1, 'frames are numbered from 1')
  return walHeaderBytes + (frame - 1) * (frameHeaderBytes + pageBytes)
}

/** Undefined when the bytes are no whole, valid header (a log that is being made, say). */
export function parseWalHeader(bytes: Buffer): WalHeader | undefined {
  if (bytes.length < walHeaderBytes) return undefined
  const magic = bytes.readUInt32BE(0)
  if ((magic !== magicLittle && magic !== magicBig) || bytes.readUInt32BE(4) !== formatVersion)
    return undefined
  const pageBytes = bytes.readUInt32BE(8)
  if (!isPageSize(pageBytes)) return undefined
  const bigEndian = magic === magicBig
  const checksum = walChecksum(bytes.subarray(0, 24), { s1: 0, s2: 0 }, bigEndian)
  if (bytes.readUInt32BE(24) !== checksum.s1 || bytes.readUInt32BE(28) !== checksum.s2) return undefined
  return {
    bigEndian,
    pageBytes,
    checkpointSequence: bytes.readUInt32BE(12),
    salt1: bytes.readUInt32BE(16),
    salt2: bytes.readUInt32BE(20),
    checksum,
  }
}

/** A header in this machine's (little-endian) checksum order. */
export function encodeWalHeader(fields: {
  pageBytes: number
  checkpointSequence: number
  salt1: number
  salt2: number
}): { bytes: Buffer; header: WalHeader } {
  const bytes = Buffer.alloc(walHeaderBytes)
  bytes.writeUInt32BE(magicLittle, 0)
  bytes.writeUInt32BE(formatVersion, 4)
  bytes.writeUInt32BE(fields.pageBytes, 8)
  bytes.writeUInt32BE(fields.checkpointSequence, 12)
  bytes.writeUInt32BE(fields.salt1, 16)
  bytes.writeUInt32BE(fields.salt2, 20)
  const checksum = walChecksum(bytes.subarray(0, 24), { s1: 0, s2: 0 }, false)
  bytes.writeUInt32BE(checksum.s1, 24)
  bytes.writeUInt32BE(checksum.s2, 28)
  return { bytes, header: { bigEndian: false, ...fields, checksum } }
}

export function parseFrameHeader(bytes: Buffer, at: number): FrameHeader {
  return {
    page: bytes.readUInt32BE(at),
    commitPages: bytes.readUInt32BE(at + 4),
    salt1: bytes.readUInt32BE(at + 8),
    salt2: bytes.readUInt32BE(at + 12),
    checksum: { s1: bytes.readUInt32BE(at + 16), s2: bytes.readUInt32BE(at + 20) },
  }
}

/** Writes a frame at `at` and gives the running checksum after it. */
export function encodeFrame(
  target: Buffer,
  at: number,
  frame: { page: number; commitPages: number; data: Uint8Array },
  header: WalHeader,
  before: WalChecksum,
): WalChecksum {
  target.writeUInt32BE(frame.page, at)
  target.writeUInt32BE(frame.commitPages, at + 4)
  target.writeUInt32BE(header.salt1, at + 8)
  target.writeUInt32BE(header.salt2, at + 12)
  target.set(frame.data, at + frameHeaderBytes)
  const checksum = frameChecksum(target, at, header, before)
  target.writeUInt32BE(checksum.s1, at + 16)
  target.writeUInt32BE(checksum.s2, at + 20)
  return checksum
}

/** The running checksum after the frame that starts at `at`. */
export function frameChecksum(
  bytes: Buffer,
  at: number,
  header: WalHeader,
  before: WalChecksum,
): WalChecksum {
  const end = at + frameHeaderBytes + header.pageBytes
  if (header.bigEndian || (bytes.byteOffset + at) % 4 !== 0) {
    const middle = walChecksumUnaligned(bytes.subarray(at, at + 8), before, header.bigEndian)
    return walChecksumUnaligned(bytes.subarray(at + frameHeaderBytes, end), middle, header.bigEndian)
  }
  // one view for both parts: this runs for every frame that is written anywhere
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + at, (end - at) >>> 2)
  const s1 = (before.s1 + (words[0] as number) + before.s2) | 0
  const s2 = (before.s2 + (words[1] as number) + s1) | 0
  return sum(words, frameHeaderBytes >>> 2, s1, s2)
}

/** Over a multiple of 8 bytes. */
export function walChecksum(bytes: Buffer, before: WalChecksum, bigEndian: boolean): WalChecksum {
  assert(bytes.length % 8 === 0, 'a WAL checksum runs over pairs of words')
  if (bigEndian || bytes.byteOffset % 4 !== 0) return walChecksumUnaligned(bytes, before, bigEndian)
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
  return sum(words, 0, before.s1 | 0, before.s2 | 0)
}

function sum(words: Int32Array, from: number, before1: number, before2: number): WalChecksum {
  let s1 = before1
  let s2 = before2
  for (let i = from; i < words.length; i += 2) {
    s1 = (s1 + (words[i] as number) + s2) | 0
    s2 = (s2 + (words[i + 1] as number) + s1) | 0
  }
  return { s1: s1 >>> 0, s2: s2 >>> 0 }
}

function walChecksumUnaligned(bytes: Buffer, before: WalChecksum, bigEndian: boolean): WalChecksum {
  let s1 = before.s1 | 0
  let s2 = before.s2 | 0
  for (let i = 0; i < bytes.length; i += 8) {
    s1 = (s1 + (bigEndian ? bytes.readInt32BE(i) : bytes.readInt32LE(i)) + s2) | 0
    s2 = (s2 + (bigEndian ? bytes.readInt32BE(i + 4) : bytes.readInt32LE(i + 4)) + s1) | 0
  }
  return { s1: s1 >>> 0, s2: s2 >>> 0 }
}

export function sameChecksum(a: WalChecksum, b: WalChecksum): boolean {
  return a.s1 === b.s1 && a.s2 === b.s2
}

export function isPageSize(bytes: number): boolean {
  return bytes >= 512 && bytes <= 65536 && (bytes & (bytes - 1)) === 0
}
