/**
 * Keeps an existing copy up to date: gathers the source's transactions, and puts them into the copy's own log as one
 * transaction of the engine for each group.
 *
 * Order, which is the law: the state is verified; the record of the group's end is durable; its last frame is
 * written and published; the log is durable. So after any crash the copy is at the end of this group or of the one
 * before, and the record names both. A transaction that doesn't fit in memory streams into the log ahead of its
 * commit frame, where nobody reads it.
 */
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Position } from '../../stream/entry.ts'
import type { ReplicaOptions } from '../driver.ts'
import { digestFile, fileIdentity, overlayFrames, readPage } from './copy-pages.ts'
import type { CopyContent, CopyRecord, CopyState } from './copy-state.ts'
import { digestMismatch } from './first-copy.ts'
import { PageDigests } from './page-digests.ts'
import { PageGroup } from './page-group.ts'
import type { WalIndexHeader } from './wal-index.ts'
import { WalWriter } from './wal-writer.ts'

/** Transactions are gathered up to this, and one larger than this streams. */
const groupBytesMax = 4 * 1024 * 1024
/** The copy's own log is checkpointed when it has grown to this: small, so that nobody waits long for it. */
export const logBytesMaxDefault = 4 * 1024 * 1024
/** How long a checkpoint waits for readers to end before it is tried again later. */
const readerWaitMs = 20
const logNoticeBytes = 256 * 1024 * 1024

interface End {
  readonly position: Position
  readonly timeMs: number
}

export class CopyFollower {
  readonly #options: ReplicaOptions
  readonly #state: CopyState
  readonly #writer: WalWriter
  readonly #digests: PageDigests
  #copy: CopyRecord
  #content: CopyContent
  /** Whole transactions that are verified and not in the log yet, and the one that is coming in. */
  readonly #group: PageGroup
  #groupEnd: End | undefined
  #currentBytes = 0
  #currentPages: number | undefined
  #streaming = false
  #failed = false
  readonly #logBytesMax: number
  #checkpointAtBytes: number
  #noticed = false

  /** Opens a copy that must be what the record says, or (without a record) takes over what is there. */
  static async open(
    options: ReplicaOptions,
    state: CopyState,
    digestsPath: string,
    record: CopyRecord | undefined,
    logBytesMax: number,
  ): Promise<CopyFollower> {
    const writer = await WalWriter.open(options.path, options.clock, {
      toWal: record === undefined || options.resync,
    })
    let digests: PageDigests | undefined
    try {
      digests = new PageDigests(digestsPath)
      const header = await writer.lock()
      const known =
        record === undefined
          ? await takeOver(writer, header, digests)
          : await recognise(options, writer, header, digests, record)
      writer.accept()
      const follower = new CopyFollower(options, state, writer, digests, known, logBytesMax)
      if (known.reread) await follower.#recordRest()
      writer.unlock()
      await writer.sync()
      return follower
    } catch (error) {
      writer.close()
      digests?.close()
      throw error
    }
  }

  private constructor(
    options: ReplicaOptions,
    state: CopyState,
    writer: WalWriter,
    digests: PageDigests,
    known: { copy: CopyRecord; content: CopyContent },
    logBytesMax: number,
  ) {
    this.#logBytesMax = logBytesMax
    this.#checkpointAtBytes = logBytesMax
    this.#options = options
    this.#state = state
    this.#writer = writer
    this.#group = new PageGroup(writer.pageBytes)
    this.#digests = digests
    this.#copy = known.copy
    this.#content = known.content
  }

  get pageBytes(): number {
    return this.#writer.pageBytes
  }

  get digests(): PageDigests {
    return this.#digests
  }

  /** What the copy durably holds. */
  get content(): CopyContent {
    return this.#content
  }

  /** Forgets changes that no commit followed. */
  async settle(): Promise<void> {
    this.#group.drop()
    this.#currentBytes = 0
    this.#currentPages = undefined
    if (!this.#streaming) return
    this.#streaming = false
    this.#writer.unlock()
    const header = await this.#writer.lock()
    try {
      await digestAll(this.#writer, header, this.#digests)
      await this.#recordRest()
    } finally {
      this.#writer.unlock()
    }
  }

  async write(firstPage: number, data: Uint8Array, recycle?: () => void): Promise<void> {
    await this.#guarded(async () => {
      const { pageBytes } = this
      for (let at = 0, page = firstPage; at < data.length; at += pageBytes, page++) {
        const bytes = data.subarray(at, at + pageBytes)
        if (this.#streaming) this.#stream(page, bytes)
        else this.#group.put(page, bytes)
      }
      // a page that streams is encoded with the one after it
      if (!this.#streaming) recycle?.()
      this.#currentBytes += data.length
      if (!this.#streaming && this.#currentBytes > groupBytesMax) await this.#startStreaming()
    })
  }

  resize(pages: number): void {
    this.#currentPages = pages
  }

  async commit(commit: Commit): Promise<void> {
    await this.#guarded(async () => {
      if (!commit.consistent) {
        throw new HotspareError(
          'entry-invalid',
          'A commit that is not consistent came for a copy that is: transactions of a copy come whole.',
        )
      }
      for (const [page, data] of this.#group.openPages()) this.#digests.update(page, data)
      if (this.#currentPages !== undefined) this.#digests.resize(this.#currentPages)
      const { state } = this.#digests
      if (commit.state !== undefined && commit.state !== state) {
        throw digestMismatch(commit.state, state, this.#options.path)
      }
      this.#groupEnd = { position: commit.position, timeMs: commit.timeMs }
      if (this.#streaming) {
        await this.#commitStream()
        return
      }
      this.#group.fold()
      this.#currentBytes = 0
      this.#currentPages = undefined
      if (this.#group.bytes >= groupBytesMax) await this.#flush()
    })
  }

  /** Resolves when all committed transactions are visible and durable. */
  async sync(): Promise<void> {
    if (this.#streaming) return
    await this.#guarded(() => this.#flush())
  }

  /** After a failure nothing is written any more; else the copy is left as one file, where nobody else has it open. */
  async close(): Promise<void> {
    try {
      if (!this.#failed) {
        await this.settle()
        await this.#flush()
        await this.#checkpoint()
      }
    } finally {
      this.#writer.close()
      this.#digests.close()
    }
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#failed = true
      throw error
    }
  }

  async #flush(): Promise<void> {
    const end = this.#groupEnd
    if (end === undefined) return
    await this.#writer.lock()
    try {
      const { pages, state } = this.#digests
      if (state !== this.#content.state) {
        this.#writer.begin()
        for (const [page, data] of this.#group.wholePages()) if (page <= pages) this.#writer.add(page, data)
      }
      await this.#commitLog(end)
    } finally {
      this.#writer.unlock()
    }
    this.#group.clear()
    this.#groupEnd = undefined
    await this.#checkpointWhenDue()
  }

  /** A transaction too large for memory: what is whole goes first, then its pages go straight into the log. */
  async #startStreaming(): Promise<void> {
    await this.#flush()
    await this.#writer.lock()
    this.#writer.begin()
    this.#streaming = true
    for (const [page, data] of this.#group.openPages()) this.#stream(page, data)
    this.#group.drop()
  }

  #stream(page: number, data: Uint8Array): void {
    this.#digests.update(page, data)
    this.#writer.add(page, data)
  }

  async #commitStream(): Promise<void> {
    await this.#commitLog(this.#groupEnd as End)
    this.#writer.unlock()
    this.#groupEnd = undefined
    this.#streaming = false
    this.#currentBytes = 0
    this.#currentPages = undefined
    await this.#checkpointWhenDue()
  }

  /** Ends the transaction in the log, under the lock. */
  async #commitLog(end: End): Promise<void> {
    const writer = this.#writer
    const next: CopyContent = { ...end, state: this.#digests.state }
    // streamed frames that change nothing in the end are left uncommitted
    const changed = next.state !== this.#content.state
    // a commit frame needs a page
    if (changed && writer.empty) writer.add(1, this.#pageOne())
    await this.#put({ ...this.#copy, previous: this.#content, next })
    if (changed) {
      writer.commit(this.#digests.pages)
      await writer.sync()
    }
    this.#content = next
  }

  #pageOne(): Buffer {
    const { databaseFd, walFd, pageBytes } = this.#writer
    let frame = this.#writer.lastFrame
    while (frame > 0 && this.#writer.framePage(frame) !== 1) frame--
    return readPage({ database: databaseFd, wal: walFd }, pageBytes, frame > 0 ? frame : undefined, 1)
  }

  async #checkpointWhenDue(): Promise<void> {
    const { logBytes } = this.#writer
    if (logBytes < this.#checkpointAtBytes) return
    const emptied = await this.#checkpoint()
    // a reader that stands in the log may do so for long, and each attempt waits for it
    const more = Math.max(this.#logBytesMax / 4, logBytes / 8)
    this.#checkpointAtBytes = emptied ? this.#logBytesMax : this.#writer.logBytes + more
    if (emptied || this.#noticed || logBytes < logNoticeBytes) return
    this.#noticed = true
    this.#options.onNotice({
      code: 'copy-log-held',
      message: `A reader has ${this.#options.path} open in a long transaction, so its -wal can't be emptied and has ${logBytes} bytes. It will be when the reader ends.`,
      details: { logBytes },
    })
  }

  /**
   * The engine moves the log into the database file. What it moves is recorded durably already; the digest table
   * goes first, so that table and remaining frames together always give the content.
   */
  async #checkpoint(): Promise<boolean> {
    this.#digests.flush()
    const emptied = this.#writer.checkpoint(readerWaitMs)
    await this.#writer.lock()
    try {
      await this.#recordRest()
    } finally {
      this.#writer.unlock()
    }
    return emptied
  }

  /** Records, under the lock, the database file and the digest table as they are now. */
  async #recordRest(): Promise<void> {
    this.#digests.flush()
    await this.#put({
      pageBytes: this.pageBytes,
      file: fileIdentity(this.#writer.databaseFd),
      tablePages: this.#digests.pages,
      previous: this.#content,
      next: this.#content,
    })
  }

  async #put(copy: CopyRecord): Promise<void> {
    await this.#state.put({ ...this.#state.record, copy })
    this.#copy = copy
  }
}

interface Known {
  readonly copy: CopyRecord
  readonly content: CopyContent
  /** The digest table was made anew from the whole copy. */
  readonly reread: boolean
}

/** Proves which of the recorded contents the copy has; `target-changed` when it has another. */
async function recognise(
  options: ReplicaOptions,
  writer: WalWriter,
  header: WalIndexHeader,
  digests: PageDigests,
  record: CopyRecord,
): Promise<Known> {
  const found = () => [record.next, record.previous].find(content => content.state === digests.state)
  if (record.pageBytes === writer.pageBytes && record.file === fileIdentity(writer.databaseFd)) {
    digests.restore(record.tablePages)
    await overlayFrames(writer.walFd, options.path, header, digests)
    const content = found()
    if (content !== undefined) return { copy: record, content, reread: false }
  }
  await digestAll(writer, header, digests)
  const content = found()
  if (content !== undefined) return { copy: record, content, reread: true }
  if (options.resync) return takenOver(writer, digests)
  throw new HotspareError(
    'target-changed',
    `${options.path} was changed by somebody else since it was last followed: its content has the digest ${digests.state}, recorded is ${record.next.state}. Keep it under another name, or let --resync make it equal to its source again.`,
    { details: { found: digests.state, expected: record.next.state } },
  )
}

async function takeOver(writer: WalWriter, header: WalIndexHeader, digests: PageDigests): Promise<Known> {
  await digestAll(writer, header, digests)
  return takenOver(writer, digests)
}

function takenOver(writer: WalWriter, digests: PageDigests): Known {
  const content = { position: null, timeMs: 0, state: digests.state }
  const file = fileIdentity(writer.databaseFd)
  const copy = {
    pageBytes: writer.pageBytes,
    file,
    tablePages: digests.pages,
    previous: content,
    next: content,
  }
  return { copy, content, reread: true }
}

async function digestAll(writer: WalWriter, header: WalIndexHeader, digests: PageDigests): Promise<void> {
  await digestFile(writer.databaseFd, writer.pageBytes, digests)
  await overlayFrames(writer.walFd, writer.path, header, digests)
}
