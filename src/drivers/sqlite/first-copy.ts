/**
 * A copy that is being made: written beside the real one, in `sidecar/first.db`, page by page, and given the copy's
 * name when it is whole and verified.
 *
 * Invariant: what is recorded in the state was durable in the file before. A crash leaves the file with more than the
 * record says; `open` digests what is there, so that the source sends only the rest. Nothing is offered before
 * `seal`. The worst outcome of a fault: the first copy begins anew.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  write as writeCallback,
} from 'node:fs'
import { promisify } from 'node:util'
import { HotspareError } from '../../os/errors.ts'
import type { Storage } from '../../os/storage.ts'
import type { Commit, StateDigest } from '../../stream/entry.ts'
import { digestPages } from './copy-pages.ts'
import type { StageRecord } from './copy-state.ts'
import { PageDigests } from './page-digests.ts'

const writeAsync = promisify(writeCallback)
const fdatasyncAsync = promisify(fdatasync)
const flushBytes = 32 * 1024 * 1024
/** More pages than this that were written again after they were read back: all is read again at the end. */
const againMax = 100_000

export interface FirstCopyPaths {
  readonly file: string
  readonly digests: string
}

export class FirstCopy {
  readonly paths: FirstCopyPaths
  readonly pageBytes: number
  readonly digests: PageDigests
  readonly #fd: number
  #writing: Promise<void> = Promise.resolve()
  #failure: unknown
  #pages = 0
  /** Pages up to this one are read back, or being so; of these, the ones that were written again. */
  #readTo = 0
  readonly #again = new Set<number>()
  #readingBack: Promise<void> = Promise.resolve()
  #unflushedBytes = 0
  #flushing: Promise<void> = Promise.resolve()

  /** Begins a new one; what an earlier attempt left is removed. */
  static async begin(storage: Storage, paths: FirstCopyPaths, pageBytes: number): Promise<FirstCopy> {
    await storage.remove(paths.file)
    await storage.remove(paths.digests)
    return new FirstCopy(paths, pageBytes)
  }

  /** Goes on with what an earlier process left; `recorded` tells whether it is exactly what the record says. */
  static async open(
    paths: FirstCopyPaths,
    record: StageRecord,
  ): Promise<{ copy: FirstCopy; recorded: boolean }> {
    const copy = new FirstCopy(paths, record.pageBytes)
    return { copy, recorded: await copy.settle(record) }
  }

  private constructor(paths: FirstCopyPaths, pageBytes: number) {
    this.paths = paths
    this.pageBytes = pageBytes
    this.#fd = openSync(paths.file, constants.O_RDWR | constants.O_CREAT, 0o600)
    try {
      this.digests = new PageDigests(paths.digests)
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  /** Size of the database in pages, as far as it has been told. */
  get pages(): number {
    return this.#pages
  }

  /** Drops what lies beyond the record, and digests what is really there; true when that is what was recorded. */
  async settle(record: StageRecord): Promise<boolean> {
    await this.#drained()
    const size = record.pages * this.pageBytes
    if (fstatSync(this.#fd).size > size) ftruncateSync(this.#fd, size)
    await this.#readingBack
    this.digests.clear()
    this.#again.clear()
    this.#readTo = 0
    this.#pages = Math.floor(fstatSync(this.#fd).size / this.pageBytes)
    return (await this.content()).state === record.state
  }

  /** The digests of what is really in the file: the rest that was not read back yet is read now. */
  async content(): Promise<PageDigests> {
    await this.#drained()
    await this.#readingBack
    this.#readBack(this.#pages)
    await this.#readingBack
    for (const page of this.#again) {
      await digestPages(this.#fd, this.pageBytes, this.digests, { first: page, last: page })
    }
    this.#again.clear()
    this.digests.resize(this.#pages)
    if (this.#failure !== undefined) throw this.#failure
    return this.digests
  }

  /** Takes whole pages, and resolves before they are written: one write is under way, while the next pages are read. */
  async write(firstPage: number, data: Uint8Array, recycle?: () => void): Promise<void> {
    await this.#drained()
    const last = firstPage - 1 + data.length / this.pageBytes
    for (let page = firstPage; page <= Math.min(last, this.#readTo); page++) this.#again.add(page)
    if (this.#again.size > againMax) {
      this.#again.clear()
      this.#readTo = 0
    }
    this.#pages = Math.max(this.#pages, last)
    // several at once would only wait for each other within the kernel, at the cost of a processor
    this.#writing = writeFully(this.#fd, data, (firstPage - 1) * this.pageBytes)
      .catch(error => {
        this.#failure ??= error
      })
      .finally(recycle)
    this.#unflushedBytes += data.length
    if (this.#unflushedBytes >= flushBytes) this.#flushEarly()
  }

  resize(pages: number): void {
    this.#pages = pages
  }

  /** Resolves when all that was written is durable; gives the record of it, with the digest that the source claims. */
  async commit(commit: Commit): Promise<StageRecord> {
    await this.#drained()
    await this.#flushing
    await fdatasyncAsync(this.#fd)
    return this.#record(commit, null)
  }

  /**
   * The last commit. Makes the file exactly what it says, and durable, and proves it by reading all of it back: another
   * digest than the commit's is refused. The record tells the file from any other.
   */
  async seal(commit: Commit): Promise<StageRecord> {
    await this.#drained()
    ftruncateSync(this.#fd, this.#pages * this.pageBytes)
    await this.#flushing
    const [{ state }] = await Promise.all([this.content(), fdatasyncAsync(this.#fd)])
    if (state !== commit.state) throw digestMismatch(commit.state, state, this.paths.file)
    this.digests.flush()
    return this.#record(commit, inodeOf(this.#fd))
  }

  #record({ position, timeMs, state }: Commit, sealed: string | null): StageRecord {
    if (state === undefined) {
      throw new HotspareError(
        'entry-invalid',
        'A commit of a SQLite database came without the digest of its state.',
      )
    }
    return { pageBytes: this.pageBytes, pages: this.#pages, position, timeMs, state, sealed }
  }

  async close(): Promise<void> {
    await this.#writing
    await this.#flushing
    await this.#readingBack
    this.digests.close()
    closeSync(this.#fd)
  }

  /** Begins to make durable, and to read back, what is written, so that the end finds little left to do. */
  #flushEarly(): void {
    this.#unflushedBytes = 0
    const written = this.#writing
    this.#flushing = Promise.all([this.#flushing, written])
      .then(() => fdatasyncAsync(this.#fd))
      .catch(error => {
        this.#failure ??= error
      })
    this.#readBack(this.#pages, written)
  }

  /** Pages that come again behind `#readTo` are noted by `write`, and read once more. */
  #readBack(last: number, written: Promise<void> = Promise.resolve()): void {
    const first = this.#readTo + 1
    if (last < first) return
    this.#readTo = last
    this.#readingBack = Promise.all([this.#readingBack, written])
      .then(() => digestPages(this.#fd, this.pageBytes, this.digests, { first, last }))
      .catch(error => {
        this.#failure ??= error
      })
  }

  async #drained(): Promise<void> {
    await this.#writing
    if (this.#failure !== undefined) throw this.#failure
  }
}

export function inodeOf(fd: number): string {
  const stat = fstatSync(fd, { bigint: true })
  return `${stat.dev}:${stat.ino}`
}

export function digestMismatch(
  expected: StateDigest | undefined,
  found: StateDigest,
  path: string,
): HotspareError {
  return new HotspareError(
    'digest-mismatch',
    `What was received for ${path} gives the digest ${found}, and not ${expected} as the source says. The copy stays at the commit before; follow with --resync to compare it with its source.`,
    { details: { expected, found } },
  )
}

async function writeFully(fd: number, data: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await writeAsync(fd, data, done, data.length - done, offset + done)
    done += bytesWritten
  }
}
