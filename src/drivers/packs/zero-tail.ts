/**
 * Some engines allocate a file in advance, and data grows inside it while the size stays: what ends in many zeros may
 * not have been written yet. Such a tail of the newest file is taken only when something follows it.
 */
import type { StorageFile } from '../../os/storage.ts'

export const zeroTailBytes = 4096
const windowBytes = 1024 * 1024

/**
 * The end of what may be taken of [from, size). A trailing run of `zeroTailBytes` zeros or more is left. When there is
 * one, `thorough` looks through all of it for bytes further on; else the first such run within the next window ends
 * the search, and what may lie beyond it waits for the next thorough look.
 */
export async function usableEnd(
  file: StorageFile,
  from: number,
  size: number,
  thorough: boolean,
): Promise<number> {
  if (size - from < zeroTailBytes) return size
  const last = Buffer.alloc(zeroTailBytes)
  const length = await file.read(last, size - zeroTailBytes)
  if (!isZero(last.subarray(0, length))) return size
  return thorough ? lastDataEnd(file, from, size) : firstRunStart(file, from, size)
}

export function isZero(data: Buffer): boolean {
  return dataLength(data) === 0
}

/** Length without trailing zeros. */
function dataLength(data: Buffer): number {
  const zeros = zeroBlock
  let end = data.length
  while (end >= zeros.length && data.subarray(end - zeros.length, end).equals(zeros)) end -= zeros.length
  while (end > 0 && data[end - 1] === 0) end--
  return end
}

const zeroBlock = Buffer.alloc(4096)

async function lastDataEnd(file: StorageFile, from: number, size: number): Promise<number> {
  const buffer = Buffer.allocUnsafe(windowBytes)
  for (let end = size; end > from; ) {
    const start = Math.max(from, end - windowBytes)
    const window = buffer.subarray(0, end - start)
    const length = dataLength(window.subarray(0, await file.read(window, start)))
    if (length > 0) return start + length
    end = start
  }
  return from
}

async function firstRunStart(file: StorageFile, from: number, size: number): Promise<number> {
  const buffer = Buffer.allocUnsafe(windowBytes)
  for (let start = from; start < size; ) {
    const window = buffer.subarray(0, Math.min(windowBytes, size - start))
    const data = window.subarray(0, await file.read(window, start))
    const length = dataLength(data)
    if (data.length - length >= zeroTailBytes || data.length < window.length) return start + length
    start += data.length
  }
  return size
}
