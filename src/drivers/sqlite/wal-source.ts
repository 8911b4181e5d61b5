/**
 * Follows a database in WAL mode: first its pages, then the committed transactions of its log.
 *
 * What keeps a transaction from being missed stands in `wal-reader.ts`. A crash leaves the live database as any reader's
 * crash does.
 */
import { HotspareError } from '../../os/errors.ts'
import type { Entry, Position } from '../../stream/entry.ts'
import type { Backlog, ReadOptions } from '../../stream/source.ts'
import type { SourceOptions } from '../driver.ts'
import { type DatabaseHeader, lockPage } from './database-header.ts'
import { engineNotice } from './engine.ts'
import type { LiveDatabase } from './live-database.ts'
import { LogRelief } from './log-relief.ts'
import { PageSet } from './page-changes.ts'
import type { PageDigests } from './page-digests.ts'
import { loadInventory } from './page-inventory.ts'
import { scanPages } from './page-scan.ts'
import { decodePosition } from './sqlite-position.ts'
import { WalReader } from './wal-reader.ts'

const boundedCommitBytes = 64 * 1024 * 1024
/** How often the log's index is looked at again while somebody writes it. */
const indexTriesMax = 50
/** Stepping aside is not done more often than this. */
export const stepMs = 2

export interface WalSourceOptions extends SourceOptions {
  readonly live: LiveDatabase
  readonly digests: PageDigests
  readonly walBytesMax: number
}

export class WalSource {
  readonly #options: WalSourceOptions
  readonly #live: LiveDatabase
  readonly #digests: PageDigests
  readonly #reader: WalReader
  readonly #relief: LogRelief
  #pageBytes = 0
  /** Of the database file, while it is read as a whole. */
  #unreadBytes = 0
  #steppedAtMs = 0
  /** Stepping aside was put off: read again after `stepMs`, whatever events say. */
  stepDue = false

  constructor(options: WalSourceOptions) {
    this.#options = options
    this.#live = options.live
    this.#digests = options.digests
    this.#reader = new WalReader(options)
    this.#relief = new LogRelief(options, this.#reader)
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const reader = this.#reader
    reader.isAwaited = options.isAwaited ?? (() => false)
    if (reader.last === undefined || reader.last !== from) yield* this.#start(from, options)
    if (options.signal.aborted) return
    const before = reader.last
    yield* reader.drain()
    if (this.#live.isInPlace()) yield* this.#relief.relieve()
    yield* reader.give()
    if (reader.last !== before || !this.#live.isInPlace()) return
    yield* this.#stepAside()
    yield* reader.give()
  }

  /**
   * While nothing is written, stands at the log's end, or outside it when all of it is in the database file: so that
   * another process's checkpoint that waits for readers (RESTART, TRUNCATE) does not wait for us.
   */
  *#stepAside(): Generator<Entry> {
    const now = performance.now()
    this.stepDue = now - this.#steppedAtMs < stepMs
    if (this.stepDue) return
    this.#steppedAtMs = now
    yield* this.#reader.rotate()
  }

  /** True when something is in the log that is not in the database file yet, as far as we know. */
  get unsettled(): boolean {
    return this.#reader.unmoved
  }

  /** At the next read, moves what is in the log into the file, so that the next writer can restart it. */
  relieveSoon(): void {
    this.#relief.soon()
  }

  async backlog(): Promise<Backlog> {
    return { bytes: this.#unreadBytes + this.#reader.backlogBytes() }
  }

  // ---- where to begin

  async *#start(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    this.#reader.forget()
    // of a reading that was left while it went over to a newer one
    this.#live.endOlderReads()
    this.#live.beginRead()
    this.#live.endOlderReads()
    const header = this.#live.readHeader()
    this.#pageBytes = header.pageBytes
    this.#reader.begin(this.#pageBytes)
    const notice = engineNotice(this.#live.path, header.engineVersion)
    if (notice !== undefined) this.#options.onNotice(notice)
    const wanted = decodePosition(from)
    const inventory = await options.inventory()
    await loadInventory(this.#digests, inventory, this.#pageBytes)
    if (from !== undefined && wanted?.kind === 'wal' && (yield* this.#reader.resume(from, wanted))) return
    if (wanted !== undefined && wanted.kind !== 'copying') {
      this.#options.onNotice({
        code: 'comparing',
        message:
          'The log has moved on since the last run, so the database is compared with the copy and the difference is sent.',
      })
    }
    const incomplete = wanted?.kind === 'copying' || this.#digests.pages === 0
    yield* this.#copy(header, incomplete, options.signal)
  }

  // ---- the first copy, and the comparison

  /**
   * Sends each page of the file that differs from what the sink has, and then the log. Pages are read while the
   * database goes on: one that a checkpoint changes or tears under us is in the log, which is sent after it; one of
   * which the log's version has been sent already is left out.
   */
  async *#copy(header: DatabaseHeader, bounded: boolean, signal: AbortSignal): AsyncGenerator<Entry> {
    const reader = this.#reader
    const fromLog = new PageSet()
    const locked = lockPage(this.#pageBytes)
    const skip = (page: number) => page === locked || fromLog.has(page)
    let pages = 0
    let logPages: number | undefined
    let uncommittedBytes = 0
    reader.standAtBeginning()
    for await (const run of scanPages(this.#live, this.#pageBytes)) {
      pages += run.bytes.length / this.#pageBytes
      uncommittedBytes += run.bytes.length
      this.#unreadBytes = Math.max(0, header.pages - pages) * this.#pageBytes
      yield* reader.changes.ofRun(run, skip)
      if (uncommittedBytes < boundedCommitBytes) continue
      uncommittedBytes = 0
      logPages = (yield* reader.drain(fromLog)) ?? logPages
      logPages = (yield* this.#relief.relieve(fromLog)) ?? logPages
      if (bounded) yield reader.commit({ v: 1, kind: 'copying' }, false)
      if (signal.aborted) {
        reader.forget()
        this.#unreadBytes = 0
        return
      }
    }
    this.#unreadBytes = 0
    // all that a checkpoint may have put into the pages that were read
    for (let tries = 0; tries === 0 || !reader.complete; tries++) {
      if (tries > 0) await this.#options.clock.sleep(tries)
      if (tries > indexTriesMax) {
        throw new HotspareError(
          'source-busy',
          `The index of ${this.#live.path}-wal is being written for too long.`,
        )
      }
      logPages = (yield* reader.rotate(fromLog)) ?? logPages
    }
    const total = logPages ?? (header.pagesValid ? header.pages : pages)
    let missing = 0
    for (let page = pages + 1; page <= total; page++) {
      if (page !== locked && !fromLog.has(page)) missing++
    }
    // free pages that were never written may lie behind the file's end: only the engine can tell them from lost ones
    if (missing > 0 && !this.#live.isSound()) {
      throw new HotspareError(
        'source-invalid',
        `${this.#live.path} is truncated: it has ${pages} pages of ${this.#pageBytes} bytes, and should have ${total}. ` +
          'The copy is left as it was. Restore the database before it is followed again.',
        { details: { expected: total, found: pages } },
      )
    }
    yield* reader.finishCopy(total)
  }
}
