/**
 * The contract of what a server does towards its upstream while it is a standby: it takes the upstream's log, keeps a
 * replica of each store at it, and acknowledges both.
 *
 *     upstream --log--> receiving --> log --> applying (a store at a time) --> replicas
 *     upstream --sync STORE------------------> syncing --------------------> replica, beside the log
 *
 * Made when a server becomes a standby (`openDownstream`), closed when it is one no more. It holds the copies' locks as a
 * follower does, from open to close.
 */
import type { ConsistentCommit, CopyOptions, Driver } from '../../drivers/driver.ts'
import type { Log } from '../../log/log.ts'
import type { Position, StoreName } from '../../stream/entry.ts'
import type { Epoch } from '../../stream/epoch.ts'
import type { Control } from '../control.ts'
import type { Level } from '../messages.ts'
import type { ServerMachine, ServerSettings, StoreStatus } from '../server.ts'
import type { ServerStateFile } from '../state.ts'

/** The log's subscriber that stands for all replicas of this server. */
export const applySubscriber = '#apply'

export interface DownstreamOptions {
  readonly settings: ServerSettings
  readonly machine: ServerMachine
  readonly state: ServerStateFile
  readonly log: Log
  tell(level: Level, code: string, text: string): void
  /** The upstream writes in a newer epoch than `state` has: durable when it resolves. A rejection ends the session. */
  learnt(epoch: Epoch): Promise<void>
  /** What those below this server have of these stores is void (`Upstream.invalidate`). */
  invalidate(stores: readonly StoreName[]): Promise<void>
  /** The log is about to begin anew: no session downwards may go on with it (`Upstream.disconnect`). */
  disconnect(reason: string): Promise<void>
  /** The standby cannot go on: the log takes no work any more, or a bug. Once; it has stopped by itself. */
  failed(error: unknown): void
}

/** What the upstream last said of its own end. */
export interface UpstreamMark {
  /** All up to it was sent. */
  readonly number: number
  /** At that moment, by the primary's clock. */
  readonly timeMs: number
  /** When it was heard here. */
  readonly heardMs: number
}

export interface TakingEnd {
  /** Undefined: this side stopped it. */
  readonly error: unknown
  /** It was refused, by either side: calling again at once is of no use. */
  readonly refused: boolean
}

/** One session with the upstream. */
export interface Taking {
  /** subscribing until the upstream has answered. */
  readonly state: 'subscribing' | 'synchronising' | 'receiving'
  /** Resolves when nothing more is taken and what came whole is durable. Never rejects. The session is closed then. */
  readonly over: Promise<TakingEnd>
  stop(): Promise<void>
}

/** Where a copy is, for what its driver does with it. */
export type CopyAt = Omit<CopyOptions, 'signal' | 'onProgress' | 'onNotice'>

/** Where a store's copy stands once nothing is applied to it any more. */
export interface ReplicaStand {
  readonly store: StoreName
  readonly driver: Driver
  readonly copy: CopyAt
  /** The last transaction that its copy holds; undefined: it has to be synchronised, and what it holds is no cut. */
  readonly number: number | undefined
  /** What the copy opens as; the position is the driver's own. */
  readonly consistent: (ConsistentCommit & { readonly number: number }) | undefined
  /** Why it is not at the end of the log: it is quarantined, or not synchronised. For people. */
  readonly fault?: string
}

/** A copy that rests at a consistent commit. */
export interface RestingCopy {
  readonly number: number
  /** The driver's own. */
  readonly position: Position
  readonly driver: Driver
  readonly copy: CopyAt
}

export interface Downstream {
  /**
   * Takes the log from the upstream, by a session that has just begun, until that is over. One at a time. Its control
   * channel's 'subscribed' and 'refused' are handled here.
   */
  take(control: Control): Taking

  /** Off: resolves when each copy rests at a consistent commit, or is said to wait for one. Durable. */
  setApplying(on: boolean): Promise<void>
  /** Durable when it resolves. `usage`: no such store, or it needs no release. */
  release(store: StoreName, how: 'retry' | 'synchronise'): Promise<void>
  /**
   * Puts into the copies all that the log has, whether applying is on or not, and rests at its last consistent commit.
   * Nothing may be taken meanwhile. Resolves with the log's last number; stores that could not come so far say why in
   * `stands`. Applying stays stopped until `resume`.
   */
  runDry(signal: AbortSignal): Promise<{ readonly number: number; readonly timeMs: number | undefined }>
  /** Closes the copies, keeping their locks; after `runDry`. */
  closeCopies(): Promise<readonly ReplicaStand[]>
  /** Applies again, as far as that is on: undoes `runDry` and `closeCopies`. */
  resume(): Promise<void>
  /**
   * Does `work` while the store's copy rests at a consistent commit, as far as it has come, for a frozen view of it.
   * Throws `target-incomplete` when it has to be synchronised itself.
   */
  whileResting<T>(store: StoreName, signal: AbortSignal, work: (at: RestingCopy) => Promise<T>): Promise<T>

  stores(): readonly StoreStatus[]
  readonly mark: UpstreamMark | undefined
  /** Called for each mark, for those further down. Returns what ends it. */
  onMark(listener: (mark: UpstreamMark) => void): () => void
  /** Transactions that were received whole since it was opened. */
  readonly receivedTransactions: number
  /** All up to this number is durable in all copies. */
  readonly applied: number

  /** Stops at once, at a commit: what is in the log is applied by the next one. Gives the locks back. */
  close(): Promise<void>
}

/** Rejects with what keeps it from beginning at all: `target-busy`, `target-missing`, `state-damaged`. */
export type OpenDownstream = (options: DownstreamOptions) => Promise<Downstream>
