/**
 * What stands behind the last group of a copy's log that was closed in order: a mark, and again the copy's status, so that
 * a pass in which nothing has to be done reads these bytes alone.
 *
 *     offset  bytes
 *          0      8  'hsCLOSED'
 *          8         the status
 *        ...      8  where the mark stands in the file
 *        ...      8  bytes of the status
 *        ...      8  xxh64 of all from the mark to here; the file ends behind it
 *
 * It is not synced. Torn, or missing its status, it only makes the next start read the whole log.
 */
import { xxh64 } from '@node-rs/xxhash'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { cName, openFlag } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'

export const logName = cName('state.log')
export const closedMark = Buffer.from('hsCLOSED', 'latin1')
const tailBytes = 24
/** A status has less: it is read at once. */
const closingBytesMax = 16 * 1024

export function encodeClosing(offset: number, status: Uint8Array): Buffer {
  const tail = Buffer.alloc(tailBytes)
  tail.writeBigUInt64LE(BigInt(offset), 0)
  tail.writeBigUInt64LE(BigInt(status.length), 8)
  const closing = Buffer.concat([closedMark, status, tail])
  closing.writeBigUInt64LE(xxh64(closing.subarray(0, -8)), closing.length - 8)
  return closing
}

/** The status in the closing of the log in a sidecar; undefined when there is no such whole closing. */
export function readClosing(
  calls: Pick<CopyCalls, 'tryOpenAt' | 'statFd' | 'readAt' | 'closeFd'>,
  sidecar: number,
): Buffer | undefined {
  const fd = calls.tryOpenAt(sidecar, logName, openFlag.read)
  // whoever reads the whole log says what is wrong
  if (fd < 0) return undefined
  try {
    const stat = new StatBuffer()
    calls.statFd(fd, stat)
    const end = Buffer.alloc(Math.min(closingBytesMax, stat.size))
    if (calls.readAt(fd, end, stat.size - end.length) < end.length) return undefined
    return decodeClosing(end, stat.size)
  } finally {
    calls.closeFd(fd)
  }
}

/** From the last bytes of a file of so many. */
function decodeClosing(end: Buffer, fileBytes: number): Buffer | undefined {
  if (end.length < closedMark.length + tailBytes) return undefined
  const tail = end.length - tailBytes
  const length = Number(end.readBigUInt64LE(tail + 8))
  const start = tail - length - closedMark.length
  if (start < 0 || end.compare(closedMark, 0, closedMark.length, start, start + closedMark.length) !== 0)
    return undefined
  if (Number(end.readBigUInt64LE(tail)) !== fileBytes - (end.length - start)) return undefined
  if (xxh64(end.subarray(start, -8)) !== end.readBigUInt64LE(tail + 16)) return undefined
  return end.subarray(start + closedMark.length, tail)
}
