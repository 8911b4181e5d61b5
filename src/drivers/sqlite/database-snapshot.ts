/**
 * A database held still for reading its bytes: the engine's read transaction keeps the log from being restarted, and
 * checkpoints from going beyond it. Writers are not held, but in a database that is not in WAL mode.
 *
 * Nothing is changed: the connection is read-only, so that closing it neither checkpoints nor removes a log. Side
 * files that the engine made for it, because there were none, are removed again by the engine.
 */
import { closeSync, existsSync, fstatSync, openSync, read as readCallback, realpathSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import { type CommittedLog, digestFile, overlayFrames, type ReadProgress } from './copy-pages.ts'
import { openShared, type SharedDescriptor } from './descriptors.ts'
import { openDatabase } from './engine.ts'
import type { PageDigests } from './page-digests.ts'
import { frameOffset } from './wal-format.ts'
import { WalIndex } from './wal-index.ts'

const readAsync = promisify(readCallback)
const attemptsMax = 1000
const attemptDelayMs = 1
const emptyLog: CommittedLog = { lastFrame: 0, salt1: 0, salt2: 0 }

export interface SnapshotOptions {
  readonly companion?: Companion
  /** Called while nothing is committed: the last time, what it finds out is of the moment that the snapshot shows. */
  whenHeld?(): void
}

/** A connection of another process that is to see the same commit. */
export interface Companion {
  /** Begins a read transaction at the newest commit. */
  begin(): Promise<void>
  /** Ends it, if there is one. */
  end(): Promise<void>
}

export class DatabaseSnapshot {
  readonly path: string
  readonly pageBytes: number
  /** Its transaction sees exactly what `log` and the database file give. */
  readonly connection: DatabaseSync
  readonly log: CommittedLog
  /** Size in pages. */
  readonly pages: number
  /** The database is in WAL mode. */
  readonly wal: boolean
  readonly #file: SharedDescriptor
  readonly #walFd: number | undefined
  readonly #madeSideFiles: boolean

  /** The engine's own error when it can't be read; `target-busy` when it doesn't hold still. */
  static async open(path: string, clock: Clock, options: SnapshotOptions = {}): Promise<DatabaseSnapshot> {
    const realPath = realpathSync(path)
    const madeSideFiles = !existsSync(`${realPath}-wal`)
    const file = openShared(realPath, 'read')
    const connection = openDatabase(realPath, { readOnly: true })
    try {
      const pinned = await pin(realPath, connection, clock, options)
      return new DatabaseSnapshot(realPath, file, connection, pinned, madeSideFiles)
    } catch (error) {
      connection.close()
      file.release()
      throw error
    }
  }

  private constructor(
    path: string,
    file: SharedDescriptor,
    connection: DatabaseSync,
    pinned: Pinned,
    madeSideFiles: boolean,
  ) {
    this.path = path
    this.#file = file
    this.connection = connection
    this.pageBytes = value(connection, 'page_size')
    this.wal = pinned.log !== undefined
    this.log = pinned.log ?? emptyLog
    this.pages = pinned.pages ?? Math.floor(this.fileBytes / this.pageBytes)
    this.#walFd = this.log.lastFrame > 0 ? openSync(`${path}-wal`, 'r') : undefined
    this.#madeSideFiles = madeSideFiles
  }

  get databaseFd(): number {
    return this.#file.fd
  }

  /** The log's file; undefined when no frame of it counts. */
  get walFd(): number | undefined {
    return this.#walFd
  }

  /** Of the database file alone. */
  get fileBytes(): number {
    return fstatSync(this.#file.fd).size
  }

  /** Of the committed frames. */
  get logBytes(): number {
    return this.log.lastFrame === 0 ? 0 : frameOffset(this.log.lastFrame + 1, this.pageBytes)
  }

  /** Of the database file alone. */
  async readPagesAsync(buffer: Buffer, offset: number): Promise<number> {
    return (await readAsync(this.databaseFd, buffer, 0, buffer.length, offset)).bytesRead
  }

  /** The digests of all pages, each read. */
  async digest(digests: PageDigests, progress: ReadProgress = {}): Promise<void> {
    await digestFile(this.databaseFd, this.pageBytes, digests, progress)
    if (this.#walFd !== undefined) await overlayFrames(this.#walFd, this.path, this.log, digests, progress)
    digests.resize(this.pages)
  }

  close(): void {
    try {
      this.connection.close()
    } finally {
      if (this.#walFd !== undefined) closeSync(this.#walFd)
      this.#file.release()
    }
    if (this.#madeSideFiles && this.wal) removeSideFiles(this.path)
  }
}

interface Pinned {
  /** Undefined when the database is not in WAL mode. */
  readonly log: CommittedLog | undefined
  /** Undefined: as many as the file has. */
  readonly pages: number | undefined
}

/** Begins a read transaction, and finds out which commit it sees: the one before and after are the same. */
async function pin(
  path: string,
  connection: DatabaseSync,
  clock: Clock,
  { companion, whenHeld }: SnapshotOptions,
): Promise<Pinned> {
  const begin = () => {
    connection.exec('BEGIN')
    connection.prepare('PRAGMA schema_version').get()
  }
  begin()
  const { journal_mode: mode } = connection.prepare('PRAGMA journal_mode').get() as { journal_mode: string }
  if (mode !== 'wal') {
    // nobody writes beside a reader
    await companion?.begin()
    whenHeld?.()
    return { log: undefined, pages: undefined }
  }
  const shm = openShared(`${path}-shm`, 'write')
  const index = new WalIndex(shm.fd)
  try {
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      connection.exec('ROLLBACK')
      await companion?.end()
      const before = index.read()
      begin()
      await companion?.begin()
      whenHeld?.()
      // before the header: a restart of the log changes that first, and this afterwards
      const { backfilled } = index
      const after = index.read()
      const still =
        before !== undefined &&
        after !== undefined &&
        before.change === after.change &&
        before.lastFrame === after.lastFrame &&
        before.salt2 === after.salt2
      if (still) {
        // With all of the log in the database file the engine reads that alone, and its lock doesn't keep the log.
        const log = backfilled >= after.lastFrame ? emptyLog : after
        return { log, pages: after.lastFrame > 0 ? after.pages : undefined }
      }
      await clock.sleep(attemptDelayMs)
    }
  } finally {
    index.close()
    shm.release()
  }
  throw new HotspareError(
    'target-busy',
    `${path} changed during each of ${attemptsMax} attempts to hold it still.`,
  )
}

/** Whoever closes a database last, and may write it, removes its side files. */
function removeSideFiles(path: string): void {
  const connection = openDatabase(path)
  try {
    connection.exec('PRAGMA wal_autocheckpoint=0')
    connection.prepare('PRAGMA schema_version').get()
  } finally {
    connection.close()
  }
}

function value(connection: DatabaseSync, pragma: string): number {
  return Number(Object.values(connection.prepare(`PRAGMA ${pragma}`).get() ?? {})[0])
}
