/**
 * The snapshot of a directory's copy: what it shows at one moment, read by a thread of its own while following goes on.
 * What the follower replaces meanwhile is kept for it (copy-kept.ts) until it is closed.
 */
import { Worker } from 'node:worker_threads'
import { describeSystemError } from '../../os/errors.ts'
import type { FileLock } from '../../os/storage.ts'
import { CopyLocks } from '../../replica/copy-locks.ts'
import type { EntryPath } from '../../stream/entry.ts'
import type { ConsistentCommit } from '../driver.ts'
import {
  batchBytesMax,
  type Snapshot,
  type SnapshotBatch,
  type SnapshotEntry,
  type SnapshotOptions,
  smallContentBytesMax,
} from '../snapshot.ts'
import { receiveError } from './copy-protocol.ts'
import { missing } from './copy-recorded.ts'
import type {
  PlainEntry,
  SnapshotAnswer,
  SnapshotMessage,
  SnapshotRequest,
  SnapshotThreadData,
} from './copy-snapshot-protocol.ts'
import { toConsistent } from './copy-state.ts'

/** Batches that are read ahead or in use; a consumer that holds so many has to release one. */
const batchesMax = 4

/** Throws `target-missing` and `target-incomplete`. */
export async function snapshotDirectoryCopy(options: SnapshotOptions): Promise<Snapshot> {
  const { storage, path, sidecar, signal } = options
  signal.throwIfAborted()
  if ((await storage.stat(sidecar)) === undefined) throw missing(path)
  const locks = new CopyLocks(options, sidecar)
  const content = await locks.content('shared')
  try {
    const thread = new SnapshotThread({ path, sidecar })
    try {
      const names = await locks.names('shared')
      try {
        return new DirectorySnapshot(options, thread, content, await thread.ask({ kind: 'open' }))
      } finally {
        await names.release()
      }
    } catch (error) {
      await thread.end()
      throw error
    }
  } catch (error) {
    await content.release()
    throw describeSystemError(error, `reading the copy '${path}'`)
  }
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
    const extension = import.meta.url.slice(-3)
    this.#worker = new Worker(new URL(`./copy-snapshot-thread${extension}`, import.meta.url), { workerData })
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
  readonly totalBytes: number
  readonly totalEntries: number
  readonly #options: SnapshotOptions
  readonly #thread: SnapshotThread
  readonly #content: FileLock
  readonly #free: SharedArrayBuffer[] = []
  #made = 0
  #onFree: (() => void) | undefined
  #closed = false

  constructor(options: SnapshotOptions, thread: SnapshotThread, content: FileLock, opened: SnapshotAnswer) {
    const { commit, totalBytes = 0, totalEntries = 0 } = opened
    if (commit === undefined) throw missing(options.path)
    this.#options = options
    this.#thread = thread
    this.#content = content
    this.commit = toConsistent(commit)
    this.consistent = commit.consistent
    this.totalBytes = totalBytes
    this.totalEntries = totalEntries
  }

  async *batches(): AsyncGenerator<SnapshotBatch> {
    let bytes = 0
    try {
      let next = this.#ask()
      for (;;) {
        const { memory, entries } = await next
        this.#options.signal.throwIfAborted()
        if (entries.length === 0) return
        // one is read while the one before is used
        next = this.#ask()
        next.catch(() => undefined)
        yield this.#batch(memory, entries)
        for (const { size = 0, kind } of entries) if (kind === 'file') bytes += size
        this.#options.onProgress({ bytes, totalBytes: this.totalBytes })
      }
    } catch (error) {
      throw describeSystemError(error, `reading the copy '${this.#options.path}'`)
    } finally {
      await this.close()
    }
  }

  async #ask(): Promise<{ memory: SharedArrayBuffer; entries: readonly PlainEntry[] }> {
    const memory = await this.#memory()
    const { entries = [] } = await this.#thread.ask({ kind: 'batch', memory })
    return { memory, entries }
  }

  async #memory(): Promise<SharedArrayBuffer> {
    for (;;) {
      const free = this.#free.pop()
      if (free !== undefined) return free
      if (this.#made < batchesMax) {
        this.#made++
        return new SharedArrayBuffer(batchBytesMax + smallContentBytesMax)
      }
      await new Promise<void>(resolve => {
        this.#onFree = resolve
      })
    }
  }

  #batch(memory: SharedArrayBuffer, entries: readonly PlainEntry[]): SnapshotBatch {
    let released = false
    return {
      entries: entries.map(entry => this.#entry(memory, entry)),
      release: () => {
        if (released) return
        released = true
        this.#free.push(memory)
        this.#onFree?.()
        this.#onFree = undefined
      },
    }
  }

  #entry(memory: SharedArrayBuffer, entry: PlainEntry): SnapshotEntry {
    const { kind, path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = entry
    const metadata = { path, mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs }
    switch (kind) {
      case 'directory':
        return { kind, ...metadata }
      case 'symlink':
        return { kind, ...metadata, target: entry.to as string }
      case 'hardlink':
        return { kind, ...metadata, to: entry.to as EntryPath }
      case 'file': {
        const { file } = entry
        return {
          kind,
          ...metadata,
          size: entry.size as number,
          digests: entry.digests as Uint8Array,
          extents: entry.extents,
          content: file === undefined ? new Uint8Array(memory, entry.start, entry.length) : undefined,
          stream: file === undefined ? undefined : () => this.#stream(file),
        }
      }
    }
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
