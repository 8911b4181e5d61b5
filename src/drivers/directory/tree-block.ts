/**
 * The children of one directory, packed: sorted by the bytes of their names, in memory that threads can share, so that a
 * directory of which nothing changed is known as such by comparing words, without an object for each file.
 *
 * In words of 4 bytes, little-endian:
 *
 *     0            number of entries
 *     1            bytes of the whole block
 *     2 ...        where each entry begins, in bytes from the block's start
 *     an entry     16 words signature; a hint; length of the name (low half) and flags (high half); length of the payload;
 *                  the name, the payload, zeros up to whole words
 *
 * The signature is all that statx says of what is there, but the time of access: equal signatures mean unchanged, up to
 * one tick of the file system's clock. Hint, flags and payload are the owner's of the block. A block may be shared between
 * threads once it is finished; only flags and what has a fixed place (signature, payload bytes) may be changed in it.
 */
import { assert } from '../../os/errors.ts'
import { fileKind, nanoseconds, type StatBuffer } from '../../os/stat-buffer.ts'

export const signatureWords = 16
const entryHeadBytes = (signatureWords + 3) * 4

/** Where in a signature what stands, in words. */
export const signatureAt = {
  mode: 0,
  uid: 1,
  gid: 2,
  links: 3,
  sizeLow: 4,
  sizeHigh: 5,
  inodeLow: 6,
  inodeHigh: 7,
  mtimeSecondsLow: 8,
  mtimeSecondsHigh: 9,
  ctimeSecondsLow: 10,
  ctimeSecondsHigh: 11,
  mtimeNanoseconds: 12,
  ctimeNanoseconds: 13,
  deviceMajor: 14,
  deviceMinor: 15,
} as const

/** Word of a statx buffer for each word of a signature; the mode needs its mask. */
const statWord = [7, 5, 6, 4, 10, 11, 8, 9, 28, 29, 24, 25, 30, 26, 34, 35] as const

/** Writes the signature of what statx found. */
export function writeSignature(stat: StatBuffer, into: Int32Array, at: number): void {
  const words = stat.words
  into[at] = (words[7] as number) & 0xffff
  into[at + 1] = words[5] as number
  into[at + 2] = words[6] as number
  into[at + 3] = words[4] as number
  into[at + 4] = words[10] as number
  into[at + 5] = words[11] as number
  into[at + 6] = words[8] as number
  into[at + 7] = words[9] as number
  into[at + 8] = words[28] as number
  into[at + 9] = words[29] as number
  into[at + 10] = words[24] as number
  into[at + 11] = words[25] as number
  into[at + 12] = words[30] as number
  into[at + 13] = words[26] as number
  into[at + 14] = words[34] as number
  into[at + 15] = words[35] as number
}

export function signatureMatches(stat: StatBuffer, signature: Int32Array, at: number): boolean {
  const words = stat.words
  if (((words[7] as number) & 0xffff) !== signature[at]) return false
  for (let i = 1; i < signatureWords; i++)
    if (words[statWord[i] as number] !== signature[at + i]) return false
  return true
}

/** One entry outside of a block, or of a block by its signature: the words of a signature, read. */
export class Signature {
  readonly words: Int32Array
  readonly at: number

  constructor(words: Int32Array, at = 0) {
    this.words = words
    this.at = at
  }

  static of(stat: StatBuffer): Signature {
    const words = new Int32Array(signatureWords)
    writeSignature(stat, words, 0)
    return new Signature(words)
  }

  #word(i: number): number {
    return this.words[this.at + i] as number
  }

  get fullMode(): number {
    return this.#word(0)
  }
  /** One of `fileKind`, or what a special file has. */
  get kind(): number {
    return this.#word(0) & 0o170000
  }
  get mode(): number {
    return this.#word(0) & 0o7777
  }
  get uid(): number {
    return this.#word(1) >>> 0
  }
  get gid(): number {
    return this.#word(2) >>> 0
  }
  get links(): number {
    return this.#word(3) >>> 0
  }
  get size(): number {
    return (this.#word(4) >>> 0) + this.#word(5) * 2 ** 32
  }
  get mtimeNs(): bigint {
    return nanoseconds(this.#word(8), this.#word(9), this.#word(12))
  }
  get ctimeNs(): bigint {
    return nanoseconds(this.#word(10), this.#word(11), this.#word(13))
  }
  get isFile(): boolean {
    return this.kind === fileKind.file
  }
  get isDirectory(): boolean {
    return this.kind === fileKind.directory
  }
  get isSymlink(): boolean {
    return this.kind === fileKind.symlink
  }
  /** Names the inode, for a map. */
  get identity(): string {
    return `${this.#word(14)}:${this.#word(15)}:${this.#word(7)}:${this.#word(6)}`
  }

  sameInode(other: Signature): boolean {
    for (const i of [6, 7, 14, 15]) if (this.#word(i) !== other.#word(i)) return false
    return true
  }

  equals(other: Signature): boolean {
    for (let i = 0; i < signatureWords; i++) if (this.#word(i) !== other.#word(i)) return false
    return true
  }
}

const noBytes = Buffer.alloc(0)

export class TreeBlock {
  /** All of the block. */
  readonly bytes: Buffer
  readonly words: Int32Array
  readonly count: number

  /** The bytes begin at a whole word of their memory. */
  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2)
    this.count = this.words[0] as number
  }

  /** The word at which an entry begins, which is also that of its signature. */
  wordOf(i: number): number {
    return (this.words[2 + i] as number) >>> 2
  }

  signature(i: number): Signature {
    return new Signature(this.words, this.wordOf(i))
  }

  matches(i: number, stat: StatBuffer): boolean {
    return signatureMatches(stat, this.words, this.wordOf(i))
  }

  hint(i: number): number {
    return this.words[this.wordOf(i) + signatureWords] as number
  }

  setHint(i: number, hint: number): void {
    this.words[this.wordOf(i) + signatureWords] = hint
  }

  flags(i: number): number {
    return (this.words[this.wordOf(i) + signatureWords + 1] as number) >>> 16
  }

  setFlags(i: number, flags: number): void {
    const at = this.wordOf(i) + signatureWords + 1
    this.words[at] = ((this.words[at] as number) & 0xffff) | (flags << 16)
  }

  nameLength(i: number): number {
    return (this.words[this.wordOf(i) + signatureWords + 1] as number) & 0xffff
  }

  /** In latin1. */
  name(i: number): string {
    const start = (this.words[2 + i] as number) + entryHeadBytes
    return this.bytes.toString('latin1', start, start + this.nameLength(i))
  }

  /** The place of the name's bytes in `bytes`. */
  nameStart(i: number): number {
    return (this.words[2 + i] as number) + entryHeadBytes
  }

  /** A view. */
  payload(i: number): Buffer {
    const length = this.payloadLength(i)
    if (length === 0) return noBytes
    const start = (this.words[2 + i] as number) + entryHeadBytes + this.nameLength(i)
    return this.bytes.subarray(start, start + length)
  }

  payloadLength(i: number): number {
    return this.words[this.wordOf(i) + signatureWords + 2] as number
  }

  /** True when the entry's name is these bytes. */
  isNamed(i: number, buffer: Uint8Array, start: number, length: number): boolean {
    if (this.nameLength(i) !== length) return false
    const at = this.nameStart(i)
    for (let k = 0; k < length; k++) if (this.bytes[at + k] !== buffer[start + k]) return false
    return true
  }

  /** The entry of a name, or the place where it would be as a negative number: -1 - place. */
  find(buffer: Uint8Array, start: number, length: number): number {
    let low = 0
    let high = this.count
    while (low < high) {
      const middle = (low + high) >>> 1
      const order = this.#compare(middle, buffer, start, length)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle
    }
    return -1 - low
  }

  /** Of a name in latin1; negative when there is none. */
  findName(name: string): number {
    const bytes = Buffer.from(name, 'latin1')
    return this.find(bytes, 0, bytes.length)
  }

  #compare(i: number, buffer: Uint8Array, start: number, length: number): number {
    const at = this.nameStart(i)
    const own = this.nameLength(i)
    const both = own < length ? own : length
    for (let k = 0; k < both; k++) {
      const difference = (this.bytes[at + k] as number) - (buffer[start + k] as number)
      if (difference !== 0) return difference
    }
    return own - length
  }
}

/** What `BlockBuilder.add` puts into a block. */
export interface NewEntry {
  /** In latin1. */
  readonly name: string
  readonly signature: Signature
  readonly payload: Uint8Array
  readonly flags?: number
  readonly hint?: number
}

/** Makes blocks, one after another; the names are given in ascending order of their bytes. */
export class BlockBuilder {
  #buffer = Buffer.alloc(0)
  #words = new Int32Array(0)
  #length = 0
  #offsets: number[] = []

  constructor(bytesExpected = 64 * 1024) {
    this.#grow(bytesExpected)
  }

  get count(): number {
    return this.#offsets.length
  }

  /** Forgets what was added. */
  clear(): void {
    this.#offsets = []
    this.#length = 0
  }

  add(entry: NewEntry): void {
    const { name, signature, payload } = entry
    const at = this.#begin(name.length, payload.length, entry.flags ?? 0, entry.hint ?? 0)
    const { words, at: from } = signature
    for (let i = 0; i < signatureWords; i++) this.#words[(at >> 2) + i] = words[from + i] as number
    this.#buffer.write(name, at + entryHeadBytes, 'latin1')
    this.#buffer.set(payload, at + entryHeadBytes + name.length)
  }

  /** What statx found, with room for a payload of so many bytes, zeros as yet. */
  addFound(
    stat: StatBuffer,
    name: Uint8Array,
    nameLength: number,
    payloadLength: number,
    flags: number,
  ): void {
    const at = this.#begin(nameLength, payloadLength, flags, 0)
    writeSignature(stat, this.#words, at >> 2)
    const bytes = this.#buffer
    for (let k = 0; k < nameLength; k++) bytes[at + entryHeadBytes + k] = name[k] as number
    bytes.fill(0, at + entryHeadBytes + nameLength, this.#length)
  }

  /** Takes an entry of another block as it is. */
  copy(block: TreeBlock, i: number): void {
    const start = block.words[2 + i] as number
    const length = align(entryHeadBytes + block.nameLength(i) + block.payloadLength(i))
    this.#reserve(length)
    this.#buffer.set(block.bytes.subarray(start, start + length), this.#length)
    this.#offsets.push(this.#length)
    this.#length += length
  }

  /**
   * For entries that were added in any order: sorted, of one name the last that was added; each hint is the entry that
   * was added next. Otherwise as `finish`.
   */
  finishSorted(): TreeBlock {
    const added = this.#offsets
    const order = Array.from(added, (_, i) => i).sort(
      (a, b) => this.#compareNames(added[a] as number, added[b] as number) || a - b,
    )
    const kept = order.filter((one, i) => {
      const next = order[i + 1]
      return next === undefined || this.#compareNames(added[one] as number, added[next] as number) !== 0
    })
    const place = new Int32Array(added.length)
    for (const [i, one] of kept.entries()) place[one] = i
    for (let i = 0; i + 1 < added.length; i++)
      this.#words[((added[i] as number) >> 2) + signatureWords] = place[i + 1] as number
    this.#offsets = kept.map(one => added[one] as number)
    return this.finish()
  }

  #compareNames(a: number, b: number): number {
    const lengthA = (this.#words[(a >> 2) + signatureWords + 1] as number) & 0xffff
    const lengthB = (this.#words[(b >> 2) + signatureWords + 1] as number) & 0xffff
    const bytes = this.#buffer
    const both = lengthA < lengthB ? lengthA : lengthB
    for (let k = entryHeadBytes; k < entryHeadBytes + both; k++) {
      const difference = (bytes[a + k] as number) - (bytes[b + k] as number)
      if (difference !== 0) return difference
    }
    return lengthA - lengthB
  }

  /** The block, in memory of its own that can be shared; the builder is empty again. */
  finish(): TreeBlock {
    const head = 8 + this.#offsets.length * 4
    const memory = new SharedArrayBuffer(head + this.#length)
    const bytes = Buffer.from(memory)
    const words = new Int32Array(memory)
    words[0] = this.#offsets.length
    words[1] = bytes.length
    for (let i = 0; i < this.#offsets.length; i++) words[2 + i] = head + (this.#offsets[i] as number)
    bytes.set(this.#buffer.subarray(0, this.#length), head)
    this.#offsets = []
    this.#length = 0
    return new TreeBlock(bytes)
  }

  #begin(nameLength: number, payloadLength: number, flags: number, hint: number): number {
    assert(nameLength > 0 && nameLength < 0x10000, `a name of ${nameLength} bytes`)
    const length = align(entryHeadBytes + nameLength + payloadLength)
    this.#reserve(length)
    const at = this.#length
    const word = (at >> 2) + signatureWords
    this.#words[word] = hint
    this.#words[word + 1] = nameLength | (flags << 16)
    this.#words[word + 2] = payloadLength
    this.#length += length
    this.#buffer.fill(0, this.#length - 4, this.#length)
    this.#offsets.push(at)
    return at
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes > this.#buffer.length)
      this.#grow(Math.max(this.#length + bytes, this.#buffer.length * 2))
  }

  #grow(bytes: number): void {
    const memory = new ArrayBuffer(align(bytes))
    const grown = Buffer.from(memory)
    grown.set(this.#buffer.subarray(0, this.#length))
    this.#buffer = grown
    this.#words = new Int32Array(memory)
  }
}

function align(bytes: number): number {
  return (bytes + 3) & ~3
}

export const emptyBlock = new BlockBuilder(64).finish()

/** The entries of `old` whose number in `kept` is 1, and those of `changed`, which wins where both have a name. */
export function mergeBlocks(
  old: TreeBlock,
  kept: Uint8Array,
  changed: TreeBlock,
  builder = new BlockBuilder(),
): TreeBlock {
  let next = 0
  for (let i = 0; i < old.count; i++) {
    if (kept[i] !== 1) continue
    for (; next < changed.count; next++) {
      const order = compareEntries(changed, next, old, i)
      if (order > 0) break
      builder.copy(changed, next)
      if (order === 0) {
        next++
        kept[i] = 0
        break
      }
    }
    if (kept[i] !== 0) builder.copy(old, i)
  }
  for (; next < changed.count; next++) builder.copy(changed, next)
  return builder.finish()
}

/** By the bytes of their names. */
export function compareEntries(a: TreeBlock, i: number, b: TreeBlock, j: number): number {
  const lengthA = a.nameLength(i)
  const lengthB = b.nameLength(j)
  const startA = a.nameStart(i)
  const startB = b.nameStart(j)
  const both = lengthA < lengthB ? lengthA : lengthB
  for (let k = 0; k < both; k++) {
    const difference = (a.bytes[startA + k] as number) - (b.bytes[startB + k] as number)
    if (difference !== 0) return difference
  }
  return lengthA - lengthB
}

/** A block with some entries put or, where undefined, left out; names in latin1. */
export function mergeBlock(
  old: TreeBlock | undefined,
  changes: ReadonlyMap<string, NewEntry | undefined>,
  builder = new BlockBuilder(),
): TreeBlock {
  // strings of latin1 compare as their bytes do
  const names = [...changes.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  let next = 0
  for (const name of names) {
    const found = old === undefined ? -1 : old.findName(name)
    const before = found >= 0 ? found : -1 - found
    if (old !== undefined) {
      for (; next < before; next++) builder.copy(old, next)
      if (found >= 0) next++
    }
    const entry = changes.get(name)
    if (entry !== undefined) builder.add(entry)
  }
  if (old !== undefined) for (; next < old.count; next++) builder.copy(old, next)
  return builder.finish()
}
