/**
 * From where a downstream's log goes on, and which stores come beside it first. Pure.
 *
 * Invariant: a downstream goes on only where its log is, transaction by transaction, what this one's is up to there; and
 * a store goes on with the log only when its copy stands where the log's next transaction of it follows.
 */

import type { StoreStand } from '../link/messages.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch } from '../stream/epoch.ts'
import type { Chain } from '../stream/log-piece.ts'

export interface SubscribeRequest {
  readonly peer: string
  /** The newest epoch that the downstream has heard of. */
  readonly epoch: Epoch
  /** Of its log; empty when it has none yet. */
  readonly stream: string
  readonly next: number
  readonly chain: Chain
  readonly stores: readonly StoreStand[]
}

export interface StoreOffer {
  readonly store: StoreName
  /** What the log brings next follows on what it brought before, and this subscriber owes us no comparison. */
  readonly goesOn: boolean
}

/** How this server stands. */
export interface UpstreamStand {
  /** The newest epoch that it has heard of. */
  readonly epoch: Epoch
  /** A newer primary has replaced it. */
  readonly fenced: boolean
  /** From the primary down to this server, itself last. */
  readonly path: readonly string[]
  readonly stream: string
  readonly first: number
  /** After its last durable transaction. */
  readonly next: number
  /** Of its own log, before the number that the downstream wants next; undefined when it is not known. */
  readonly chain: Chain | undefined
  /** The log has kept for this subscriber all that it has not acknowledged. */
  readonly kept: boolean
  readonly stores: readonly StoreOffer[]
}

export type SubscribeDecision =
  /** This server is behind the times: nothing is shipped. */
  | { readonly kind: 'outdated'; readonly code: 'fenced' | 'epoch-old'; readonly epoch: Epoch }
  | { readonly kind: 'loop' }
  | { readonly kind: 'go-on'; readonly next: number; readonly sync: readonly StoreName[] }
  /** The downstream's log begins anew, at a number that this server chooses. */
  | { readonly kind: 'restart'; readonly sync: readonly StoreName[] }

export function decideSubscription(request: SubscribeRequest, own: UpstreamStand): SubscribeDecision {
  if (own.path.includes(request.peer)) return { kind: 'loop' }
  if (compareEpochs(request.epoch, own.epoch) > 0)
    return { kind: 'outdated', code: 'epoch-old', epoch: request.epoch }
  if (own.fenced) return { kind: 'outdated', code: 'fenced', epoch: own.epoch }
  // of others it wants nothing
  const offers = own.stores.filter(offer => standOf(offer, request) !== undefined)
  if (!isSameLog(request, own)) return { kind: 'restart', sync: offers.map(({ store }) => store) }
  const sync = offers.filter(offer => !own.kept || !goesOn(offer, request, own)).map(({ store }) => store)
  return { kind: 'go-on', next: request.next, sync }
}

function isSameLog(request: SubscribeRequest, own: UpstreamStand): boolean {
  return (
    request.stream === own.stream &&
    request.next >= own.first &&
    request.next <= own.next &&
    request.chain === own.chain
  )
}

function goesOn(offer: StoreOffer, request: SubscribeRequest, own: UpstreamStand): boolean {
  const number = standOf(offer, request)?.number
  // a number that this log has not come to was given by another one
  return offer.goesOn && number !== undefined && number < own.next
}

function standOf(offer: StoreOffer, request: SubscribeRequest): StoreStand | undefined {
  return request.stores.find(({ store }) => store === offer.store)
}
