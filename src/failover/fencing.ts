/**
 * Fencing: what a server does when it learns of an epoch. Pure.
 *
 * Invariant: nobody goes back to an older epoch than the newest that it has heard of. So of two primaries that meet, in
 * whatever way and through whomever, exactly one goes on; and what the other writes from then on reaches nobody.
 *
 * The worst outcome: two primaries that cannot reach each other, nor anybody that knows both, both go on until they can.
 * What the lesser wrote meanwhile is put aside when it rejoins.
 */
import { compareEpochs, type Epoch } from '../stream/epoch.ts'

/** Under which epoch a server stands. */
export type Reign =
  | { readonly role: 'primary'; readonly epoch: Epoch; readonly fencedBy?: Epoch }
  /** `epoch` is the newest that it has heard of, which its log may not have reached. */
  | { readonly role: 'standby'; readonly epoch: Epoch }

/** Who said it: the server that the log is taken from, or any other. */
export type Teller = 'upstream' | 'other'

export type Meeting =
  /** One and the same epoch. */
  | { readonly kind: 'same' }
  /** The other has not heard of ours: it is told, and nothing is taken from it. */
  | { readonly kind: 'older'; readonly newest: Epoch }
  /** A primary was replaced: it ships nothing from here on. */
  | { readonly kind: 'fenced'; readonly by: Epoch }
  /** The upstream passes on what a newer primary writes: so do we. */
  | { readonly kind: 'follows'; readonly epoch: Epoch }
  /** There is a newer primary, and the upstream does not follow it as far as we know: it is left. */
  | { readonly kind: 'leaves-upstream'; readonly epoch: Epoch }

/** The newest epoch that the server has heard of. */
export function newestEpoch(reign: Reign): Epoch {
  return reign.role === 'primary' ? (reign.fencedBy ?? reign.epoch) : reign.epoch
}

export function meetEpoch(own: Reign, met: Epoch, from: Teller): Meeting {
  const newest = newestEpoch(own)
  const order = compareEpochs(met, newest)
  if (own.role === 'primary') {
    // what fenced us once does so whenever it is met again
    if (order > 0 || (order === 0 && own.fencedBy !== undefined)) return { kind: 'fenced', by: met }
    return order < 0 ? { kind: 'older', newest } : { kind: 'same' }
  }
  if (order < 0) return { kind: 'older', newest }
  if (order === 0) return { kind: 'same' }
  return from === 'upstream' ? { kind: 'follows', epoch: met } : { kind: 'leaves-upstream', epoch: met }
}

/** The epoch that a promotion of `name` begins: newer than all that are known. */
export function nextEpoch(reign: Reign, name: string): Epoch {
  return { number: newestEpoch(reign).number + 1, by: name }
}
