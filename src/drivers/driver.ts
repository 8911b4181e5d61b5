/**
 * The contract of a driver: the code that knows one kind of store. One folder each beside this file, registered in
 * `registry.ts`, proved by `conformance.ts`.
 */
import type { Clock } from '../os/clock.ts'
import type { Storage } from '../os/storage.ts'
import type { Position, StateDigest, StoreName } from '../stream/entry.ts'
import type { Sink } from '../stream/sink.ts'
import type { Backlog, Source } from '../stream/source.ts'
import type { Snapshot, SnapshotOptions } from './snapshot.ts'

export interface DriverCapabilities {
  /** The store is one file (and the engine's side files), so the target may be a file. */
  readonly singleFile: boolean
  /** Nothing that was written is ever changed at the source. */
  readonly appendsOnly: boolean
  /** Can stop writers for milliseconds, for a cut. */
  readonly holdsWriters: boolean
  /** Each commit carries a digest of the whole state. */
  readonly stateDigest: boolean
}

export type DriverOptions = Readonly<Record<string, string | number | boolean>>

/** Something to tell the user that is not an error. */
export interface Notice {
  readonly code: string
  readonly message: string
  readonly details?: Readonly<Record<string, unknown>>
}

export interface Machine {
  readonly storage: Storage
  readonly clock: Clock
}

export interface SourceOptions extends Machine {
  readonly store: StoreName
  /** Absolute path of the live store. */
  readonly path: string
  readonly profile?: string
  /** The driver's own options (see `Driver.options`). */
  readonly driverOptions: DriverOptions
  /** A directory of the follower's own for spilled state; may be lost at any time. */
  readonly scratch: string
  onNotice(notice: Notice): void
}

export interface ReplicaOptions extends Machine {
  readonly store: StoreName
  /** Absolute path of the copy: a file for a `singleFile` driver, else a directory. */
  readonly path: string
  /** The sidecar directory beside the copy (exists, and is locked by the caller). */
  readonly sidecar: string
  readonly profile?: string
  /** Take an unknown or changed copy as it is: give no position, and an inventory of what is really there. */
  readonly resync: boolean
  /** `remove` changes are acknowledged and not carried out. */
  readonly noDelete: boolean
  onNotice(notice: Notice): void
}

/** A sink that keeps a copy, and the figures that `status` shows. */
export interface Replica extends Sink {
  /** The last consistent, durable commit. */
  consistent(): ConsistentCommit | undefined
}

export interface ConsistentCommit {
  readonly position: Position
  readonly timeMs: number
  readonly state?: StateDigest
}

/** A copy as it stood at one commit, as a source for other copies: compared with what they have, it gives what differs. */
export interface CopySource extends Source {
  /** As it was recorded; what is read ends at it, with the driver's own position. */
  readonly commit: ConsistentCommit
}

export interface Detection {
  /** 0 to 1: how sure the bytes make us. */
  readonly confidence: number
  readonly profile?: string
  /** For people: what was recognised, by what. */
  readonly reason: string
}

/** A path's copy, as `check` and `clone` see it. Neither needs the follower to be stopped. */
export interface CopyOptions extends Machine {
  readonly store: StoreName
  readonly path: string
  readonly sidecar: string
  readonly profile?: string
  readonly signal: AbortSignal
  onProgress(done: { readonly bytes: number; readonly totalBytes: number }): void
  onNotice(notice: Notice): void
}

export interface CheckOptions extends CopyOptions {
  /** Compare with this live source as well. */
  readonly against?: string
}

export interface CheckReport {
  /** True only when everything that was looked at holds. */
  readonly valid: boolean
  /** Each thing that was proved or refuted, in plain words. */
  readonly findings: readonly { readonly ok: boolean; readonly what: string }[]
  readonly bytes: number
}

export interface LiveCheckOptions {
  readonly path: string
  readonly signal: AbortSignal
}

export interface CloneOptions extends CopyOptions {
  /** Absolute path of the clone; does not exist. */
  readonly destination: string
}

export interface CloneReport {
  /** What moved the bytes. */
  readonly method: 'reflink' | 'copy'
  readonly bytes: number
  readonly commit: ConsistentCommit
}

export interface Driver {
  readonly name: string
  /** One line for `hotspare drivers`. */
  readonly summary: string
  readonly profiles: readonly { readonly name: string; readonly summary: string }[]
  readonly capabilities: DriverCapabilities
  /** Programs that some act of the driver wants, each with what for; all optional. */
  readonly tools: readonly { readonly name: string; readonly purpose: string }[]
  /** Recognises a store by its bytes; undefined when it is none of ours. Reads little, changes and locks nothing. */
  detect(path: string): Promise<Detection | undefined>
  openSource(options: SourceOptions): Promise<Source>
  openReplica(options: ReplicaOptions): Promise<Replica>
  /** Makes a stopped copy openable by the engine, where the engine does not do so by itself. Idempotent. */
  recover(options: CopyOptions): Promise<void>
  check(options: CheckOptions): Promise<CheckReport>
  /**
   * The engine's own check of a live store, while its application writes: changes nothing, holds nobody, and may take long.
   * Rejects when it cannot be made.
   */
  checkLive?(options: LiveCheckOptions): Promise<CheckReport>
  clone(options: CloneOptions): Promise<CloneReport>
  /**
   * The copy's newest consistent state, to be read while following goes on. Throws `target-missing` and
   * `target-incomplete`.
   */
  snapshot?(options: SnapshotOptions): Promise<Snapshot>
  /**
   * The same for another copy, where that takes less than a snapshot of all. The copy rests until it resolves, and is
   * followed from then on. Throws as `snapshot` does; reading throws `target-changed` where the copy is not what was
   * recorded. A `singleFile` driver has it, since its copies take no attributes, which a snapshot brings.
   */
  openCopySource?(options: CopyOptions): Promise<CopySource>
  /** How far a stopped or running copy at `position` is behind the source, without attaching to it; undefined when it can't be told cheaply. */
  backlog(source: string, position: Position, profile?: string): Promise<Backlog | undefined>
}
