/**
 * The record log of the demo: packs in ascending order, appended to, the oldest removed. A record is its length and
 * CRC-32 (four bytes each, big-endian), then its number (eight bytes) and filling.
 */
import { readdir, readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'

export const headBytes = 8
export const packBytes = 4 * 1024 * 1024
/** Eight seconds of the writer's fastest: a follower that is away for less misses none. */
export const packsKept = 200

export function packName(number: number): string {
  return `${String(number).padStart(8, '0')}.pack`
}

export function frameRecord(number: number, fillBytes: number): Buffer {
  const record = Buffer.allocUnsafe(headBytes + 8 + fillBytes)
  record.writeBigUInt64BE(BigInt(number), headBytes)
  record.fill(number & 0xff, headBytes + 8)
  record.writeUInt32BE(8 + fillBytes, 0)
  record.writeUInt32BE(crc32(record.subarray(headBytes)), 4)
  return record
}

export interface LogState {
  readonly first: number
  /** Records `first` to `last` are there, each with its checksum. */
  readonly last: number
  readonly packs: number
}

/**
 * Reads a directory of packs as the application would after a crash, dropping an incomplete last record, and proves
 * that no record is missing or damaged. Throws with what is wrong.
 */
export async function provePackLog(directory: string): Promise<LogState> {
  const names = (await readdir(directory)).filter(name => name.endsWith('.pack')).sort()
  let first: number | undefined
  let last = 0
  for (const [index, name] of names.entries()) {
    const bytes = await readFile(`${directory}/${name}`)
    let offset = 0
    while (offset < bytes.length) {
      const length =
        offset + headBytes <= bytes.length ? bytes.readUInt32BE(offset) : Number.POSITIVE_INFINITY
      const end = offset + headBytes + length
      if (end > bytes.length) {
        if (index === names.length - 1) break
        throw new Error(`${name} ends within a record at byte ${offset}, and is not the newest pack`)
      }
      const body = bytes.subarray(offset + headBytes, end)
      if (crc32(body) !== bytes.readUInt32BE(offset + 4))
        throw new Error(`${name}: bad checksum at byte ${offset}`)
      const number = Number(body.readBigUInt64BE(0))
      if (first !== undefined && number !== last + 1) {
        throw new Error(`${name}: record ${number} follows record ${last}, at byte ${offset}`)
      }
      first ??= number
      last = number
      offset = end
    }
  }
  return { first: first ?? 0, last, packs: names.length }
}
