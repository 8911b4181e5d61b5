/**
 * The header blocks of nearly every member, a file whose records are a time, if any, and a mark: made in place of those of
 * the member before, at a fraction of the cost. What is in the least different is left to `HeaderWriter`, which would give
 * the same bytes.
 */
import type { SnapshotFile } from '../drivers/snapshot.ts'
import { chainLength } from './archive-mark.ts'
import { contentDigest } from './content-digest.ts'
import type { HeaderBase, MainHeader } from './main-header.ts'
import { blockBytes, field, idMax, nameBytesMax, putOctal, putSum, sizeMax } from './tar-format.ts'
import { usualHeaderBytes } from './usual-header.ts'

const main = 2 * blockBytes
const timeStart = ' mtime='
const markStart = `61 comment=hotspare1 ${'0'.repeat(chainLength)} `
const markRecordBytes = 61
const chainInMark = '61 comment=hotspare1 '.length
const base64url = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', 'latin1')
const asciiMax = 0x7e

export class UsualHeaderWriter {
  /** Of the member before, until the next one is made. */
  readonly area = Buffer.alloc(usualHeaderBytes)
  readonly #paxHeader: (recordBytes: number) => Buffer
  readonly #main: MainHeader
  #base: HeaderBase | undefined
  #recordBytes = 0
  #nameLength = 0

  /** `paxHeader` gives the header of so many bytes of records. */
  constructor(paxHeader: (recordBytes: number) => Buffer, main: MainHeader) {
    this.#paxHeader = paxHeader
    this.#main = main
  }

  /** Fills the area for a file, but for the chain, and gives where that stands in it; undefined when it is not the usual. */
  put(file: SnapshotFile): number | undefined {
    const { path, uid, gid, size, mtimeSeconds, mtimeNanoseconds } = file
    if (path === '' || path.length > nameBytesMax - 2 || file.xattrs !== undefined) return undefined
    if (file.extents !== undefined || uid > idMax || gid > idMax || size > sizeMax) return undefined
    if (mtimeSeconds < 0 || mtimeSeconds > sizeMax) return undefined
    if (!this.#putMain(file)) return undefined
    const timeLength = mtimeNanoseconds === 0 ? 0 : this.#timeLength(mtimeSeconds, mtimeNanoseconds)
    const recordBytes = timeLength + markRecordBytes
    const area = this.area
    const markAt = blockBytes + timeLength
    if (recordBytes !== this.#recordBytes) {
      area.set(this.#paxHeader(recordBytes))
      area.fill(0, blockBytes, main)
      area.write(markStart, markAt, 'latin1')
      area[blockBytes + recordBytes - 1] = 0x0a
      this.#recordBytes = recordBytes
    }
    if (timeLength > 0) this.#putTime(timeLength, mtimeSeconds, mtimeNanoseconds)
    putContent(area, markAt + markStart.length, contentDigest(file.digests))
    return markAt + chainInMark
  }

  /** False when the name is not plain. */
  #putMain(file: SnapshotFile): boolean {
    const area = this.area
    const base = this.#main.base(file)
    if (base !== this.#base) {
      this.#base = base
      area.set(base.block, main)
      area[main] = 0x2e
      area[main + 1] = 0x2f
      this.#nameLength = 2
    }
    const { path } = file
    const end = path.length + 2
    let sum = base.sum + 0x2e + 0x2f
    for (let i = 2; i < end; i++) {
      const byte = path.charCodeAt(i - 2)
      if (byte > asciiMax) {
        this.#nameLength = Math.max(this.#nameLength, i)
        return false
      }
      area[main + i] = byte
      sum += byte
    }
    for (let i = end; i < this.#nameLength; i++) area[main + i] = 0
    this.#nameLength = end
    sum += putOctal(area, main, field.size, file.size)
    sum += putOctal(area, main, field.mtime, file.mtimeSeconds)
    putSum(area, main, sum)
    return true
  }

  /** Of the record: `NN mtime=SECONDS.FRACTION\n`, without zeros at the fraction's end. */
  #timeLength(seconds: number, nanoseconds: number): number {
    let length = 2 + timeStart.length + 1 + 9 + 1
    for (let rest = nanoseconds; rest % 10 === 0; rest /= 10) length--
    let rest = seconds
    do {
      length++
      rest = Math.floor(rest / 10)
    } while (rest > 0)
    return length
  }

  /** From its end to its beginning. */
  #putTime(length: number, seconds: number, nanoseconds: number): void {
    const area = this.area
    let at = blockBytes + length - 1
    area[at] = 0x0a
    let rest = nanoseconds
    let digits = 9
    for (; rest % 10 === 0; rest /= 10) digits--
    for (; digits > 0; digits--) {
      area[--at] = 0x30 + (rest % 10)
      rest = Math.floor(rest / 10)
    }
    area[--at] = 0x2e
    rest = seconds
    do {
      area[--at] = 0x30 + (rest % 10)
      rest = Math.floor(rest / 10)
    } while (rest > 0)
    for (let i = timeStart.length - 1; i >= 0; i--) area[--at] = timeStart.charCodeAt(i)
    area[--at] = 0x30 + (length % 10)
    area[--at] = 0x30 + Math.floor(length / 10)
  }
}

/** As `markedDigest`: 22 characters, of the first 132 bits. */
function putContent(area: Buffer, start: number, digest: Uint8Array): void {
  let at = start
  for (let i = 0; i < 15; i += 3) {
    const bits = ((digest[i] as number) << 16) | ((digest[i + 1] as number) << 8) | (digest[i + 2] as number)
    area[at++] = base64url[bits >> 18] as number
    area[at++] = base64url[(bits >> 12) & 63] as number
    area[at++] = base64url[(bits >> 6) & 63] as number
    area[at++] = base64url[bits & 63] as number
  }
  const bits = ((digest[15] as number) << 8) | (digest[16] as number)
  area[at++] = base64url[bits >> 10] as number
  area[at] = base64url[(bits >> 4) & 63] as number
}
