/**
 * What statx(2) says of a file, read from the bytes of the call without a BigInt; one buffer serves any number of calls.
 * 64-bit numbers that can be beyond 2^53 (inodes, seconds) are there as two halves.
 */
const kindMask = 0o170000

export const fileKind = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
} as const

export class StatBuffer {
  /** struct statx, little-endian as all that we run on. */
  readonly bytes: Buffer
  /** The same memory, in words of 4 bytes. */
  readonly words: Int32Array

  constructor() {
    const memory = new ArrayBuffer(256)
    this.bytes = Buffer.from(memory)
    this.words = new Int32Array(memory)
  }

  /** Kind and permissions, as st_mode. */
  get fullMode(): number {
    return (this.words[7] as number) & 0xffff
  }

  /** One of `fileKind`, or what a special file has. */
  get kind(): number {
    return (this.words[7] as number) & kindMask
  }

  /** Permissions, with setuid, setgid and sticky. */
  get mode(): number {
    return (this.words[7] as number) & 0o7777
  }

  get links(): number {
    return (this.words[4] as number) >>> 0
  }

  get uid(): number {
    return (this.words[5] as number) >>> 0
  }

  get gid(): number {
    return (this.words[6] as number) >>> 0
  }

  get inodeLow(): number {
    return (this.words[8] as number) >>> 0
  }

  get inodeHigh(): number {
    return (this.words[9] as number) >>> 0
  }

  get size(): number {
    return ((this.words[10] as number) >>> 0) + (this.words[11] as number) * 2 ** 32
  }

  /** Blocks of 512 bytes really allocated. */
  get blocks(): number {
    return ((this.words[12] as number) >>> 0) + (this.words[13] as number) * 2 ** 32
  }

  get ctimeSecondsLow(): number {
    return (this.words[24] as number) >>> 0
  }

  get ctimeSecondsHigh(): number {
    return this.words[25] as number
  }

  get ctimeNanoseconds(): number {
    return (this.words[26] as number) >>> 0
  }

  get mtimeSecondsLow(): number {
    return (this.words[28] as number) >>> 0
  }

  get mtimeSecondsHigh(): number {
    return this.words[29] as number
  }

  get mtimeNanoseconds(): number {
    return (this.words[30] as number) >>> 0
  }

  get mtimeNs(): bigint {
    return nanoseconds(this.words[28] as number, this.words[29] as number, this.mtimeNanoseconds)
  }

  get ctimeNs(): bigint {
    return nanoseconds(this.words[24] as number, this.words[25] as number, this.ctimeNanoseconds)
  }

  get deviceMajor(): number {
    return (this.words[34] as number) >>> 0
  }

  get deviceMinor(): number {
    return (this.words[35] as number) >>> 0
  }
}

/** A time from its halves. */
export function nanoseconds(secondsLow: number, secondsHigh: number, nanoseconds: number): bigint {
  const seconds = (BigInt(secondsHigh) << 32n) | BigInt(secondsLow >>> 0)
  return seconds * 1_000_000_000n + BigInt(nanoseconds)
}
