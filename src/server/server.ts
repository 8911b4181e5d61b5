/**
 * The contract of a server: what one host does for one set, whatever its role.
 *
 *     primary   pump(store, log) for each store; ships the log to its subscribers
 *     standby   takes its upstream's log, pump(log, replica) for each store; ships its log to subscribers of its own
 *
 * All that must outlive the process is in its state directory; nothing is kept in memory that a crash could lose.
 */
import type { Driver, DriverOptions, Machine } from '../drivers/driver.ts'
import type { PromoteOptions, PromotionReport } from '../failover/promotion.ts'
import type { RejoinReport } from '../failover/rejoining.ts'
import type { Compressor } from '../link/compression.ts'
import type { LinkState } from '../link/link-state.ts'
import type { PeerTrust } from '../link/trust.ts'
import type { LogLimits } from '../log/log.ts'
import type { Random } from '../os/random.ts'
import type { ByteStream, Transport } from '../os/transport.ts'
import type { StateDigest, StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'

export type { LinkState, PromoteOptions, PromotionReport, RejoinReport }

export interface StoreSettings {
  readonly store: StoreName
  /** Where it is on this host: the live store of a primary, the copy of a standby. */
  readonly path: string
  readonly driver: string
  readonly profile?: string
  readonly driverOptions: DriverOptions
}

export interface PeerSettings {
  readonly name: string
  /** Where to call it; undefined: it calls us. */
  readonly address?: string
  /** Its transactions are kept until this one has acknowledged them. */
  readonly subscriber: boolean
}

export interface ServerSettings {
  readonly set: string
  /** This server's name within the set. */
  readonly name: string
  readonly stateDirectory: string
  /** The role with which a new server begins; from then on the state directory knows. */
  readonly role: 'primary' | 'standby'
  /** Of a new standby: whom it takes its log from. */
  readonly upstream?: string
  readonly stores: readonly StoreSettings[]
  readonly peers: readonly PeerSettings[]
  readonly listen?: string
  readonly limits: LogLimits
  /** Passes its transactions on to subscribers of its own (cascade). */
  readonly logStandbyUpdates: boolean
  /** Bytes a second that go to one peer; 0: no bound. */
  readonly bandwidthBytesPerSecond: number
  /** What has been replaced as the primary becomes a standby of the new one by itself; 'manual' unless told otherwise. */
  readonly rejoin?: 'manual' | 'automatic'
}

export interface ServerMachine extends Machine {
  readonly random: Random
  /** Already secured: what it connects are peers that have proved the pair's secret. */
  readonly transport: Transport
  driverNamed(name: string): Driver
  /** Whom it believes; what is in the state directory unless told otherwise. */
  readonly trust?: PeerTrust
  /** For what goes over links; absent: nothing is compressed. */
  readonly compressor?: Compressor
  /**
   * Who has the store open for writing now, for people ('mysqld, process 42'); empty when nobody has. Absent where it
   * cannot be told.
   */
  writersOf?(path: string): Promise<readonly string[]>
}

export interface LinkStatus {
  readonly peer: string
  readonly direction: 'up' | 'down'
  readonly state: LinkState
  /** Since when, ms since 1970. */
  readonly sinceMs: number
  readonly address?: string
  readonly roundTripMs?: number
  readonly sentBytes: number
  readonly receivedBytes: number
  /** Downwards: what the peer has said. */
  readonly acknowledged?: number
  readonly applied?: number
  /** How far the peer is behind, as far as is known. */
  readonly lagMs?: number
  readonly lastError?: { readonly code: string; readonly message: string; readonly atMs: number }
}

export interface StoreStatus {
  readonly store: StoreName
  readonly driver: string
  readonly path: string
  readonly state:
    | 'waiting'
    | 'synchronising'
    | 'following'
    | 'applying'
    | 'paused'
    | 'quarantined'
    | 'faulty'
    | 'stopped'
  /** The last transaction that was logged (primary) or is durable in the replica (standby). */
  readonly number: number | undefined
  /** The last one at which the copy opens as a valid store. */
  readonly consistent:
    | { readonly number: number; readonly timeMs: number; readonly state?: StateDigest }
    | undefined
  readonly lagMs?: number
  readonly message?: string
}

export interface ServerStatus {
  readonly set: string
  readonly name: string
  readonly pid: number
  readonly role: 'primary' | 'standby'
  readonly epoch: Epoch
  /** A primary that has met a newer epoch: it ships nothing any more. */
  readonly fencedBy?: Epoch
  readonly upstream?: string
  /** Where it really listens. */
  readonly listening?: string
  readonly stream: string
  readonly log: {
    readonly first: number
    readonly next: number
    readonly durable: number
    readonly bytes: number
    readonly fullSinceMs?: number
    readonly subscribers: readonly {
      readonly name: string
      readonly acknowledged: number
      readonly kept: boolean
    }[]
  }
  /** New transactions are put into the log (primary). */
  readonly enqueuing: boolean
  /** What is received is applied (standby). */
  readonly applying: boolean
  readonly stores: readonly StoreStatus[]
  readonly links: readonly LinkStatus[]
  readonly receivedTransactions: number
  readonly shippedTransactions: number
}

/** Something that whoever runs the server should know. The newest is shown first. */
export interface ServerMessage {
  readonly timeMs: number
  readonly level: 'info' | 'warning' | 'error'
  readonly code: string
  readonly message: string
}

export interface ProbeReport {
  readonly peer: string
  readonly roundTripMs: number
  /** Of which writing it to the disk there. */
  readonly durableMs: number
  readonly bytes: number
  readonly bytesPerSecond: number
}

export interface Server {
  status(): ServerStatus
  /** Newest first, at most so many. */
  messages(count: number): readonly ServerMessage[]
  /** A caller that came another way than by the transport (ssh, over a local socket). */
  accept(stream: ByteStream): void
  /** Resolves when the server has stopped: rejects with the fault that stopped it. */
  readonly stopped: Promise<void>
  stop(): Promise<void>

  /** False: the stores are no longer read into the log; true again: what happened meanwhile follows. Durable. */
  setEnqueuing(on: boolean): Promise<void>
  /** False: replicas stay at a consistent commit, and what comes is kept in the log. Durable. */
  setApplying(on: boolean): Promise<void>
  probe(peer: string, bytes: number, signal: AbortSignal): Promise<ProbeReport>
  /** Resolves with the number when all that is committed at the stores now is durable at the peer. */
  waitFor(peer: string, signal: AbortSignal): Promise<number>
  promote(options: PromoteOptions): Promise<PromotionReport>
  rejoin(upstream: string, signal: AbortSignal): Promise<RejoinReport>
  /** Takes a quarantined store up again: `retry` the transaction, or `synchronise` the store anew. */
  release(store: StoreName, how: 'retry' | 'synchronise'): Promise<void>
}

/** What a server has done by whoever runs it. */
export interface ServerActs {
  /** Called for each message; must not throw. */
  onMessage(message: ServerMessage): void
  /**
   * Runs the hook, with the variables in its environment. Resolves at once where none is configured; rejects with
   * `hook-failed`.
   */
  hook(name: 'on-promote' | 'on-demote', environment: Readonly<Record<string, string>>): Promise<void>
}

/** Takes the state directory (`server-busy` when another has it), and does what its role says until stopped. */
export type OpenServer = (
  settings: ServerSettings,
  machine: ServerMachine,
  acts: ServerActs,
) => Promise<Server>
