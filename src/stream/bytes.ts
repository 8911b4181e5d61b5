/**
 * Compact binary fields, for what is kept on disk and sent over a wire. The reader believes nothing: every length is
 * checked against what is there, and a fault names what was being read.
 */
import { isUtf8 } from 'node:buffer'
import { assert, HotspareError } from '../os/errors.ts'

const int64Min = -(2n ** 63n)
const int64Max = 2n ** 63n - 1n

/** Appends fields to a buffer that grows. */
export class ByteWriter {
  #buffer: Buffer
  #length = 0

  constructor(bytesExpected = 256) {
    this.#buffer = Buffer.allocUnsafe(bytesExpected)
  }

  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    this.#reserve(1)
    this.#buffer[this.#length++] = value
    return this
  }

  /** A whole number from 0 to 2^53 - 1, in 1 to 8 bytes. */
  integer(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, `not a whole number to encode: ${value}`)
    this.#reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#length++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#buffer[this.#length++] = rest
    return this
  }

  int64(value: bigint): this {
    assert(value >= int64Min && value <= int64Max, `not a 64-bit number: ${value}`)
    this.#reserve(8)
    this.#buffer.writeBigInt64LE(value, this.#length)
    this.#length += 8
    return this
  }

  float64(value: number): this {
    this.#reserve(8)
    this.#buffer.writeDoubleLE(value, this.#length)
    this.#length += 8
    return this
  }

  bytes(value: Uint8Array): this {
    this.integer(value.length)
    return this.raw(value)
  }

  /** Bytes without their length, which the reader has to know. */
  raw(value: Uint8Array): this {
    this.#reserve(value.length)
    this.#buffer.set(value, this.#length)
    this.#length += value.length
    return this
  }

  /** Text of the characters 0 to 255, a byte each. */
  latin1(value: string): this {
    this.integer(value.length)
    this.#reserve(value.length)
    this.#length += this.#buffer.write(value, this.#length, 'latin1')
    return this
  }

  text(value: string): this {
    return this.bytes(Buffer.from(value, 'utf8'))
  }

  /** What was written, without a copy: the writer may not be used afterwards. */
  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#buffer.length) return
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(grown, 0, 0, this.#length)
    this.#buffer = grown
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
