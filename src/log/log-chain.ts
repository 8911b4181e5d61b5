/**
 * The chain of a log: a digest over all transactions up to one (stream/log-piece.ts).
 *
 * A transaction's content is digested by the headers of its frames, each of which has the length and the digest of its
 * payload; so nothing is read twice. The content's digest does not depend on what came before, so that transactions of
 * several stores can be taken side by side, before their numbers are known.
 */
import { xxh64 } from '@node-rs/xxhash'
import { HotspareError } from '../os/errors.ts'
import { ByteWriter } from '../stream/bytes.ts'
import type { StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import { frameHeaderBytes } from '../stream/frame.ts'
import type { Chain } from '../stream/log-piece.ts'

const chainSeed = 0x68_73_63_01n

/** Of a log in which nothing has been. */
export const emptyChain: Chain = '0000000000000000'

/** Digest of a transaction's frames, one after another, begun with 0. */
export function foldFrame(content: bigint, frame: Buffer): bigint {
  return xxh64(frame.subarray(0, frameHeaderBytes), content)
}

export interface Chained {
  readonly number: number
  readonly epoch: Epoch
  readonly store: StoreName
  readonly content: bigint
}

export function chainOf(before: Chain, { number, epoch, store, content }: Chained): Chain {
  const bytes = new ByteWriter(192)
    .raw(chainBytes(before))
    .integer(number)
    .integer(epoch.number)
    .text(epoch.by)
    .latin1(store)
    .int64(BigInt.asIntN(64, content))
    .finish()
  const digest = xxh64(bytes, chainSeed)
  known = digest.toString(16).padStart(16, '0')
  knownBytes = Buffer.allocUnsafe(8)
  knownBytes.writeBigUInt64BE(digest)
  return known
}

/** The newest one, which is asked for again at once: by the end of its transaction, and for the next one. */
let known: Chain = emptyChain
let knownBytes: Buffer = Buffer.alloc(8)

/** Not to be changed. */
export function chainBytes(chain: Chain): Buffer {
  if (chain === known) return knownBytes
  if (!/^[0-9a-f]{16}$/.test(chain))
    throw new HotspareError('entry-invalid', `A chain has 16 hex digits; found '${chain}'.`)
  known = chain
  knownBytes = Buffer.from(chain, 'hex')
  return knownBytes
}
