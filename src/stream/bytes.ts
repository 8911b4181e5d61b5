/**
 * Compact binary fields, for what is kept on disk and sent over a wire. The reader believes nothing: every length is
 * checked against what is there, and a fault names what was being read.
 */
import { isUtf8 } from 'node:buffer'
import { assert, HotspareError } from '../os/errors.ts'
import { takeLarge } from '../os/large-buffers.ts'

const int64Min = -(2n ** 63n)
const int64Max = 2n ** 63n - 1n

/** Up to so many characters a loop is faster than a call. */
const shortText = 48
/** Small buffers are cut from one of so many bytes, as long as what is left of it. */
const slabBytes = 64 * 1024
let slab = Buffer.allocUnsafeSlow(slabBytes)
let slabUsed = 0

/** Where a part of the slab begins that is its taker's own; undefined: it is too large for one. */
function cut(bytes: number): number | undefined {
  if (bytes > slabBytes / 8) return undefined
  if (slabUsed + bytes > slabBytes) {
    slab = Buffer.allocUnsafeSlow(slabBytes)
    slabUsed = 0
  }
  slabUsed += bytes
  return slabUsed - bytes
}

/** Appends fields to a buffer that grows. */
export class ByteWriter {
  /** The slab, or a buffer of its own. */
  #buffer: Buffer = slab
  #start = 0
  #end = 0
  /** In `#buffer`, after what was written. */
  #at = 0

  constructor(bytesExpected = 256) {
    this.#take(bytesExpected)
  }

  get length(): number {
    return this.#at - this.#start
  }

  #take(bytes: number): void {
    const start = cut(bytes)
    this.#buffer = start === undefined ? takeLarge(bytes) : slab
    this.#start = start ?? 0
    this.#end = start === undefined ? this.#buffer.length : start + bytes
    this.#at = this.#start
  }

  u8(value: number): this {
    this.#reserve(1)
    this.#buffer[this.#at++] = value
    return this
  }

  /** A whole number from 0 to 2^53 - 1, in 1 to 8 bytes. */
  integer(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, `not a whole number to encode: ${value}`)
    this.#reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#at++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#buffer[this.#at++] = rest
    return this
  }

  int64(value: bigint): this {
    assert(value >= int64Min && value <= int64Max, `not a 64-bit number: ${value}`)
    this.#reserve(8)
    this.#buffer.writeBigInt64LE(value, this.#at)
    this.#at += 8
    return this
  }

  float64(value: number): this {
    this.#reserve(8)
    this.#buffer.writeDoubleLE(value, this.#at)
    this.#at += 8
    return this
  }

  bytes(value: Uint8Array): this {
    this.integer(value.length)
    return this.raw(value)
  }

  /** Bytes without their length, which the reader has to know. */
  raw(value: Uint8Array): this {
    this.#reserve(value.length)
    this.#buffer.set(value, this.#at)
    this.#at += value.length
    return this
  }

  /** Text of the characters 0 to 255, a byte each. */
  latin1(value: string): this {
    this.integer(value.length)
    this.#reserve(value.length)
    if (value.length > shortText) this.#at += this.#buffer.write(value, this.#at, 'latin1')
    else for (let i = 0; i < value.length; i++) this.#buffer[this.#at++] = value.charCodeAt(i)
    return this
  }

  text(value: string): this {
    const length = Buffer.byteLength(value)
    if (length === value.length) return this.latin1(value) // the same bytes
    this.integer(length)
    this.#reserve(length)
    this.#at += this.#buffer.write(value, this.#at)
    return this
  }

  /** Room for what is filled in later: of unknown content. */
  room(bytes: number): this {
    this.#reserve(bytes)
    this.#at += bytes
    return this
  }

  /** What was written, without a copy: the writer may not be used afterwards. */
  finish(): Buffer {
    // what was not used of the slab, when nobody has cut from it since
    if (this.#buffer === slab && this.#end === slabUsed) slabUsed = this.#at
    return this.#buffer.subarray(this.#start, this.#at)
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#end) return
    const { length } = this
    const from = this.#buffer
    const start = this.#start
    this.#take(Math.max(length + bytes, (this.#end - start) * 2))
    from.copy(this.#buffer, this.#start, start, start + length)
    this.#at += length
  }
}

/** Reads fields in the order in which they were written. Bytes that it gives are views, not copies. */
export class ByteReader {
  readonly #buffer: Buffer
  #offset = 0

  constructor(bytes: Uint8Array) {
    this.#buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  get remaining(): number {
    return this.#buffer.length - this.#offset
  }

  u8(what: string): number {
    this.#need(1, what)
    return this.#buffer[this.#offset++] as number
  }

  integer(what: string): number {
    let value = 0
    for (let scale = 1; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.u8(what)
      value += (byte & 0x7f) * scale
      if (byte >= 0x80) continue
      if (byte === 0 && scale > 1) throw malformed(`${what} is a number that is not in its shortest form`)
      if (!Number.isSafeInteger(value)) break
      return value
    }
    throw malformed(`${what} is a number beyond 2^53`)
  }

  int64(what: string): bigint {
    this.#need(8, what)
    this.#offset += 8
    return this.#buffer.readBigInt64LE(this.#offset - 8)
  }

  float64(what: string): number {
    this.#need(8, what)
    this.#offset += 8
    return this.#buffer.readDoubleLE(this.#offset - 8)
  }

  bytes(what: string, bytesMax: number): Buffer {
    const length = this.integer(what)
    if (length > bytesMax) throw malformed(`${what} has ${length} bytes, more than the ${bytesMax} allowed`)
    return this.raw(what, length)
  }

  raw(what: string, length: number): Buffer {
    this.#need(length, what)
    this.#offset += length
    return this.#buffer.subarray(this.#offset - length, this.#offset)
  }

  latin1(what: string, bytesMax: number): string {
    return this.bytes(what, bytesMax).toString('latin1')
  }

  text(what: string, bytesMax: number): string {
    const bytes = this.bytes(what, bytesMax)
    if (!isUtf8(bytes)) throw malformed(`${what} is not UTF-8`)
    return bytes.toString('utf8')
  }

  end(what: string): void {
    if (this.remaining > 0) throw malformed(`${what} is followed by ${this.remaining} bytes too many`)
  }

  #need(bytes: number, what: string): void {
    if (this.remaining < bytes) {
      throw malformed(`${what} needs ${bytes} bytes and there are ${this.remaining}`)
    }
  }
}

function malformed(what: string): HotspareError {
  return new HotspareError('entry-invalid', `Malformed bytes: ${what}.`)
}
