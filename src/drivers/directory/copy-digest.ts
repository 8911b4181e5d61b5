/**
 * BLAKE3-256 of small data: as the letters that the library can give instead of an object outside the heap, which would
 * cost more than the digest, and drive collections.
 */
import { blake3UrlSafeBase64 } from '@napi-rs/blake-hash'
import { assert } from '../../os/errors.ts'
import { digestBytes } from './copy-node.ts'

export function digestOf(data: Buffer): Buffer {
  const digest = Buffer.allocUnsafe(digestBytes)
  const written = digest.write(blake3UrlSafeBase64(data), 'base64url')
  assert(written === digestBytes, 'a digest of another length')
  return digest
}
