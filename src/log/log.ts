/**
 * The contract of a log: a durable, numbered, ordered sequence of whole transactions of all stores of a set.
 *
 * A primary's log is made by its stores' pumps, a standby's is its primary's, piece by piece the same: numbers, epochs,
 * bytes and chain. So a prefix of a log is a prefix of each store, and one number is a cut over all of them.
 */
import type { Clock } from '../os/clock.ts'
import type { Random } from '../os/random.ts'
import type { Storage } from '../os/storage.ts'
import type { Position, StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import type { Sink } from '../stream/sink.ts'

/** The last transaction of a store that a log has had, removed or not. */
export interface StoreMark {
  readonly number: number
  readonly position: Position
  readonly timeMs: number
  readonly consistent: boolean
}

export interface SubscriberState {
  readonly name: string
  /** All up to this number is durable there. */
  readonly acknowledged: number
  /** What it has not acknowledged is kept for it. False: the log went on without it (`drop`), so it has to compare. */
  readonly kept: boolean
}

export interface LogLimits {
  /** Bytes that may stand in the log before the policy acts. */
  readonly bytesMax: number
  /** block: whoever appends waits. drop: the slowest subscriber is no longer kept for, unless it is this host itself. */
  readonly whenFull: 'block' | 'drop'
  /** Kept after every subscriber has acknowledged it: by age and by size, the longer of both; 0 and 0: not at all. */
  readonly keepMs: number
  readonly keepBytes: number
}

/** How a log begins anew: nothing before `next` is known of it. */
export interface LogStart {
  readonly next: number
  /** Of all before `next`. */
  readonly chain: Chain
}

/** Something of the log that whoever runs it should know. */
export interface LogNotice {
  readonly level: 'info' | 'warning' | 'error'
  readonly code:
    | 'log-full'
    | 'log-space'
    | 'subscriber-dropped'
    | 'log-kept-less'
    | 'log-damaged'
    | 'log-state-unwritten'
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
}

/** What was found damaged when the log was opened. The files are kept aside. */
export interface LogDamage {
  /** Transactions of these numbers are gone from this log (`toNumber` below `fromNumber`: none is). */
  readonly fromNumber: number
  readonly toNumber: number
  /** The file as it was found; undefined when it was missing. */
  readonly file: string | undefined
  readonly offset: number
  readonly what: string
  /**
   * after: the log begins after the damage, subscribers that needed it are no longer kept. before: the log ends
   * before it and goes on from there.
   */
  readonly goesOn: 'after' | 'before'
}

export interface LogOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly random: Random
  /** Made when missing. `log-busy` when another process has it. */
  readonly directory: string
  readonly limits: LogLimits
  /** Must not throw. */
  onNotice(notice: LogNotice): void
  /** Of a log that is made now; random when absent. */
  readonly stream?: string
  /** Of a log that is made now. */
  readonly epoch?: Epoch
  /**
   * What this log loses can be had from another log (a standby). Then, when a subscriber needs what is damaged in its
   * middle, the log ends before the damage; else it begins after it.
   */
  readonly refetch?: boolean
  /** A new segment is begun when the last one has so many bytes; 16 MiB, or less where `bytesMax` is small. */
  readonly segmentBytes?: number
  /**
   * The subscriber that is this host itself. What it has not acknowledged this log may have acknowledged to others, so it
   * is never dropped: a log that is full waits for it.
   */
  readonly own?: string
  /** Kept in memory before it is written to a file: of what is appended, and of each transaction; 4 MiB. */
  readonly bufferBytes?: number
}

export interface Log {
  /** Random, given when a set's first log was made; the same on all its hosts. */
  readonly stream: string
  /** The number of the first transaction that is kept; equal to `next` when none is. */
  readonly first: number
  /** The number that the next transaction gets. */
  readonly next: number
  /** The last number that is durable; `next - 1` when all is. */
  readonly durable: number
  readonly bytes: number
  /** Of the last transaction, and of those that `sink` makes. */
  readonly epoch: Epoch
  readonly limits: LogLimits
  /** Somebody waits for space, since (ms since 1970). */
  readonly fullSinceMs: number | undefined
  /** What was found damaged when the log was opened. */
  readonly damage: readonly LogDamage[]

  /**
   * A pump's sink for one store; one at a time a store. Transactions of several stores come side by side, and each
   * gets its number, as a whole, with its commit. `position` is that of `mark` or of `rebase`, made durable first.
   * When the signal aborts, a commit that waits for room rejects with its reason: its transaction is void.
   */
  sink(store: StoreName, signal?: AbortSignal): Sink
  mark(store: StoreName): StoreMark | undefined
  /** The store's last transaction before `first`; undefined when it is not known that there was none since. */
  lastBefore(store: StoreName): number | undefined
  marks(): ReadonlyMap<StoreName, StoreMark>
  /**
   * The next transaction of the store will follow on another state than the last one left (its subscribers have
   * been brought there beside the log). Undefined: on nothing. Durable when it resolves.
   */
  rebase(store: StoreName, position: Position | undefined): Promise<void>
  /** Transactions from here on are of this epoch, which is not older. Durable when it resolves. */
  beginEpoch(epoch: Epoch): Promise<void>
  /**
   * The epoch is that of the last transaction again: one that was begun after it is given up (a primary that rejoins takes
   * what others wrote, in epochs that may be older). Durable when it resolves.
   */
  giveUpEpoch(): Promise<void>

  /**
   * Takes another log's next piece; its data belongs to the log from then on. `log-gap`: not the next; `epoch-old`;
   * `digest-mismatch`: the chain is another; `entry-invalid`. After any of them the transaction is void (`abandon`).
   */
  receive(piece: LogPiece): Promise<void>
  /** What was received of a transaction without its end is void. */
  abandon(): Promise<void>

  /**
   * All that was written or received whole is durable. Concurrent calls share one sync (group commit). When writing
   * fails (disk-full), it can be called again; after a sync that failed, every act rejects until the log is opened anew.
   */
  sync(): Promise<void>
  /**
   * Durable transactions from number `from` on, up to the last one there is. `log-removed`: they are not kept;
   * `log-gap`: the log has not come so far; `log-damaged`: what is read is not what was written, open the log anew.
   */
  read(from: number, signal: AbortSignal): AsyncIterable<LogPiece>
  /** Resolves when `durable` > `number`, or on abort. */
  wait(number: number, signal: AbortSignal): Promise<void>
  /** The chain after transaction `number`; undefined when it is not known (any more). */
  chainAfter(number: number): Promise<Chain | undefined>

  subscribers(): readonly SubscriberState[]
  /**
   * Keeps for this subscriber all after `acknowledged`, from now on. Durable. Of a known one: begins again there.
   * `log-removed` when what follows `acknowledged` is not kept any more, `log-gap` when the log has not come so far.
   */
  subscribe(name: string, acknowledged: number): Promise<void>
  unsubscribe(name: string): Promise<void>
  /**
   * Never moves back, nor beyond what is durable. Made durable in time; after a crash less may be known to be
   * acknowledged. Of one that is not subscribed it means nothing.
   */
  acknowledge(name: string, number: number): void
  setLimits(limits: LogLimits): void

  /** Drops everything: the log goes on with what is said. Durable. Subscribers are gone. */
  restart(start: LogStart & { readonly stream?: string; readonly epoch?: Epoch }): Promise<void>
  /** Takes back all after `number`, writing it first as a file of its own (txlog-file.ts), durably. */
  cutAfter(number: number, asidePath: string): Promise<{ readonly transactions: number }>

  close(): Promise<void>
}

/** Takes the directory's log, or makes one. */
export type OpenLog = (options: LogOptions) => Promise<Log>
