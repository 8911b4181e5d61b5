/**
 * A SQLite database kept as a copy that the bare engine opens at a whole transaction at any moment: while it is
 * followed, after SIGKILL, after a power loss, and without hotspare.
 *
 * A first copy (and one that must replace another) is made in the sidecar and renamed into place when it is whole;
 * from then on transactions go into the copy's own log, and the engine's recovery is the redo journal.
 *
 * The worst outcome of a crash: what was received since the last durable commit must be sent again.
 */
import { rmSync } from 'node:fs'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { Commit, Entry, EntryPath, Position, TruncateChange, WriteChange } from '../../stream/entry.ts'
import type { Inventory, InventoryFile } from '../../stream/sink.ts'
import type { ConsistentCommit, Replica, ReplicaOptions } from '../driver.ts'
import { CopyFollower, logBytesMaxDefault } from './copy-follower.ts'
import { type CopyRecord, CopyState, commitmentOf, type StageRecord } from './copy-state.ts'
import { parseDatabaseHeader } from './database-header.ts'
import { FirstCopy } from './first-copy.ts'
import type { PageDigests } from './page-digests.ts'
import { replaceCopy } from './replace-copy.ts'
import { type SidecarPaths, sidecarPaths } from './sidecar-paths.ts'
import { describeEngineError } from './wal-writer.ts'

export interface ReplicaLimits {
  readonly logBytesMax: number
}

export async function openSqliteReplica(
  options: ReplicaOptions,
  limits: ReplicaLimits = { logBytesMax: logBytesMaxDefault },
): Promise<Replica> {
  try {
    return await SqliteReplica.open(options, limits)
  } catch (error) {
    throw described(error, `Opening the copy ${options.path}`, options.path)
  }
}

class SqliteReplica implements Replica {
  readonly #options: ReplicaOptions
  readonly #limits: ReplicaLimits
  readonly #paths: SidecarPaths
  readonly #state: CopyState
  #follower: CopyFollower | undefined
  #stage: FirstCopy | undefined
  /** The last durable commit of the first copy, when what it has is exactly that. */
  #staged: StageRecord | undefined
  #stageSyncing: Promise<void> = Promise.resolve()
  /** Changes came that no commit followed yet. */
  #open = false

  static async open(options: ReplicaOptions, limits: ReplicaLimits): Promise<SqliteReplica> {
    const paths = sidecarPaths(options.sidecar)
    const state = openState(paths.state, options)
    const replica = new SqliteReplica(options, limits, paths, state)
    try {
      await replica.#begin()
      return replica
    } catch (error) {
      await replica.#stage?.close()
      await replica.#follower?.close()
      state.close()
      throw error
    }
  }

  private constructor(options: ReplicaOptions, limits: ReplicaLimits, paths: SidecarPaths, state: CopyState) {
    this.#limits = limits
    this.#options = options
    this.#paths = paths
    this.#state = state
  }

  async position(): Promise<Position | undefined> {
    return this.#doing('Settling', async () => {
      if (this.#open) await this.#settle()
      if (this.#stage !== undefined) return this.#staged?.position as Position | undefined
      return (this.#follower?.content.position ?? undefined) as Position | undefined
    })
  }

  consistent(): ConsistentCommit | undefined {
    return this.#follower === undefined ? undefined : commitmentOf(this.#follower.content)
  }

  async inventory(): Promise<Inventory | undefined> {
    return this.#doing('Reading', async () => {
      const held = this.#stage ?? this.#follower
      const digests = this.#stage === undefined ? this.#follower?.digests : await this.#stage.content()
      if (held === undefined || digests === undefined || digests.pages === 0) return undefined
      return inventoryOf(digests, held.pageBytes)
    })
  }

  async write(entry: Entry): Promise<void> {
    return this.#doing('Writing', async () => {
      if (entry.type === 'commit') return this.#commit(entry)
      if (entry.type !== 'write' && entry.type !== 'truncate') {
        throw new HotspareError(
          'entry-invalid',
          `A copy of a SQLite database takes pages, sizes and commits; found '${entry.type}'.`,
        )
      }
      if (entry.path !== '') {
        throw new HotspareError(
          'entry-invalid',
          `A SQLite database is one file; found the path '${entry.path}'.`,
        )
      }
      this.#open = true
      return entry.type === 'write' ? this.#writePages(entry) : this.#resize(entry)
    })
  }

  async sync(): Promise<void> {
    return this.#doing('Writing', async () => {
      if (this.#stage === undefined) await this.#follower?.sync()
      else await this.#stageSyncing
    })
  }

  async close(): Promise<void> {
    try {
      await this.#doing('Closing', async () => {
        await Promise.allSettled([this.#stageSyncing])
        await this.#stage?.close()
        await this.#follower?.close()
      })
    } finally {
      this.#state.close()
    }
  }

  /** Looks at what is there: a copy of ours, a first copy that was under way, neither. */
  async #begin(): Promise<void> {
    const { path, resync, storage } = this.#options
    await this.#finishReplacing()
    const { copy, stage } = this.#state.record
    const stat = await storage.stat(path)
    if (stat !== undefined && stat.kind !== 'file') {
      throw new HotspareError(
        'target-foreign',
        `${path} is a ${stat.kind}, and not a copy. Name another target.`,
      )
    }
    if (stat === undefined && copy !== null) {
      this.#options.onNotice({
        code: 'copy-missing',
        message: `${path} was removed; it is copied anew.`,
      })
      await this.#state.put({ copy: null, stage })
    }
    if (stat !== undefined) await this.#openCopy(stat.size, copy ?? undefined, resync)
    if (stage !== null) await this.#resumeStage(stage)
  }

  async #openCopy(size: number, record: CopyRecord | undefined, resync: boolean): Promise<void> {
    const { path } = this.#options
    if (record === undefined && !resync) {
      throw new HotspareError(
        'target-foreign',
        `${path} exists, and hotspare has no record of it. Move it away, or let --resync make it equal to the source.`,
      )
    }
    // an empty file is no database to the engine either
    if (size === 0 && resync) return
    try {
      this.#follower = await this.#follow(record)
    } catch (error) {
      if (!isUnusable(error)) throw error
      if (!resync) {
        throw new HotspareError(
          'target-changed',
          `${(error as Error).message} The copy was changed by somebody else; let --resync replace it.`,
          { cause: error },
        )
      }
      this.#options.onNotice({
        code: 'copy-replaced',
        message: `${path} can't be brought up to date (${(error as Error).message}); it is replaced when a new copy is whole.`,
      })
      await this.#state.put({ ...this.#state.record, copy: null })
    }
  }

  #follow(record: CopyRecord | undefined): Promise<CopyFollower> {
    const { logBytesMax } = this.#limits
    return CopyFollower.open(this.#options, this.#state, this.#paths.digests, record, logBytesMax)
  }

  async #resumeStage(record: StageRecord): Promise<void> {
    if ((await this.#options.storage.stat(this.#paths.stage.file)) === undefined) {
      await this.#state.put({ ...this.#state.record, stage: null })
      return
    }
    const { copy, recorded } = await FirstCopy.open(this.#paths.stage, record)
    this.#stage = copy
    if (recorded) this.#staged = record
  }

  /** Void are the changes after the last commit. */
  async #settle(): Promise<void> {
    this.#open = false
    await this.#follower?.settle()
    await this.#stageSyncing
    const { stage } = this.#state.record
    if (this.#stage === undefined) return
    if (stage === null) {
      await this.#stage.close()
      this.#stage = undefined
      return
    }
    this.#staged = (await this.#stage.settle(stage)) ? stage : undefined
  }

  async #writePages(change: WriteChange): Promise<void> {
    const { data, offset } = change
    if (offset === 0) await this.#chooseTarget(data)
    const held = this.#stage ?? this.#follower
    if (held === undefined) {
      throw new HotspareError('entry-invalid', `A first copy begins with page 1; found offset ${offset}.`)
    }
    const { pageBytes } = held
    if (offset % pageBytes !== 0 || data.length % pageBytes !== 0 || data.length === 0) {
      throw new HotspareError(
        'entry-invalid',
        `Pages of ${pageBytes} bytes come whole; found ${data.length} bytes at offset ${offset}.`,
      )
    }
    await held.write(offset / pageBytes + 1, data, change.recycle)
  }

  /** Page 1 tells the page size: where it isn't the copy's, or there is no copy, a new file is begun. */
  async #chooseTarget(pageOne: Uint8Array): Promise<void> {
    const header = parseDatabaseHeader(Buffer.from(pageOne.buffer, pageOne.byteOffset, pageOne.byteLength))
    if (header === undefined || !header.wal) {
      throw new HotspareError(
        'entry-invalid',
        'Page 1 that came is not that of a SQLite database in WAL mode.',
      )
    }
    const held = this.#stage ?? this.#follower
    if (held?.pageBytes === header.pageBytes) return
    await this.#stageSyncing
    await this.#follower?.sync()
    await this.#stage?.close()
    this.#stage = undefined
    this.#staged = undefined
    if (this.#state.record.stage !== null) await this.#state.put({ ...this.#state.record, stage: null })
    this.#stage = await FirstCopy.begin(this.#options.storage, this.#paths.stage, header.pageBytes)
  }

  #resize(change: TruncateChange): void {
    const held = this.#stage ?? this.#follower
    if (held === undefined || change.size % held.pageBytes !== 0 || change.size === 0) {
      throw new HotspareError(
        'entry-invalid',
        `A database has a whole number of pages; found the size ${change.size}.`,
      )
    }
    held.resize(change.size / held.pageBytes)
  }

  async #commit(commit: Commit): Promise<void> {
    this.#open = false
    if (this.#stage !== undefined) return this.#commitStage(this.#stage, commit)
    if (this.#follower === undefined) {
      throw new HotspareError('entry-invalid', 'A commit came before any page of a first copy.')
    }
    await this.#follower.commit(commit)
  }

  async #commitStage(stage: FirstCopy, commit: Commit): Promise<void> {
    await this.#stageSyncing
    const record = commit.consistent ? await stage.seal(commit) : await stage.commit(commit)
    await this.#state.put({ ...this.#state.record, stage: record })
    this.#staged = record
    if (!commit.consistent) return
    await stage.close()
    this.#stage = undefined
    this.#staged = undefined
    const follower = this.#follower
    this.#follower = undefined
    await follower?.close()
    await this.#finishReplacing()
    const { copy } = this.#state.record
    if (copy === null)
      throw new HotspareError('state-damaged', `The record of ${this.#options.path} is gone.`)
    this.#follower = await this.#follow(copy)
  }

  /** A first copy that is whole takes the copy's name; idempotent, so that a crash on the way is no matter. */
  async #finishReplacing(): Promise<void> {
    const { copy, stage } = this.#state.record
    if (stage === null || stage.sealed === null) return
    const replaced = await replaceCopy(this.#options, this.#paths, {
      sealed: stage.sealed,
      known: copy !== null,
    })
    const content = { position: stage.position, timeMs: stage.timeMs, state: stage.state }
    const { pageBytes, pages } = stage
    await this.#state.put({
      copy: replaced
        ? { pageBytes, file: replaced.identity, tablePages: pages, previous: content, next: content }
        : copy,
      stage: null,
    })
  }

  async #doing<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw described(error, `${what} the copy ${this.#options.path}`, this.#options.path)
    }
  }
}

function openState(path: string, options: ReplicaOptions): CopyState {
  try {
    return new CopyState(path)
  } catch (error) {
    const lost = error instanceof HotspareError && error.code.startsWith('state-')
    if (!lost || !options.resync) throw error
    rmSync(path)
    return new CopyState(path)
  }
}

/** The engine can't use it: only a new copy helps. */
function isUnusable(error: unknown): boolean {
  return error instanceof HotspareError && error.code === 'target-invalid'
}

function inventoryOf(digests: PageDigests, blockBytes: number): Inventory {
  const file: InventoryFile = {
    path: '' as EntryPath,
    size: digests.pages * blockBytes,
    blockBytes,
    digest: 'xxh64',
    digests: async (firstBlock, count) => digests.read(firstBlock + 1, count),
  }
  return {
    async *files() {
      yield file
    },
    file: async path => (path === '' ? file : undefined),
  }
}

function described(error: unknown, doing: string, path: string): unknown {
  return describeSystemError(describeEngineError(error, path), doing)
}
