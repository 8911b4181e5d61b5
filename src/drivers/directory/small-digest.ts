/** Of a small file, in the index: whether one that was touched has changed (see entry-flags.ts). */
import { xxh3 } from '@node-rs/xxhash'
import { smallDigestBytes } from './entry-flags.ts'

const seed = 0x68_73_66_03n
const low64 = 0xffffffffffffffffn

export function smallDigest(data: Uint8Array): Buffer {
  const value = xxh3.xxh128(data, seed)
  const digest = Buffer.allocUnsafe(smallDigestBytes)
  digest.writeBigUInt64LE(value & low64, 0)
  digest.writeBigUInt64LE(value >> 64n, 8)
  return digest
}
