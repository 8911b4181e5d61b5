/**
 * A copy, held still at its newest commit, as a source for another copy: what differs of its pages, as one transaction.
 *
 * The copy is followed meanwhile: a read transaction of the engine keeps what is shown, and the copy's own log grows
 * until it ends. Pages that a checkpoint may be writing are all in the part of the log that is held, and are taken from
 * there. What was given counts only when its digest is the one that was recorded for that commit.
 */
import type { Entry, Position } from '../../stream/entry.ts'
import { barePosition } from '../../stream/numbered-position.ts'
import type { ReadOptions } from '../../stream/source.ts'
import type { CopyOptions, CopySource } from '../driver.ts'
import { readPage, visitFrames } from './copy-pages.ts'
import { contentChanged, openCopySnapshot, openScratchDigests, sourceCommit } from './copy-snapshot.ts'
import type { Commitment } from './copy-state.ts'
import { lockPage } from './database-header.ts'
import type { DatabaseSnapshot } from './database-snapshot.ts'
import { PageChanges } from './page-changes.ts'
import type { PageDigests } from './page-digests.ts'
import { loadInventory } from './page-inventory.ts'
import { scanPages } from './page-scan.ts'
import { decodePosition, encodePosition } from './sqlite-position.ts'

/** What a copy that is not whole yet has lost, at most, when the link breaks. */
const lostBytesMaxDefault = 64 * 1024 * 1024
const groupBytes = 1024 * 1024

/** Nobody may write the copy until this resolves. */
export async function openSqliteCopySource(
  options: CopyOptions,
  { lostBytesMax = lostBytesMaxDefault } = {},
): Promise<CopySource> {
  const { snapshot, contents } = await openCopySnapshot(options)
  try {
    // nobody writes, so what was to show next is what shows
    return new SqliteCopySource(options, snapshot, sourceCommit(options.path, contents[0]), lostBytesMax)
  } catch (error) {
    snapshot.close()
    throw error
  }
}

class SqliteCopySource implements CopySource {
  readonly commit: Commitment
  readonly #options: CopyOptions
  readonly #snapshot: DatabaseSnapshot
  readonly #lostBytesMax: number
  #closed = false

  constructor(options: CopyOptions, snapshot: DatabaseSnapshot, commit: Commitment, lostBytesMax: number) {
    this.#options = options
    this.#snapshot = snapshot
    this.commit = commit
    this.#lostBytesMax = lostBytesMax
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const scratch = openScratchDigests(this.#options, 'source')
    try {
      const { digests } = scratch
      await loadInventory(digests, await options.inventory(), this.#snapshot.pageBytes)
      const isFirst = decodePosition(from)?.kind === 'copying' || digests.pages === 0
      yield* this.#differences(digests, isFirst, options.signal)
      if (options.signal.aborted) return
      const { position, timeMs, state } = this.commit
      if (digests.state !== state) throw contentChanged(this.#options.path, digests.state, state)
      const { store } = this.#options
      yield { type: 'commit', store, position: barePosition(position), consistent: true, timeMs, state }
    } finally {
      await scratch.close()
    }
  }

  async *#differences(digests: PageDigests, isFirst: boolean, signal: AbortSignal): AsyncGenerator<Entry> {
    const { store } = this.#options
    const { pageBytes, pages } = this.#snapshot
    const changes = new PageChanges(store, pageBytes, digests)
    const inLog = await this.#newestFrames(signal)
    // it tells who has nothing yet how large pages are
    yield* changes.ofPages(new Map([[1, this.#page(1, inLog.get(1))]]))
    const locked = lockPage(pageBytes)
    const skip = (page: number) => page === locked || page > pages || inLog.has(page)
    let uncommittedBytes = 0
    for await (const run of scanPages(this.#snapshot, pageBytes)) {
      uncommittedBytes += run.bytes.length
      yield* changes.ofRun(run, skip)
      if (signal.aborted) return
      if (!isFirst || uncommittedBytes < this.#lostBytesMax) continue
      uncommittedBytes = 0
      const position = encodePosition({ v: 1, kind: 'copying' })
      const { timeMs } = this.commit
      yield { type: 'commit', store, position, consistent: false, timeMs, state: digests.state }
    }
    yield* this.#fromLog(changes, inLog)
    yield changes.size(pages)
  }

  /** The frame that has the newest version of each page that is in the log. */
  async #newestFrames(signal: AbortSignal): Promise<ReadonlyMap<number, number>> {
    const { walFd, path, log, pages } = this.#snapshot
    const frames = new Map<number, number>()
    if (walFd === undefined) return frames
    let number = 0
    await visitFrames(
      walFd,
      path,
      log,
      ({ page }) => {
        number++
        if (page <= pages) frames.set(page, number)
      },
      { signal },
    )
    return frames
  }

  *#fromLog(changes: PageChanges, frames: ReadonlyMap<number, number>): Generator<Entry> {
    let group = new Map<number, Buffer>()
    for (const [page, frame] of [...frames].sort(([a], [b]) => a - b)) {
      group.set(page, this.#page(page, frame))
      if (group.size * this.#snapshot.pageBytes < groupBytes) continue
      yield* changes.ofPages(group)
      group = new Map()
    }
    yield* changes.ofPages(group)
  }

  #page(page: number, frame: number | undefined): Buffer {
    const { databaseFd: database, walFd: wal, pageBytes } = this.#snapshot
    return readPage({ database, wal: wal ?? -1 }, pageBytes, frame, page)
  }

  async wait(): Promise<void> {}
  async acknowledge(): Promise<void> {}

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#snapshot.close()
  }
}
