/**
 * The index of a write-ahead log that lives in the shared memory of `-shm`, written as the engine's own writer does
 * (https://sqlite.org/walformat.html, and walIndexAppend and walIndexWriteHdr in wal.c): so that readers in any
 * process see a transaction whose frames we have put into the log.
 *
 * Invariant: whoever calls `append` or `publish` holds the log's write lock through the engine, and what is published
 * is whole in the `-wal` file. Readers trust nothing beyond the published last frame, so entries may be there early.
 *
 * A crash leaves entries beyond the last frame (the next writer clears them) or two header copies that differ (the
 * next reader rebuilds the index from the log). The worst outcome of a fault here: a reader sees a wrong page.
 */
import { fstatSync, writeSync } from 'node:fs'
import { assert, HotspareError } from '../../os/errors.ts'
import { mapShared, type SharedMapping } from '../../os/syscalls.ts'
import { type WalChecksum, walChecksum } from './wal-format.ts'

const regionBytes = 32 * 1024
/** What the engine grows the file by, so that a full disk is met as an error, and not as a fault on memory. */
const growBytes = 4096
const indexVersion = 3007000
const headerBytes = 48
const headerWords = headerBytes / 4
/** Two header copies and the checkpoint information. */
const firstRegionReservedBytes = 136
const framesPerRegion = 4096
const framesInFirstRegion = framesPerRegion - firstRegionReservedBytes / 4
const hashSlots = 8192
const hashOffset = framesPerRegion * 4

export interface WalIndexHeader {
  /** One more at each commit, and only then. */
  readonly change: number
  readonly pageBytes: number
  /** The last committed frame; 0 when the log is empty. */
  readonly lastFrame: number
  /** Size of the database in pages after that commit. */
  readonly pages: number
  /** The running checksum after the last frame. */
  readonly checksum: WalChecksum
  readonly salt1: number
  readonly salt2: number
  /** The log's checksums run over big-endian words. */
  readonly bigEndian: boolean
}

interface Region {
  readonly mapping: SharedMapping
  /** The region's first frame is this and one. */
  readonly zero: number
  readonly pages: Uint32Array
  readonly hash: Uint16Array
}

export class WalIndex {
  readonly #fd: number
  readonly #regions = new Map<number, Region>()
  readonly #words: Int32Array
  #fileBytes: number

  /** `fd` names the `-shm` file, for reading and writing, of a database that this process has open in the engine. */
  constructor(fd: number) {
    this.#fd = fd
    this.#fileBytes = fstatSync(fd).size
    assert(this.#fileBytes >= regionBytes, 'the engine has made the index')
    this.#words = new Int32Array(this.#region(0).mapping.bytes, 0, firstRegionReservedBytes / 4)
  }

  /** Undefined while the two copies differ or don't verify: somebody is writing, or died while writing. */
  read(): WalIndexHeader | undefined {
    const words = new Int32Array(headerWords)
    for (let i = 0; i < headerWords; i++) words[i] = Atomics.load(this.#words, i)
    for (let i = 0; i < headerWords; i++) {
      if (Atomics.load(this.#words, headerWords + i) !== words[i]) return undefined
    }
    const bytes = Buffer.from(words.buffer)
    if (bytes[12] !== 1 || bytes.readUInt32LE(0) !== indexVersion) return undefined
    const own = walChecksum(bytes.subarray(0, 40), { s1: 0, s2: 0 }, false)
    if (own.s1 !== bytes.readUInt32LE(40) || own.s2 !== bytes.readUInt32LE(44)) return undefined
    const rawPageBytes = bytes.readUInt16LE(14)
    return {
      change: bytes.readUInt32LE(8),
      pageBytes: (rawPageBytes & 0xfe00) + ((rawPageBytes & 1) << 16),
      lastFrame: bytes.readUInt32LE(16),
      pages: bytes.readUInt32LE(20),
      checksum: { s1: bytes.readUInt32LE(24), s2: bytes.readUInt32LE(28) },
      salt1: bytes.readUInt32BE(32),
      salt2: bytes.readUInt32BE(36),
      bigEndian: bytes[13] !== 0,
    }
  }

  /** The number of commits; it goes round after 2^32 of them. */
  get change(): number {
    return Atomics.load(this.#words, 2)
  }

  /** False while somebody writes the header, or when they died there. */
  get isWhole(): boolean {
    for (let i = 0; i < headerWords; i++)
      if (Atomics.load(this.#words, i) !== Atomics.load(this.#words, headerWords + i)) return false
    return true
  }

  /** Frames up to this one are in the database file as well. */
  get backfilled(): number {
    return Atomics.load(this.#words, 24) >>> 0
  }

  /** Enters the page of a frame that follows the last one that was entered or published. */
  append(frame: number, page: number): void {
    const region = this.#region(regionOf(frame))
    const index = frame - region.zero
    if (index === 1) {
      region.pages.fill(0)
      region.hash.fill(0)
    }
    if (region.pages[index - 1] !== 0) forgetBeyond(region, index - 1)
    let slot = (page * 383) & (hashSlots - 1)
    for (let collisions = 0; region.hash[slot] !== 0; collisions++) {
      if (collisions > index) throw new HotspareError('target-changed', 'The index of the copy is damaged.')
      slot = (slot + 1) & (hashSlots - 1)
    }
    region.pages[index - 1] = page
    Atomics.store(region.hash, slot, index)
  }

  /** The page of a frame, as entered; what is read afterwards is not older. */
  page(frame: number): number {
    const region = this.#region(regionOf(frame))
    return Atomics.load(region.pages, frame - region.zero - 1)
  }

  /** Makes all frames up to `header.lastFrame` visible to readers that begin from now on. */
  publish(header: WalIndexHeader): void {
    const bytes = Buffer.alloc(headerBytes)
    bytes.writeUInt32LE(indexVersion, 0)
    bytes.writeUInt32LE(header.change, 8)
    bytes[12] = 1
    bytes[13] = header.bigEndian ? 1 : 0
    bytes.writeUInt16LE((header.pageBytes & 0xff00) | (header.pageBytes >>> 16), 14)
    bytes.writeUInt32LE(header.lastFrame, 16)
    bytes.writeUInt32LE(header.pages, 20)
    bytes.writeUInt32LE(header.checksum.s1, 24)
    bytes.writeUInt32LE(header.checksum.s2, 28)
    bytes.writeUInt32BE(header.salt1, 32)
    bytes.writeUInt32BE(header.salt2, 36)
    const own = walChecksum(bytes.subarray(0, 40), { s1: 0, s2: 0 }, false)
    bytes.writeUInt32LE(own.s1, 40)
    bytes.writeUInt32LE(own.s2, 44)
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, headerWords)
    // the second copy first: readers take the first and compare
    for (let i = 0; i < headerWords; i++) Atomics.store(this.#words, headerWords + i, words[i] as number)
    for (let i = 0; i < headerWords; i++) Atomics.store(this.#words, i, words[i] as number)
  }

  /** Nothing of the index may be used afterwards. The descriptor stays the caller's. */
  close(): void {
    for (const region of this.#regions.values()) region.mapping.unmap()
    this.#regions.clear()
  }

  #region(number: number): Region {
    const known = this.#regions.get(number)
    if (known !== undefined) return known
    this.#grow((number + 1) * regionBytes)
    const mapping = mapShared(this.#fd, number * regionBytes, regionBytes)
    const first = number === 0
    const region: Region = {
      mapping,
      zero: first ? 0 : framesInFirstRegion + (number - 1) * framesPerRegion,
      pages: first
        ? new Uint32Array(mapping.bytes, firstRegionReservedBytes, framesInFirstRegion)
        : new Uint32Array(mapping.bytes, 0, framesPerRegion),
      hash: new Uint16Array(mapping.bytes, hashOffset, hashSlots),
    }
    this.#regions.set(number, region)
    return region
  }

  /** The file's blocks are allocated before its memory is touched. */
  #grow(size: number): void {
    if (size <= this.#fileBytes) return
    this.#fileBytes = fstatSync(this.#fd).size
    for (let at = this.#fileBytes - (this.#fileBytes % growBytes); at < size; at += growBytes) {
      if (at + growBytes <= this.#fileBytes) continue
      writeSync(this.#fd, Buffer.alloc(1), 0, 1, at + growBytes - 1)
      this.#fileBytes = at + growBytes
    }
  }
}

function regionOf(frame: number): number {
  return Math.floor((frame + framesPerRegion - framesInFirstRegion - 1) / framesPerRegion)
}

/** Clears entries that a transaction left which was never published. */
function forgetBeyond(region: Region, index: number): void {
  for (let slot = 0; slot < hashSlots; slot++) {
    if ((region.hash[slot] as number) > index) Atomics.store(region.hash, slot, 0)
  }
  region.pages.fill(0, index)
}
