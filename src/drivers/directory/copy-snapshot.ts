/**
 * The snapshot of a directory's copy: what it shows at one moment, read by a thread of its own while following goes on.
 * What the follower replaces meanwhile is kept for it (copy-kept.ts) until it is closed.
 */
import type { Worker } from 'node:worker_threads'
import { describeSystemError } from '../../os/errors.ts'
import type { FileLock } from '../../os/storage.ts'
import { startThread } from '../../os/thread.ts'
import { CopyLocks } from '../../replica/copy-locks.ts'
import type { EntryPath } from '../../stream/entry.ts'
import type { ConsistentCommit } from '../driver.ts'
import { batchBytesMax, type Snapshot, type SnapshotBatch, type SnapshotOptions } from '../snapshot.ts'
import { receiveError } from './copy-protocol.ts'
import { missing } from './copy-recorded.ts'
import { BatchMemory } from './copy-snapshot-batch.ts'
import type {
  SnapshotAnswer,
  SnapshotMessage,
  SnapshotRequest,
  SnapshotThreadData,
} from './copy-snapshot-protocol.ts'
import { toConsistent } from './copy-status.ts'

/** Batches that are read ahead or in use; a consumer that holds so many has to release one. */
const batchesMax = 4

/** Throws `target-missing` and `target-incomplete`. */
export async function snapshotDirectoryCopy(options: SnapshotOptions): Promise<Snapshot> {
  const { storage, path, sidecar, signal } = options
  signal.throwIfAborted()
  if ((await storage.stat(sidecar)) === undefined) throw missing(path)
  // it loads what it needs while the locks are taken
  const thread = new SnapshotThread({ path, sidecar, provedLater: options.provedLater === true })
  let content: FileLock | undefined
  try {
    const locks = new CopyLocks(options, sidecar)
    content = await locks.content('shared')
    const names = await locks.names('shared')
    try {
      return new DirectorySnapshot(options, thread, content, await thread.ask({ kind: 'open' }))
    } finally {
      await names.release()
    }
  } catch (error) {
    await thread.end()
    await content?.release()
    throw describeSystemError(error, `reading the copy '${path}'`)
  }
}

interface FilledBatch {
  readonly memory: BatchMemory
  readonly answer: SnapshotAnswer
}

class SnapshotThread {
  readonly #worker: Worker
  readonly #waiting = new Map<
    number,
    { resolve(answer: SnapshotAnswer): void; reject(error: unknown): void }
  >()
  #lastId = 0
  #failed: Error | undefined

  constructor(workerData: SnapshotThreadData) {
    this.#worker = startThread('./copy-snapshot-thread', import.meta.url, { workerData })
    this.#worker.on('message', (message: SnapshotMessage) => {
      const waiting = this.#waiting.get(message.id)
      this.#waiting.delete(message.id)
      if ('answer' in message) waiting?.resolve(message.answer)
      else waiting?.reject(receiveError(message.error))
    })
    this.#worker.on('error', error => this.#ended(error))
    this.#worker.on('exit', () => this.#ended(new Error('the thread that reads the copy has ended')))
  }

  #ended(error: Error): void {
    this.#failed ??= error
    for (const { reject } of this.#waiting.values()) reject(this.#failed)
    this.#waiting.clear()
  }

  ask(request: SnapshotRequest): Promise<SnapshotAnswer> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed)
    const id = ++this.#lastId
    this.#worker.postMessage({ id, request })
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

class DirectorySnapshot implements Snapshot {
  readonly commit: ConsistentCommit
  readonly consistent: boolean
  totalBytes: number | undefined
  totalEntries: number | undefined
  readonly #options: SnapshotOptions
  readonly #thread: SnapshotThread
  readonly #content: FileLock
  readonly #free: BatchMemory[] = []
  /** Read while the consumer gets ready. */
  #first: Promise<FilledBatch> | undefined
  #made = 0
  #onFree: (() => void) | undefined
  #closed = false

  constructor(options: SnapshotOptions, thread: SnapshotThread, content: FileLock, opened: SnapshotAnswer) {
    const { commit } = opened
    if (commit === undefined) throw missing(options.path)
    this.#options = options
    this.#thread = thread
    this.#content = content
    this.commit = toConsistent(commit)
    this.consistent = commit.consistent
    this.#first = this.#ask()
    this.#first.catch(() => undefined)
  }

  async *batches(): AsyncGenerator<SnapshotBatch> {
    let bytes = 0
    let counted: Promise<void> | undefined
    try {
      let next = this.#first ?? this.#ask()
      this.#first = undefined
      for (;;) {
        const { memory, answer } = await next
        this.#options.signal.throwIfAborted()
        const { count = 0, extras = [] } = answer
        if (count === 0) {
          await counted
          return
        }
        // one is read while the one before is used
        next = this.#ask()
        next.catch(() => undefined)
        if (counted === undefined) {
          counted = this.#count()
          counted.catch(() => undefined)
        }
        const entries = memory.entries(count, extras, large => this.#stream(large))
        for (const entry of entries) if (entry.kind === 'file') bytes += entry.size
        yield { entries, release: this.#releaseOf(memory) }
        if (this.totalBytes !== undefined) this.#options.onProgress({ bytes, totalBytes: this.totalBytes })
      }
    } catch (error) {
      throw describeSystemError(error, `reading the copy '${this.#options.path}'`)
    } finally {
      if (this.#options.provedLater !== true) await this.close()
    }
  }

  /** When there are batches to work on already: it takes as long as the reading of one. */
  async #count(): Promise<void> {
    const { totalBytes, totalEntries } = await this.#thread.ask({ kind: 'count' })
    this.totalBytes = totalBytes
    this.totalEntries = totalEntries
  }

  async #ask(): Promise<FilledBatch> {
    const memory = await this.#memory()
    return { memory, answer: await this.#thread.ask({ kind: 'batch', memory: memory.shared }) }
  }

  async #memory(): Promise<BatchMemory> {
    for (;;) {
      const free = this.#free.pop()
      if (free !== undefined) return free
      if (this.#made < batchesMax) {
        this.#made++
        return new BatchMemory()
      }
      await new Promise<void>(resolve => {
        this.#onFree = resolve
      })
    }
  }

  #releaseOf(memory: BatchMemory): () => void {
    let released = false
    return () => {
      if (released) return
      released = true
      this.#free.push(memory)
      this.#onFree?.()
      this.#onFree = undefined
    }
  }

  async prove(path: EntryPath): Promise<void> {
    await this.#thread.ask({ kind: 'prove', path })
  }

  async *#stream(file: number): AsyncGenerator<Uint8Array> {
    const memories = [new SharedArrayBuffer(batchBytesMax), new SharedArrayBuffer(batchBytesMax)] as const
    const ask = (turn: number) =>
      this.#thread.ask({ kind: 'piece', file, memory: memories[turn % 2 === 0 ? 0 : 1] })
    let next = ask(0)
    for (let turn = 0; ; turn++) {
      const { length = 0 } = await next
      this.#options.signal.throwIfAborted()
      if (length === 0) return
      next = ask(turn + 1)
      next.catch(() => undefined)
      yield new Uint8Array(memories[turn % 2 === 0 ? 0 : 1], 0, length)
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#thread.ask({ kind: 'close' }).catch(() => undefined)
      await this.#thread.end()
    } finally {
      await this.#content.release()
    }
  }
}
