/**
 * What two servers say to each other. Each message is one frame of the link, bounded, and checked before it is believed
 * (message-codec.ts).
 *
 * Of the two, the one that has named the other as its upstream is the downstream. Channels:
 *
 *     'control'      subscribe, subscribed, refused, epoch, probe, probed, chain-ask, chain-told,
 *                    hand-over, handed-over, not-handed-over
 *     'log'          log and mark downwards, acknowledge upwards
 *     'sync STORE'   a store brought to the downstream beside the log
 */
import type { EntryPath, Position, StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'

/** A store as the downstream has it. */
export interface StoreStand {
  readonly store: StoreName
  /** The number of the last transaction that its replica holds or will get from the log; undefined: it must be synchronised. */
  readonly number: number | undefined
  /** It takes no transactions now: a transaction could not be applied. */
  readonly quarantined: boolean
}

export interface StoreDescription {
  readonly store: StoreName
  readonly driver: string
  readonly profile?: string
}

export type LinkMessage =
  // control, upwards: where the downstream stands
  | {
      readonly type: 'subscribe'
      /** The number that its log takes next, and the chain before it. */
      readonly next: number
      readonly chain: Chain
      readonly stores: readonly StoreStand[]
    }
  // control, downwards: from where its log goes on. When `restart`, its log begins anew there.
  | {
      readonly type: 'subscribed'
      readonly next: number
      readonly chain: Chain
      readonly restart: boolean
      readonly stream: string
      readonly epoch: Epoch
      readonly stores: readonly StoreDescription[]
      /** Those that come by a 'sync' channel first. */
      readonly sync: readonly StoreName[]
    }
  | { readonly type: 'refused'; readonly code: string; readonly message: string }
  // both ways: the sender has learnt of this epoch
  | { readonly type: 'epoch'; readonly epoch: Epoch }
  | { readonly type: 'probe'; readonly id: number; readonly payload: Buffer }
  /** After the probe was written to disk where it arrived. */
  | { readonly type: 'probed'; readonly id: number; readonly durableMs: number }
  // both ways: where two logs part. `chain` is that after `number`; undefined when the log does not know it (any more).
  | { readonly type: 'chain-ask'; readonly number: number }
  | {
      readonly type: 'chain-told'
      readonly number: number
      readonly chain: Chain | undefined
      /** Of the log that was asked. */
      readonly first: number
      readonly next: number
    }
  // control, upwards: the downstream is about to begin this epoch, of its own name, and asks its primary to give way
  | { readonly type: 'hand-over'; readonly epoch: Epoch }
  /** Downwards: writers are stopped and the sender is fenced by `epoch`; all up to `number` is durable at the downstream. */
  | {
      readonly type: 'handed-over'
      readonly epoch: Epoch
      readonly number: number
      /** After `number`. */
      readonly chain: Chain
      /** Since its writers were told to stop. */
      readonly withoutWriterMs: number
    }
  /** Downwards: nothing has changed; the sender is the primary as before. */
  | {
      readonly type: 'not-handed-over'
      readonly epoch: Epoch
      readonly code: string
      readonly message: string
    }
  // log
  | { readonly type: 'log'; readonly pieces: readonly LogPiece[] }
  /** All up to `number` was sent; what it says of time is true of the primary. */
  | { readonly type: 'mark'; readonly number: number; readonly timeMs: number }
  | {
      readonly type: 'acknowledge'
      /** Durable in the downstream's log. */
      readonly received: number
      /** In all its replicas, durable. */
      readonly applied: number
      /** Of all that follow it in cascade as well: what may be released. */
      readonly released: number
    }
  // sync, downwards
  /** Begins, or begins anew what has not ended: changes without their commit are void, and the copy says what it has. */
  | { readonly type: 'sync-begin'; readonly description: StoreDescription }
  | { readonly type: 'inventory-ask'; readonly after: EntryPath | undefined }
  | {
      readonly type: 'digests-ask'
      readonly path: EntryPath
      readonly firstBlock: number
      readonly count: number
    }
  /** Whole frames of entries. */
  | { readonly type: 'sync-entries'; readonly data: Buffer }
  /** Make durable what came, and answer `sync-durable`. */
  | { readonly type: 'sync-flush'; readonly id: number }
  /** The store stands now where transaction `number` leaves it: what the log brings after it follows on. */
  | { readonly type: 'sync-end'; readonly number: number; readonly position: Position }
  // sync, upwards
  | { readonly type: 'sync-ready'; readonly position: Position | undefined; readonly hasInventory: boolean }
  | {
      readonly type: 'inventory-page'
      readonly files: readonly {
        readonly path: EntryPath
        readonly size: number
        readonly blockBytes: number
        readonly digest: 'blake3-256' | 'xxh64'
      }[]
      readonly others: readonly {
        readonly path: EntryPath
        readonly kind: 'directory' | 'symlink' | 'hardlink' | 'other'
      }[]
      readonly last: boolean
    }
  | {
      readonly type: 'digests'
      readonly path: EntryPath
      readonly firstBlock: number
      readonly digests: Buffer
    }
  | { readonly type: 'sync-durable'; readonly id: number }
  | { readonly type: 'sync-ended' }
