/** A log as a stream of pieces: what a log gives to a link, and takes from one. */
import type { Position, StoreName } from './entry.ts'
import type { Epoch } from './epoch.ts'

/**
 * Digest over all transactions up to one, 16 hex digits: each transaction's covers the one before, its number, epoch, store
 * and bytes. Two logs that have the same chain after a number hold the same up to it.
 */
export type Chain = string

/** Entries of one piece have at most so many bytes together, or are one entry. */
export const pieceBytesMax = 256 * 1024

/** A log as a stream: each transaction is a `begin`, its entries, and an `end`. */
export type LogPiece =
  | {
      readonly type: 'begin'
      /** Without gaps. */
      readonly number: number
      /** Never falls. */
      readonly epoch: Epoch
      readonly store: StoreName
    }
  | {
      readonly type: 'entries'
      /** Whole frames (stream/frame.ts) of entries (stream/codec.ts); the last of a transaction is its commit. */
      readonly data: Buffer
    }
  | {
      readonly type: 'end'
      readonly number: number
      readonly chain: Chain
      readonly position: Position
      /** As in the commit. */
      readonly timeMs: number
      readonly consistent: boolean
    }
