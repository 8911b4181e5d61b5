/**
 * Frames: how records stand one after another in a file or on a wire, so that a torn end and damage are both seen.
 *
 *     offset  bytes
 *          0      4  length of the payload, little-endian
 *          4      4  low half of xxh64 over those four bytes, seeded with the format's number
 *          8      8  xxh64 of the payload, seeded with its length, little-endian
 *         16         payload, 1 to `framePayloadBytesMax` bytes
 *
 * The length has its own check, so that a damaged length is named and not taken for a torn end.
 */
import { xxh64 } from '@node-rs/xxhash'
import { assert } from '../os/errors.ts'
import type { StorageFile } from '../os/storage.ts'

export const frameHeaderBytes = 16
export const framePayloadBytesMax = 8 * 1024 * 1024
/** Changes when the header's layout does. */
const formatSeed = 0x68_73_66_01n

export type FrameRead =
  | { readonly kind: 'frame'; readonly payload: Buffer; readonly end: number }
  /** The bytes end before the frame does: so many more are needed, at least. */
  | { readonly kind: 'end'; readonly missingBytes: number }
  | { readonly kind: 'damaged'; readonly what: string }

export function encodeFrame(payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payload.length)
  frame.set(payload, frameHeaderBytes)
  writeFrameHeader(frame)
  return frame
}

/** Fills in the header of a frame whose payload stands behind it already. */
export function writeFrameHeader(frame: Buffer): void {
  const length = frame.length - frameHeaderBytes
  assert(length > 0 && length <= framePayloadBytesMax, `a frame of ${length} bytes`)
  frame.writeUInt32LE(length, 0)
  frame.writeUInt32LE(lengthCheck(length, frame), 4)
  digest[0] = xxh64(frame.subarray(frameHeaderBytes), BigInt(length))
  frame.set(digestBytes, 8)
}

/** A typed array is the fastest way from a bigint to bytes, in the machine's order: little-endian everywhere we run. */
const digest = new BigUint64Array(1)
const digestBytes = new Uint8Array(digest.buffer)

/** Reads the frame at `offset`; its payload is a view. */
export function readFrame(buffer: Buffer, offset: number): FrameRead {
  const available = buffer.length - offset
  if (available < frameHeaderBytes) return { kind: 'end', missingBytes: frameHeaderBytes - available }
  const length = buffer.readUInt32LE(offset)
  if (buffer.readUInt32LE(offset + 4) !== lengthCheck(length, buffer, offset))
    return { kind: 'damaged', what: 'the check of its length does not fit' }
  if (length === 0 || length > framePayloadBytesMax)
    return { kind: 'damaged', what: `its length is ${length}` }
  const end = offset + frameHeaderBytes + length
  if (end > buffer.length) return { kind: 'end', missingBytes: end - buffer.length }
  const payload = buffer.subarray(offset + frameHeaderBytes, end)
  if (buffer.readBigUInt64LE(offset + 8) !== xxh64(payload, BigInt(length)))
    return { kind: 'damaged', what: 'its checksum does not fit' }
  return { kind: 'frame', payload, end }
}

/** Of short frames, by length: they come in great numbers. Below zero: not computed yet. */
const shortChecks = new Float64Array(4096).fill(-1)

/** Of the length that stands at `offset`. */
function lengthCheck(length: number, buffer: Buffer, offset = 0): number {
  const known = shortChecks[length]
  if (known !== undefined && known >= 0) return known
  const check = Number(xxh64(buffer.subarray(offset, offset + 4), formatSeed) & 0xffffffffn)
  if (length < shortChecks.length) shortChecks[length] = check
  return check
}

export interface FrameAt {
  readonly payload: Buffer
  readonly offset: number
  readonly end: number
}

/** How a file of frames ended: `offset` is the end of the last whole frame. */
export type FramesEnd =
  | { readonly kind: 'whole'; readonly offset: number }
  | { readonly kind: 'torn'; readonly offset: number }
  | { readonly kind: 'damaged'; readonly offset: number; readonly what: string }

/** What is read at once: small at first, as most files are, and more each time. */
const readBytesMin = 16 * 1024
const readBytesMax = 1024 * 1024

/**
 * The frames of a file from `offset` on, with bounded memory; payloads stay valid. Returns how they ended. A file may
 * grow meanwhile: what was there when its end was first met is what is read.
 */
export async function* readFrames(
  file: StorageFile,
  offset: number,
): AsyncGenerator<FrameAt, FramesEnd, undefined> {
  let buffer = Buffer.alloc(0)
  let bufferOffset = offset
  let at = offset
  let readBytes = readBytesMin
  for (;;) {
    const frame = readFrame(buffer, at - bufferOffset)
    if (frame.kind === 'frame') {
      const end = bufferOffset + frame.end
      yield { payload: frame.payload, offset: at, end }
      at = end
    } else if (frame.kind === 'damaged') {
      return { kind: 'damaged', offset: at, what: frame.what }
    } else {
      const rest = buffer.subarray(at - bufferOffset)
      const more = Buffer.allocUnsafe(rest.length + Math.max(frame.missingBytes, readBytes))
      rest.copy(more)
      const length = await file.read(more.subarray(rest.length), at + rest.length)
      if (length === 0) return { kind: rest.length === 0 ? 'whole' : 'torn', offset: at }
      buffer = more.subarray(0, rest.length + length)
      bufferOffset = at
      readBytes = Math.min(2 * readBytes, readBytesMax)
    }
  }
}
