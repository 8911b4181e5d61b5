/**
 * The source of a live database: connects, chooses how to follow it by its journal mode, and begins again, by a
 * comparison, whenever the path names another database or the mode has changed.
 */
import { existsSync, fstatSync, readSync, realpathSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { HotspareError } from '../../os/errors.ts'
import { openWatcher, type Watcher, watchEvent } from '../../os/watch.ts'
import type { Entry, Position } from '../../stream/entry.ts'
import type { Backlog, ReadOptions, Source } from '../../stream/source.ts'
import type { SourceOptions } from '../driver.ts'
import { databaseHeaderBytes, parseDatabaseHeader } from './database-header.ts'
import { openShared } from './descriptors.ts'
import { describeSourceError, resultCode, sqliteCode } from './engine.ts'
import { LiveDatabase } from './live-database.ts'
import { PageDigests } from './page-digests.ts'
import { RollbackSource } from './rollback-source.ts'
import { stepMs, WalSource } from './wal-source.ts'

/** After the last write, for so long new ones are looked for every few milliseconds, before events are waited for. */
const busyMs = 50
const pollMs = 1
/** Where a look and what follows it take long, the next one waits as long: it finds more, and costs the writers less. */
const paceMsMax = 8
/** The slow look that backs the events; it also puts a quiet log away. */
const safetyMs = 5000
/** A database that is not in WAL mode is compared at most in this part of the time. */
const compareShare = 0.1
const walBytesMaxDefault = 64 * 1024 * 1024

type Attached =
  | { readonly mode: 'wal'; readonly live: LiveDatabase; readonly source: WalSource }
  | { readonly mode: 'rollback'; readonly live: LiveDatabase; readonly source: RollbackSource }

export class SqliteSource implements Source {
  readonly #options: SourceOptions
  readonly #digests: PageDigests
  readonly #watcher: Watcher = openWatcher()
  #attached: Attached | undefined
  #watching = false
  #watched: readonly string[] = []
  #activeAtMs = 0
  #compareMs = 0
  /** When the last look began. */
  #lookedAtMs = 0

  constructor(options: SourceOptions) {
    this.#options = options
    const spilled = join(options.scratch, 'source-pages')
    // what a former follower left says nothing of the database as it is now
    rmSync(spilled, { force: true })
    this.#digests = new PageDigests(spilled)
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    this.#lookedAtMs = performance.now()
    try {
      let at = from
      for (;;) {
        const attached = this.#attach()
        const startMs = performance.now()
        for await (const entry of attached.source.read(at, options)) {
          this.#activeAtMs = performance.now()
          if (entry.type === 'commit') at = entry.position
          yield entry
        }
        this.#compareMs = performance.now() - startMs
        if (attached.live.isInPlace() || options.signal.aborted) return
        // another database has taken the name: what was written to the old one has been read to its end
        this.#detach()
        if (!existsSync(this.#options.path)) return
      }
    } catch (error) {
      this.#detach()
      throw truncationOf(error, this.#options.path) ?? describeSourceError(error, this.#options.path)
    }
  }

  async wait(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options
    const attached = this.#attached
    if (attached === undefined) return clock.sleep(pollMs, signal)
    if (attached.mode === 'rollback')
      await clock.sleep(Math.max(pollMs, this.#compareMs / compareShare), signal)
    else if (performance.now() - this.#activeAtMs < busyMs) {
      const tookMs = performance.now() - this.#lookedAtMs
      return clock.sleep(Math.min(Math.max(pollMs, tookMs), paceMsMax), signal)
    } else if (attached.source.stepDue) return clock.sleep(stepMs, signal)
    if (!this.#watching) {
      // what was written before the watch is seen by the next read, what comes after it gives an event
      this.#watch()
      return
    }
    const result = await this.#watcher.wait(signal, safetyMs)
    if (result === 'timeout' && attached.mode === 'wal' && attached.source.unsettled)
      attached.source.relieveSoon()
    if (result === 'changed' || result === 'overflow') {
      this.#unwatch()
      // a checkpoint of another process comes in several steps
      this.#activeAtMs = performance.now()
    }
  }

  async acknowledge(): Promise<void> {
    // the log is released by its restart, which waits for what was taken, and what was taken can be compared
  }

  async backlog(): Promise<Backlog> {
    return this.#attached?.mode === 'wal' ? this.#attached.source.backlog() : { bytes: 0 }
  }

  async close(): Promise<void> {
    this.#detach()
    this.#watcher.close()
    this.#digests.close()
  }

  #attach(): Attached {
    if (this.#attached !== undefined) return this.#attached
    const { path, onNotice, driverOptions } = this.#options
    if (!existsSync(path)) {
      throw new HotspareError('source-missing', `${path} does not exist (yet).`)
    }
    const live = LiveDatabase.open(path)
    try {
      let mode = live.journalMode()
      if (mode !== 'wal' && driverOptions.wal === true) {
        live.setWalMode()
        mode = 'wal'
        onNotice({ code: 'wal-switched', message: `${path} was switched to WAL mode.` })
      }
      if (mode === 'wal') {
        live.openLog()
        const walBytesMax = Number(driverOptions.walBytesMax ?? walBytesMaxDefault)
        const source = new WalSource({ ...this.#options, live, digests: this.#digests, walBytesMax })
        this.#attached = { mode: 'wal', live, source }
      } else {
        onNotice({
          code: 'not-wal',
          message:
            `${path} is in journal mode '${mode}', so each change makes the whole database be compared, under a shared ` +
            `lock. With --wal it is switched to WAL mode and followed by what changes.`,
        })
        this.#attached = {
          mode: 'rollback',
          live,
          source: new RollbackSource(this.#options, live, this.#digests),
        }
      }
      return this.#attached
    } catch (error) {
      live.close()
      throw error
    }
  }

  #detach(): void {
    this.#unwatch()
    this.#attached?.live.close()
    this.#attached = undefined
  }

  #watch(): void {
    this.#watched = existsSync(this.#options.path) ? watchedFiles(this.#options.path) : []
    for (const file of this.#watched) {
      if (existsSync(file)) {
        this.#watcher.add(
          file,
          watchEvent.modify | watchEvent.attributes | watchEvent.deleteSelf | watchEvent.moveSelf,
        )
      }
    }
    this.#watching = true
  }

  #unwatch(): void {
    if (!this.#watching) return
    for (const file of this.#watched) this.#watcher.remove(file)
    this.#watching = false
  }
}

/** Says of a damaged database that its file is too short, where that is what the engine has found. */
function truncationOf(error: unknown, path: string): HotspareError | undefined {
  if (sqliteCode(error) !== resultCode.corrupt || !existsSync(path)) return undefined
  const file = openShared(path, 'read')
  try {
    const bytes = Buffer.alloc(databaseHeaderBytes)
    readSync(file.fd, bytes, 0, databaseHeaderBytes, 0)
    const header = parseDatabaseHeader(bytes)
    const found = fstatSync(file.fd).size
    if (header === undefined || !header.pagesValid || found >= header.pages * header.pageBytes)
      return undefined
    const expected = header.pages * header.pageBytes
    return new HotspareError(
      'source-invalid',
      `${path} is truncated: its header says ${expected} bytes, and it has ${found}. The copy is left as it was. ` +
        'Restore the database before it is followed again.',
      { cause: error, details: { path, expected, found } },
    )
  } finally {
    file.release()
  }
}

function watchedFiles(path: string): string[] {
  return [path, `${realpathSync(path)}-wal`]
}
