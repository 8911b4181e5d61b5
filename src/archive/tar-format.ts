/**
 * Fields of a tar header block, as POSIX (ustar) has them: POSIX.1-2017, pax, "ustar Interchange Format". Numbers too
 * large for their field are read in GNU's base-256 form as well, and written as pax records.
 */
export const blockBytes = 512
/** GNU tar pads to a record of 20 blocks, and older ones complain about anything else. */
const recordBytes = 20 * blockBytes

export const nameBytesMax = 100
/** The largest number of seven octal digits: uid, gid. */
export const idMax = 0o7777777
/** The largest number of eleven octal digits: size, mtime. */
export const sizeMax = 0o77777777777

export const typeflag = {
  file: '0',
  oldFile: '\0',
  hardlink: '1',
  symlink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  pax: 'x',
  paxGlobal: 'g',
  gnuLongName: 'L',
  gnuLongLink: 'K',
  gnuSparse: 'S',
} as const

/** Where fields begin, and how long they are. */
export const field = {
  name: { at: 0, length: 100 },
  mode: { at: 100, length: 8 },
  uid: { at: 108, length: 8 },
  gid: { at: 116, length: 8 },
  size: { at: 124, length: 12 },
  mtime: { at: 136, length: 12 },
  checksum: { at: 148, length: 8 },
  typeflag: { at: 156, length: 1 },
  linkname: { at: 157, length: 100 },
  magic: { at: 257, length: 8 },
  devmajor: { at: 329, length: 8 },
  devminor: { at: 337, length: 8 },
  prefix: { at: 345, length: 155 },
} as const

export type Field = { readonly at: number; readonly length: number }

export function paddedBytes(bytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes
}

/** How long an archive is whose members end there. */
export function wholeBytes(endOffset: number): number {
  return Math.ceil((endOffset + 2 * blockBytes) / recordBytes) * recordBytes
}

/** Octal digits up to the field's last byte, which is a zero; gives the sum of its bytes. */
export function putOctal(into: Uint8Array, start: number, { at, length }: Field, value: number): number {
  let rest = value
  let sum = 0
  for (let i = start + at + length - 2; i >= start + at; i--) {
    let digit: number
    if (rest < 0x40000000) {
      digit = rest & 7
      rest >>= 3
    } else {
      digit = rest % 8
      rest = Math.floor(rest / 8)
    }
    into[i] = 0x30 + digit
    sum += 0x30 + digit
  }
  into[start + at + length - 1] = 0
  return sum
}

/** Undefined when the field holds no number. Empty counts as 0, as every tar has it. */
export function readNumber(block: Uint8Array, { at, length }: Field): number | undefined {
  const first = block[at] as number
  if (first & 0x80) return readBase256(block, at, length)
  let value = 0
  let digits = 0
  for (let i = at; i < at + length; i++) {
    const byte = block[i] as number
    if (byte === 0x20 && digits === 0) continue
    if (byte === 0 || byte === 0x20) break
    if (byte < 0x30 || byte > 0x37) return undefined
    value = value * 8 + (byte - 0x30)
    digits++
  }
  return value
}

function readBase256(block: Uint8Array, at: number, length: number): number | undefined {
  const first = block[at] as number
  let value = first & 0x40 ? (first & 0x7f) - 0x80 : first & 0x7f
  for (let i = at + 1; i < at + length; i++) {
    value = value * 256 + (block[i] as number)
    if (!Number.isSafeInteger(value)) return undefined
  }
  return value
}

/** Bytes up to the first zero, in latin1. */
export function readText(block: Buffer, { at, length }: Field): string {
  let end = at
  while (end < at + length && block[end] !== 0) end++
  return block.toString('latin1', at, end)
}

const pairMask = 0x00ff00ff

/** The sum of all bytes of a header block. */
export function sumOf(block: Uint8Array, start = 0): number {
  const view = block.subarray(start, start + blockBytes)
  // four bytes at a time, which have to begin at a multiple of four
  const bytes = view.byteOffset % 4 === 0 ? view : new Uint8Array(view)
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, blockBytes / 4)
  let even = 0
  let odd = 0
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number
    even += word & pairMask
    odd += (word >>> 8) & pairMask
  }
  return (even & 0xffff) + (even >>> 16) + (odd & 0xffff) + (odd >>> 16)
}

/** What a header's checksum is taken of: its sum with the checksum's own field as spaces. */
export function checksumOf(block: Uint8Array, start = 0): number {
  let sum = sumOf(block, start)
  const { at, length } = field.checksum
  for (let i = start + at; i < start + at + length; i++) sum += 0x20 - (block[i] as number)
  return sum
}

export function putChecksum(block: Uint8Array, start = 0): void {
  putSum(block, start, checksumOf(block, start) - 0x20 * field.checksum.length)
}

/** `sum` is that of a block whose checksum is zeros yet. */
export function putSum(block: Uint8Array, start: number, sum: number): void {
  let rest = sum + 0x20 * field.checksum.length
  const at = start + field.checksum.at
  for (let i = at + 5; i >= at; i--) {
    block[i] = 0x30 + (rest & 7)
    rest >>>= 3
  }
  block[at + 6] = 0
  block[at + 7] = 0x20
}

export function isChecksumRight(block: Uint8Array): boolean {
  return readNumber(block, field.checksum) === checksumOf(block)
}

export function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}
