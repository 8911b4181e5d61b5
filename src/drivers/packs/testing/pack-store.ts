/**
 * An engine of packs as an RDM is: records with a length and a checksum go to the newest pack, a new one begins when it
 * is full, the lowest are deleted, and an incomplete record at the end is dropped at the opening, which begins a new
 * pack. Its records are numbered, and a record's content follows from its number.
 */
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'

/** length u32, CRC-32 of the rest u32, number u64, then `length` bytes, little-endian. */
const headerBytes = 16
const payloadBytesMax = 300

export function encodeRecord(number: number): Buffer {
  const length = (number * 7919) % payloadBytesMax
  const record = Buffer.alloc(headerBytes + length, number & 0xff)
  record.writeUInt32LE(length, 0)
  record.writeBigUInt64LE(BigInt(number), 8)
  record.writeUInt32LE(crc32(record.subarray(8)), 4)
  return record
}

export interface PackContent {
  readonly first: number | undefined
  readonly last: number | undefined
  /** Where whole records end. */
  readonly wholeBytes: number
}

/** As the engine opens a pack: records up to the first that is not whole. */
export function readPack(data: Buffer): PackContent {
  let first: number | undefined
  let last: number | undefined
  let at = 0
  while (at + headerBytes <= data.length) {
    const end = at + headerBytes + data.readUInt32LE(at)
    if (end > data.length || end - at > headerBytes + payloadBytesMax) break
    if (crc32(data.subarray(at + 8, end)) !== data.readUInt32LE(at + 4)) break
    const number = Number(data.readBigUInt64LE(at + 8))
    if (last !== undefined) assert.equal(number, last + 1, 'a record is missing')
    first ??= number
    last = number
    at = end
  }
  return { first, last, wholeBytes: at }
}

export function packName(number: number): string {
  return `${String(number).padStart(8, '0')}.pack`
}

export function packNumbers(root: string): number[] {
  return fs
    .readdirSync(root)
    .filter(name => name.endsWith('.pack'))
    .map(name => Number(name.slice(0, -'.pack'.length)))
    .sort((a, b) => a - b)
}

/** Opens a store as the engine would; throws when a record between its first and last is missing. */
export function judgePacks(root: string): number {
  let last: number | undefined
  const numbers = packNumbers(root)
  for (const [index, number] of numbers.entries()) {
    if (index > 0) assert.equal(number, numbers[index - 1]! + 1, 'a pack is missing')
    const content = readPack(fs.readFileSync(join(root, packName(number))))
    if (content.first === undefined) continue
    if (last !== undefined) assert.equal(content.first, last + 1, `pack ${number} does not go on`)
    last = content.last
  }
  return last ?? 0
}
