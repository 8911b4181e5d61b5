/**
 * Follows a database that is not in WAL mode, by comparing its pages with what the copy has whenever it has changed.
 *
 * Invariant: what is committed to the sink was read under one shared lock, or in slices between which the database's
 * change counter stood still. Writers wait for the lock, for at most `holdMsMax` at a time: less than any busy timeout
 * that is worth having. A database that never stands still for that long is said so, and not copied torn.
 */
import { HotspareError } from '../../os/errors.ts'
import type { Entry, Position } from '../../stream/entry.ts'
import type { ReadOptions } from '../../stream/source.ts'
import type { SourceOptions } from '../driver.ts'
import { type DatabaseHeader, lockPage } from './database-header.ts'
import type { LiveDatabase } from './live-database.ts'
import { PageChanges } from './page-changes.ts'
import type { PageDigests } from './page-digests.ts'
import { loadInventory } from './page-inventory.ts'
import { encodePosition } from './sqlite-position.ts'

const chunkBytes = 1024 * 1024
const holdMsMax = 300
const attemptsMax = 5

export class RollbackSource {
  readonly #options: SourceOptions
  readonly #live: LiveDatabase
  readonly #digests: PageDigests
  #last: Position | undefined
  #lastCounter: number | undefined

  constructor(options: SourceOptions, live: LiveDatabase, digests: PageDigests) {
    this.#options = options
    this.#live = live
    this.#digests = digests
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const counter = this.#underLock(() => this.#live.readHeader().changeCounter)
    if (this.#last !== undefined && this.#last === from && counter === this.#lastCounter) return
    const header = this.#underLock(() => this.#live.readHeader())
    if (this.#last === undefined || this.#last !== from) {
      await loadInventory(this.#digests, await options.inventory(), header.pageBytes)
    }
    this.#last = undefined
    yield* this.#compare(options.signal)
  }

  /** Takes the differing pages into memory-bounded slices; all that was read before a change is read again. */
  async *#compare(signal: AbortSignal): AsyncGenerator<Entry> {
    for (let attempt = 1; attempt <= attemptsMax && !signal.aborted; attempt++) {
      const first = this.#underLock(() => this.#live.readHeader())
      const changes = new PageChanges(this.#options.store, first.pageBytes, this.#digests)
      const locked = lockPage(first.pageBytes)
      let next = 1
      let same = true
      while (same && next <= first.pages) {
        const { entries, end, counter } = this.#slice(changes, first, next, locked)
        same = counter === first.changeCounter
        next = end
        yield* entries
        if (signal.aborted) return
      }
      if (!same) continue
      yield changes.size(first.pages)
      const state = this.#digests.state
      const position = encodePosition({ v: 1, kind: 'compared', state })
      this.#last = position
      this.#lastCounter = first.changeCounter
      const timeMs = this.#options.clock.nowMs()
      yield { type: 'commit', store: this.#options.store, position, consistent: true, timeMs, state }
      return
    }
    if (signal.aborted) return
    throw new HotspareError(
      'source-busy',
      `${this.#live.path} changes faster than it can be compared (${attemptsMax} attempts, holding writers for at most ` +
        `${holdMsMax} ms): it is not in WAL mode. Use --wal to switch it, after which it is followed without holding writers.`,
    )
  }

  #slice(changes: PageChanges, header: DatabaseHeader, from: number, locked: number) {
    return this.#underLock(() => {
      const startMs = performance.now()
      const entries: Entry[] = []
      const { changeCounter } = this.#live.readHeader()
      let next = from
      let heldBytes = 0
      while (next <= header.pages && heldBytes < 32 * chunkBytes && performance.now() - startMs < holdMsMax) {
        const count = Math.min(chunkBytes / header.pageBytes, header.pages - next + 1)
        const buffer = Buffer.allocUnsafeSlow(count * header.pageBytes)
        if (this.#live.readPages(buffer, (next - 1) * header.pageBytes) < buffer.length) {
          throw new HotspareError(
            'source-invalid',
            `${this.#live.path} is truncated: its header says ${header.pages} pages of ${header.pageBytes} bytes.`,
          )
        }
        for (const entry of changes.ofRun(
          { firstPage: next, bytes: buffer, recycle: () => undefined },
          page => page === locked,
        )) {
          entries.push(entry)
          if (entry.type === 'write') heldBytes += entry.data.length
        }
        next += count
      }
      return { entries, end: next, counter: changeCounter }
    })
  }

  #underLock<T>(work: () => T): T {
    this.#live.beginRead()
    try {
      return work()
    } finally {
      this.#live.endReads()
    }
  }
}
