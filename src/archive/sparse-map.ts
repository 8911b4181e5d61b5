/**
 * The map of a sparse file in GNU's format 1.0 (the manual of GNU tar, "PAX Format, Versions 0.1 and 1.0"): decimal
 * numbers, each on a line, padded with zeros to whole blocks: how many extents, then offset and length of each. It
 * stands before the content, which is that of the extents alone.
 */
import type { SnapshotExtent } from '../drivers/snapshot.ts'
import { blockBytes, paddedBytes } from './tar-format.ts'

/** The member's own name in the header, for a tar that does not know the format. */
export const sparseNamePrefix = './GNUSparseFile.0/'
/** More extents than this are not read. */
export const extentsMax = 4 * 1024 * 1024
/** The largest file that is read as sparse: a map of a few bytes can claim any. */
export const sparseBytesMax = 64 * 2 ** 40
const digitsMax = 16

export function sparseMap(extents: readonly SnapshotExtent[], size: number): Buffer {
  const last = extents.at(-1)
  // where the file ends in a hole, an empty extent says where
  const isOpen = last === undefined ? size > 0 : last.offset + last.length < size
  const all = isOpen ? [...extents, { offset: size, length: 0 }] : extents
  const text = `${all.length}\n${all.map(({ offset, length }) => `${offset}\n${length}\n`).join('')}`
  const map = Buffer.alloc(paddedBytes(text.length))
  map.write(text, 'latin1')
  return map
}

export type SparseMapResult =
  | { readonly kind: 'more'; readonly bytes: number }
  | { readonly kind: 'invalid' }
  | { readonly kind: 'map'; readonly bytes: number; readonly extents: readonly SnapshotExtent[] }

/** Reads a map from the first blocks of a member's data; says so when it needs more of them. */
export function parseSparseMap(data: Buffer, realSize: number): SparseMapResult {
  const numbers = new NumberLines(data)
  const more = { kind: 'more', bytes: Math.max(2 * data.length, blockBytes) } as const
  const count = numbers.next()
  if (count === 'end') return data.length > digitsMax ? { kind: 'invalid' } : more
  if (count === 'invalid' || count > extentsMax) return { kind: 'invalid' }
  const extents: SnapshotExtent[] = []
  let end = 0
  for (let i = 0; i < count; i++) {
    const offset = numbers.next()
    const length = offset === 'end' ? 'end' : numbers.next()
    if (offset === 'end' || length === 'end') return more
    if (offset === 'invalid' || length === 'invalid') return { kind: 'invalid' }
    if (offset < end || offset + length > realSize) return { kind: 'invalid' }
    end = offset + length
    extents.push({ offset, length })
  }
  const bytes = paddedBytes(numbers.at)
  if (bytes > data.length) return more
  for (let i = numbers.at; i < bytes; i++) if (data[i] !== 0) return { kind: 'invalid' }
  return { kind: 'map', bytes, extents }
}

class NumberLines {
  readonly #data: Buffer
  at = 0

  constructor(data: Buffer) {
    this.#data = data
  }

  next(): number | 'end' | 'invalid' {
    const data = this.#data
    let value = 0
    for (let i = this.at; i < data.length; i++) {
      const byte = data[i] as number
      if (byte === 0x0a) {
        const digits = i - this.at
        this.at = i + 1
        return digits > 0 && Number.isSafeInteger(value) ? value : 'invalid'
      }
      if (byte < 0x30 || byte > 0x39 || i - this.at >= digitsMax) return 'invalid'
      value = value * 10 + (byte - 0x30)
    }
    return 'end'
  }
}
