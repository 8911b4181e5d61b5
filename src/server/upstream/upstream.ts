/**
 * The contract of what a server does for those below it: it gives them its log, and brings each store to them that they
 * do not have, or not as the log needs it.
 *
 *     primary   live store --pump--> log --shipping--> downstream   (one pump a store, store-feed.ts)
 *                          --sync STORE-------------> downstream   beside the log, while that store's pump rests
 *     standby   log, as its own upstream sends it --> downstream
 *               a frozen view of its copy --sync STORE--> downstream
 *
 * A server has one of these as long as it runs; what it does changes with the server's role (`become`).
 */
import type { Log } from '../../log/log.ts'
import type { StoreName } from '../../stream/entry.ts'
import type { Epoch } from '../../stream/epoch.ts'
import type { Control } from '../control.ts'
import type { Downstream } from '../downstream/downstream.ts'
import type { Level } from '../messages.ts'
import type { ProbeReport, ServerMachine, ServerSettings, StoreStatus } from '../server.ts'
import type { ServerStateFile } from '../state.ts'

export interface UpstreamOptions {
  readonly settings: ServerSettings
  readonly machine: ServerMachine
  readonly state: ServerStateFile
  readonly log: Log
  tell(level: Level, code: string, text: string): void
  /** The servers from the primary down to this one, itself last. */
  path(): readonly string[]
  /** A downstream stands under a newer epoch: durable when it resolves. Nothing is shipped to it. */
  learnt(epoch: Epoch): Promise<void>
  /** It cannot go on: the log takes no work any more, or a bug. Once. */
  failed(error: unknown): void
}

export type UpstreamRole =
  /** Neither pumps nor ships, and has no source open: a server that starts, or changes its role. */
  | { readonly kind: 'resting' }
  /** A primary that was replaced: as resting, but its sources stay open, so that `drain` can go on where they are. */
  | { readonly kind: 'fenced' }
  /** Reads its live stores into the log (as far as `enqueuing` is on). The log's epoch is this server's own already. */
  | { readonly kind: 'primary' }
  | {
      readonly kind: 'standby'
      readonly downstream: Pick<Downstream, 'whileResting' | 'applied' | 'mark' | 'onMark'>
    }

export interface ServingEnd {
  /** Undefined: this side stopped it. */
  readonly error: unknown
  /** It was refused, by either side: calling again at once is of no use. */
  readonly refused: boolean
}

/** One session with a server that takes its log from this one. */
export interface Serving {
  readonly peer: string
  /** subscribing until it was told from where it gets the log. */
  readonly state: 'subscribing' | 'synchronising' | 'shipping'
  /** Nothing of the log is left to be sent. */
  readonly caughtUp: boolean
  /** What the peer has said; undefined before it has. */
  readonly received: number | undefined
  readonly applied: number | undefined
  readonly lagMs: number | undefined
  readonly lagTransactions: number | undefined
  /** Never rejects. The session is closed then. */
  readonly over: Promise<ServingEnd>
  stop(): Promise<void>
}

export interface Upstream {
  /** Ends what it did in the role before: sessions, pumps, sources. Resolves when it does what the new one says. */
  become(role: UpstreamRole): Promise<void>

  /**
   * Serves the server at the other end, by a session that has just begun, until that is over. Its control channel's
   * 'subscribe', 'probed' are handled here. Of a peer that is served already, the older session is ended first.
   */
  serve(control: Control): Serving
  servings(): readonly Serving[]

  /**
   * What those below have of these stores does not go with what the log brings next: they have to synchronise them anew.
   * Resolves when that is durable, and when each one that is connected has stopped applying the store (or its session is
   * closed). A standby calls it before it tells its own upstream that it is ready for a store's synchronisation
   * ('sync-ready'), and, with all stores of 'subscribed.sync', before it takes the first piece of the log.
   */
  invalidate(stores: readonly StoreName[]): Promise<void>
  /** Ends all sessions downwards: the log is about to be begun anew, or cut. They may come again. */
  disconnect(reason: string): Promise<void>

  /** Of a primary. Off: resolves when nothing more is put into the log. The state is the caller's to keep durable. */
  setEnqueuing(on: boolean): Promise<void>
  /**
   * Of a primary, also one that is fenced: reads every store into the log to its end once more. Resolves with the log's
   * last number then, all durable. A store whose continuity with the log cannot be proved is left out and said: what is
   * new in it has to be compared. Rejects with the fault of a store that cannot be read.
   */
  drain(signal: AbortSignal): Promise<number>
  /**
   * Of a primary: no store is read into the log any more, until it becomes a primary anew; sources and sessions stay.
   * For `readRest` it must be fenced then.
   */
  stopReading(): Promise<void>
  /**
   * Of a primary that is fenced: reads what its stores have beyond the log into it, durably. Resolves with the stores of
   * which that is not known: their source cannot prove that it follows on the log. Rejects with the fault of a store that
   * cannot be read.
   */
  readRest(): Promise<readonly StoreName[]>
  /**
   * Resolves with the number when all that is committed at the stores now is durable at the peer. Rejects when a store
   * cannot be read to its end, or the peer has to synchronise and the signal aborts first.
   */
  waitFor(peer: string, signal: AbortSignal): Promise<number>
  /** Sends bytes to the peer that it writes to its disk. `peer-away` when it is not connected. */
  probe(peer: string, bytes: number, signal: AbortSignal): Promise<ProbeReport>

  /** Of a primary: how its stores are read. */
  stores(): readonly StoreStatus[]
  /** Whole transactions that were sent, to all together. */
  readonly shippedTransactions: number
  close(): Promise<void>
}

/** Begins resting. */
export type OpenUpstream = (options: UpstreamOptions) => Promise<Upstream>
