/**
 * For tests: a real database that is changed by SQL, and given to a sink as a source would give it, by comparing its
 * pages with those that were sent.
 */
import { fstatSync, readSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { type Commit, type Entry, type EntryPath, position, storeName } from '../../../stream/entry.ts'
import type { Sink } from '../../../stream/sink.ts'
import { lockPage, markWalMode } from '../database-header.ts'
import { openShared } from '../descriptors.ts'
import { PageDigests } from '../page-digests.ts'

const store = storeName('test')
const path = '' as EntryPath

export class CopyFeeder {
  readonly database: DatabaseSync
  readonly #path: string
  #digests: PageDigests
  #number = 0

  /** `setupSql` comes before the first page is written. */
  constructor(databasePath: string, pageBytes = 4096, setupSql = '') {
    this.#path = databasePath
    this.database = new DatabaseSync(databasePath)
    this.database.exec(`PRAGMA page_size=${pageBytes}; ${setupSql}; PRAGMA journal_mode=WAL`)
    this.#digests = new PageDigests(`${databasePath}.digests`)
  }

  get number(): number {
    return this.#number
  }

  get pageBytes(): number {
    return Number(Object.values(this.database.prepare('PRAGMA page_size').get() ?? {})[0])
  }

  /** Forgets what was sent: the next difference is a whole copy. */
  restart(): void {
    this.#digests.clear()
  }

  /** Takes what a sink has for sent. */
  async resume(sink: Sink): Promise<void> {
    this.restart()
    const file = await (await sink.inventory?.(store))?.file(path)
    if (file === undefined || file.blockBytes !== this.pageBytes) return
    const pages = file.size / file.blockBytes
    this.#digests.load(1, Buffer.from(await file.digests(0, pages)))
  }

  /** Sends what differs from what was sent before, in one transaction; `onEntry` may change it. */
  async send(sink: Sink, onEntry: (entry: Entry) => Entry = entry => entry): Promise<Commit> {
    let commit: Commit | undefined
    for (const entry of this.difference()) {
      await sink.write(onEntry(entry))
      if (entry.type === 'commit') commit = entry
    }
    return commit as Commit
  }

  /** A first copy, with a commit that isn't consistent after each so many pages. */
  *firstCopy(pagesAtOnce: number): Generator<Entry> {
    this.restart()
    const pages = this.#read()
    for (let first = 0; first < pages.length; first += pagesAtOnce) {
      for (let i = first; i < Math.min(pages.length, first + pagesAtOnce); i++) yield* this.#page(pages, i)
      yield this.#commit(false)
    }
    yield* this.#end(pages)
  }

  *difference(): Generator<Entry> {
    const pages = this.#read()
    for (let i = 0; i < pages.length; i++) yield* this.#page(pages, i)
    yield* this.#end(pages)
  }

  close(): void {
    this.database.close()
    this.#digests.close()
    rmSync(`${this.#path}.digests`, { force: true })
  }

  *#page(pages: Buffer[], i: number): Generator<Entry> {
    const page = pages[i] as Buffer
    const pageBytes = page.length
    if (i + 1 === lockPage(pageBytes) || !this.#digests.update(i + 1, page)) return
    yield { type: 'write', store, path, offset: i * pageBytes, data: page }
  }

  *#end(pages: Buffer[]): Generator<Entry> {
    this.#digests.resize(pages.length)
    yield { type: 'truncate', store, path, size: pages.length * (pages[0] as Buffer).length }
    yield this.#commit(true)
  }

  #commit(consistent: boolean): Commit {
    this.#number++
    const { state } = this.#digests
    return { type: 'commit', store, position: position(`n${this.#number}`), consistent, timeMs: 1000, state }
  }

  #read(): Buffer[] {
    this.database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    const file = openShared(this.#path, 'read')
    try {
      const bytes = Buffer.alloc(fstatSync(file.fd).size)
      readSync(file.fd, bytes, 0, bytes.length, 0)
      const pages: Buffer[] = []
      const { pageBytes } = this
      for (let at = 0; at < bytes.length; at += pageBytes) pages.push(bytes.subarray(at, at + pageBytes))
      markWalMode(pages[0] as Buffer)
      return pages
    } finally {
      file.release()
    }
  }
}
