/**
 * Our connections to a live database, and what we do with its locks: a read transaction that keeps the log from being
 * restarted under us, passive checkpoints, and, when the log has grown to its limit, a pause of writers for
 * milliseconds.
 *
 * Invariant: between `open` and `close` a strong reference to each connection is kept, and no descriptor of the
 * database or its `-shm` is closed, so that no lock of ours is lost.
 */
import { closeSync, fstatSync, openSync, read, readdirSync, readSync, realpathSync, statSync } from 'node:fs'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { promisify } from 'node:util'
import { assert, HotspareError, isSystemError } from '../../os/errors.ts'
import { lockRange, unlockRange } from '../../os/syscalls.ts'
import { type Checkpoint, Checkpointer, checkpointOf } from './checkpointer.ts'
import { type DatabaseHeader, databaseHeaderBytes, parseDatabaseHeader } from './database-header.ts'
import { openShared, type SharedDescriptor } from './descriptors.ts'
import { openDatabase, resultCode, sqliteCode } from './engine.ts'
import { pauseShortly, QuietMoment } from './quiet-moment.ts'
import { WalIndex, type WalIndexHeader } from './wal-index.ts'

/** The `-shm` bytes that carry the five read locks (WAL_READ_LOCK(0..4) in wal.c). */
const readLocksOffset = 123
const readLocksCount = 5
/** The byte that carries the lock of a checkpoint (WAL_CKPT_LOCK). */
const checkpointLockOffset = 121
/** A writer whose checkpoint has nothing to move holds that lock for a microsecond. */
const checkpointLockTries = 50
const indexTriesMax = 200

const readAsync = promisify(read)

type Databases = [DatabaseSync, DatabaseSync, DatabaseSync]

interface Reader {
  readonly database: DatabaseSync
  readonly touch: StatementSync
}

export class LiveDatabase {
  readonly path: string
  /** The engine names its side files after the file that a symbolic link leads to. */
  readonly #realPath: string
  readonly inode: bigint
  readonly #file: SharedDescriptor
  readonly #readers: readonly [Reader, Reader]
  readonly #keeper: DatabaseSync
  readonly #checkpoint: StatementSync
  readonly #checkpointer: Checkpointer
  #walFd: number | undefined
  #shm: SharedDescriptor | undefined
  #index: WalIndex | undefined
  #quiet: QuietMoment | undefined
  /** All read locks are ours: nobody commits. */
  #writersPause = false
  /** Readers with an open read transaction, the older first. */
  #held: Reader[] = []

  private constructor(path: string, file: SharedDescriptor, databases: Databases) {
    this.path = path
    this.#realPath = realpathSync(path)
    this.#file = file
    this.inode = fstatSync(file.fd, { bigint: true }).ino
    const reader = (database: DatabaseSync) => ({
      database,
      touch: database.prepare('PRAGMA schema_version'),
    })
    this.#readers = [reader(databases[0]), reader(databases[1])]
    this.#keeper = databases[2]
    this.#checkpoint = this.#keeper.prepare('PRAGMA wal_checkpoint(PASSIVE)')
    this.#checkpointer = new Checkpointer(path)
  }

  /** The database exists. Throws the engine's own error when it can't be opened. */
  static open(path: string): LiveDatabase {
    const file = openShared(path, 'read')
    const opened: DatabaseSync[] = []
    try {
      for (let i = 0; i < 3; i++) {
        const database = openDatabase(path)
        opened.push(database)
        database.exec('PRAGMA wal_autocheckpoint = 0')
        // the engine opens the log at the first read, by its name: now, while the name is that of this database's
        database.exec('PRAGMA schema_version')
      }
      return new LiveDatabase(path, file, opened as Databases)
    } catch (error) {
      for (const database of opened) database.close()
      file.release()
      throw error
    }
  }

  /** Reads bytes of the database file as it is now; fewer than asked for only at its end. */
  readPages(buffer: Buffer, offset: number): number {
    return readSync(this.#file.fd, buffer, 0, buffer.length, offset)
  }

  /** The header as it is in the file: in WAL mode, as of some checkpoint. */
  readHeader(): DatabaseHeader {
    const bytes = Buffer.alloc(databaseHeaderBytes)
    if (this.readPages(bytes, 0) === 0) {
      throw new HotspareError('source-missing', `${this.path} is empty: there is no database in it yet.`)
    }
    const header = parseDatabaseHeader(bytes)
    if (header === undefined) {
      throw new HotspareError('source-invalid', `${this.path} is not a SQLite database, or it is encrypted.`)
    }
    return header
  }

  async readPagesAsync(buffer: Buffer, offset: number): Promise<number> {
    return (await readAsync(this.#file.fd, buffer, 0, buffer.length, offset)).bytesRead
  }

  /** For reading the log; undefined when there is no such file (then nothing is in it). */
  get walFd(): number | undefined {
    if (this.#walFd !== undefined) return this.#walFd
    try {
      this.#walFd = openSync(`${this.#realPath}-wal`, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    return this.#walFd
  }

  /** What the log's index says is committed; undefined when a writer died while it wrote that. A read transaction is held. */
  committed(): WalIndexHeader | undefined {
    this.#index ??= this.#openIndex()
    // a writer is at it for microseconds, unless it has died there: then the engine's next reader mends it
    for (let tries = 1; ; tries++) {
      const header = this.#index.read()
      if (header !== undefined || tries === indexTriesMax) return header
    }
  }

  #openIndex(): WalIndex {
    const index = new WalIndex(this.#shmFile().fd)
    this.#quiet = new QuietMoment(index)
    return index
  }

  /** What the index says of a frame that `committed` told of. */
  pageOfFrame(frame: number): number {
    return this.#index?.page(frame) ?? 0
  }

  /** Opens the log and its index, while their names are still those of this database's files. */
  openLog(): void {
    try {
      this.beginRead()
      this.committed()
    } catch (error) {
      if (!isSystemError(error, 'ENOENT')) throw error
      throw new HotspareError('source-busy', `${this.path} is being replaced.`, { cause: error })
    } finally {
      this.endReads()
    }
    if (!this.isInPlace()) throw new HotspareError('source-busy', `${this.path} is being replaced.`)
  }

  /** False when the path now names another file, or none. */
  isInPlace(): boolean {
    return statSync(this.path, { bigint: true, throwIfNoEntry: false })?.ino === this.inode
  }

  /** False when somebody has removed the log that we read, which no engine does while we are connected. */
  isWalInPlace(): boolean {
    if (this.#walFd === undefined) return true
    const named = statSync(`${this.#realPath}-wal`, { bigint: true, throwIfNoEntry: false })
    return named?.ino === fstatSync(this.#walFd, { bigint: true }).ino
  }

  journalMode(): string {
    return (this.#keeper.prepare('PRAGMA journal_mode').get() as { journal_mode: string }).journal_mode
  }

  /** What the engine's own quick check says of the database at the newest read transaction that is held. */
  isSound(): boolean {
    const database = this.#held.at(-1)?.database ?? this.#keeper
    try {
      const row = database.prepare('PRAGMA quick_check(1)').get() as { quick_check: string }
      return row.quick_check === 'ok'
    } catch (error) {
      if (sqliteCode(error) === resultCode.corrupt) return false
      throw error
    }
  }

  setWalMode(): void {
    const mode = this.#keeper.prepare('PRAGMA journal_mode = WAL').get() as { journal_mode: string }
    if (mode.journal_mode !== 'wal') {
      throw new HotspareError(
        'source-mode',
        `${this.path}: SQLite did not switch to WAL mode; it is '${mode.journal_mode}'.`,
      )
    }
  }

  /** Begins a read transaction at the database's newest commit, beside the one that is held already. */
  beginRead(): void {
    assert(this.#held.length < 2, 'at most two read transactions overlap')
    const free = this.#readers.find(reader => !this.#held.includes(reader)) as Reader
    free.database.exec('BEGIN')
    // the engine reads the index with the first statement
    this.#awaitQuiet()
    try {
      free.touch.get()
    } catch (error) {
      if (free.database.isTransaction) free.database.exec('ROLLBACK')
      throw error
    }
    this.#held.push(free)
  }

  #awaitQuiet(): void {
    if (!this.#writersPause) this.#quiet?.await()
  }

  get overlaps(): boolean {
    return this.#held.length > 1
  }

  /** Ends all read transactions but the newest. */
  endOlderReads(): void {
    while (this.#held.length > 1) this.#held.shift()?.database.exec('COMMIT')
  }

  endReads(): void {
    for (const reader of this.#held.splice(0)) reader.database.exec('COMMIT')
  }

  /** Moves what readers allow from the log into the database file, without waiting for anybody or blocking writers. */
  checkpoint(): Checkpoint {
    this.#awaitQuiet()
    return checkpointOf(this.#checkpoint.get() as { busy: number; log: number; checkpointed: number })
  }

  /**
   * Ends the older read, and has what is to be moved into the database file then moved by a thread; none is at it.
   * No writer's checkpoint gets in between: it would be the one to move all that, within its commit.
   */
  beginCheckpoint(): void {
    const { fd } = this.#shmFile()
    if (!this.#othersInProcess()) {
      for (let tries = 0; tries < checkpointLockTries; tries++)
        if (lockRange(fd, checkpointLockOffset, 1)) break
    }
    this.endOlderReads()
    // the engine lets go of the lock when its checkpoint ends: the lock is this process's
    this.#checkpointer.begin(fd)
  }

  get isCheckpointing(): boolean {
    return this.#checkpointer.isRunning
  }

  /** How the checkpoint that was begun has ended, once; undefined while it runs, or when none was begun. */
  takeCheckpoint(): Checkpoint | undefined {
    try {
      const taken = this.#checkpointer.take()
      if (taken?.done === false) this.#unlockCheckpoint()
      return taken
    } catch (error) {
      this.#unlockCheckpoint()
      throw error
    }
  }

  /** The engine has done it, unless it never came to it. */
  #unlockCheckpoint(): void {
    if (!this.#othersInProcess()) unlockRange(this.#shmFile().fd, checkpointLockOffset, 1)
  }

  /**
   * Lets the log be restarted while writers never pause by themselves: keeps new transactions from beginning, calls
   * `drain` (the log holds still), moves all of it into the database file, and lets go.
   *
   * Taking the write lock would be simpler, but a transaction that began with a read and now wants to write would not
   * wait for it: SQLite gives it SQLITE_BUSY at once. So the *read* locks are taken, all at one stroke, which succeeds
   * only when no other process is inside a transaction; who begins one meanwhile retries inside SQLite, unseen, for far
   * longer than this takes. Our newest read transaction stands in the slot that new readers would choose, and our lock
   * on it lasts until the checkpoint has ended.
   *
   * For `patienceMs` it looks for such a moment. `drain` says whether what it found is little enough to be moved at
   * once.
   *
   * Afterwards a read transaction is held, and the caller proves the log's continuity, as there was a moment without.
   * Gives the milliseconds for which writers were held, or undefined when nothing could be done.
   */
  pauseWriters(drain: () => boolean, patienceMs: number): number | undefined {
    if (this.#othersInProcess()) return undefined
    if (!this.#lockReads(patienceMs)) return undefined
    const startMs = performance.now()
    this.#writersPause = true
    try {
      if (!drain()) return undefined
      this.beginRead()
      this.endOlderReads()
      if (!this.#lockReads(0)) return undefined
      // the engine's own locks, taken and let go in a checkpoint, open slots again: others may go on before it has ended
      this.checkpoint()
      return performance.now() - startMs
    } finally {
      this.#unlockReads()
    }
  }

  /** Ends what `lockReads` began; the read transaction under it goes too, and a new one begins. */
  #unlockReads(): void {
    this.#writersPause = false
    this.endReads()
    unlockRange((this.#shm as SharedDescriptor).fd, readLocksOffset, readLocksCount)
    this.beginRead()
  }

  /** All connections first, then the descriptors: the order keeps other connections' locks of this process. */
  close(): void {
    this.endReads()
    this.#checkpointer.close()
    this.#index?.close()
    for (const reader of this.#readers) reader.database.close()
    this.#keeper.close()
    this.#shm?.release()
    this.#file.release()
    if (this.#walFd !== undefined) closeSync(this.#walFd)
  }

  /** Takes all read locks for this process; false when another process holds one for longer than `msMax`. */
  #lockReads(msMax: number): boolean {
    const { fd } = this.#shmFile()
    const deadlineMs = performance.now() + msMax
    for (let tries = 1; ; tries++) {
      if (lockRange(fd, readLocksOffset, readLocksCount)) return true
      if (performance.now() >= deadlineMs) return false
      // give the processor to whoever is inside a transaction, now and then
      if (tries % 16 === 0) pauseShortly()
    }
  }

  #shmFile(): SharedDescriptor {
    this.#shm ??= openShared(`${this.#realPath}-shm`, 'write')
    return this.#shm
  }

  /** True when this process has connections to the database beside ours. */
  #othersInProcess(): boolean {
    // the readers, the keeper, the checkpointer's, and the descriptor for reading pages
    const ours = this.#readers.length + 2 + this.#checkpointer.connections
    let open = 0
    for (const name of readdirSync('/proc/self/fd')) {
      const stat = statSync(`/proc/self/fd/${name}`, { bigint: true, throwIfNoEntry: false })
      if (stat?.ino === this.inode) open++
    }
    return open > ours
  }
}
