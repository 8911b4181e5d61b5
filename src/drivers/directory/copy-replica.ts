/**
 * The replica of a directory: gives entries in batches to the thread that writes the copy, and holds the locks that keep
 * whoever reads the copy and its follower out of each other's way.
 *
 *     names.lock     shared while somebody begins to read the copy; exclusive while changes are carried out in it
 *     content.lock   shared as long as somebody reads the copy: what goes is kept for it meanwhile (copy-kept.ts)
 *
 * So a reader that takes long delays nothing, and one that begins delays the follower by milliseconds.
 *
 * A copy that is as it must be is not opened before something is written (see also copy-resting.ts).
 */
import type { Worker } from 'node:worker_threads'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { FileLock } from '../../os/storage.ts'
import { startThread } from '../../os/thread.ts'
import { closeFd, openRoot } from '../../os/tree-calls.ts'
import { CopyLocks } from '../../replica/copy-locks.ts'
import type { Entry, EntryPath, Position, StoreName } from '../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode } from '../../stream/sink.ts'
import type { ConsistentCommit, Replica, ReplicaOptions } from '../driver.ts'
import { BatchEncoder } from './copy-batch.ts'
import { systemCalls } from './copy-calls.ts'
import type { Showing } from './copy-engine.ts'
import { loadLog } from './copy-log.ts'
import { blockBytes, digestBytes } from './copy-node.ts'
import {
  type CopyAnswer,
  type CopyMessage,
  type CopyRequest,
  type CopyThreadData,
  type ListedFile,
  receiveError,
} from './copy-protocol.ts'
import { CopyState } from './copy-state.ts'
import { type CopyStatus, isAtRest, toConsistent, toCopyCommit } from './copy-status.ts'

const batchesInFlightMax = 2
const listedMax = 2_000
/** Of the thread: what lives until the commit would only be copied about in a larger one. */
const youngMiBMax = 8
const nothingToWaitFor = Promise.resolve()

/** Throws `target-foreign`, `target-changed`, `state-damaged` and what the system says. */
export async function openDirectoryReplica(options: ReplicaOptions): Promise<Replica> {
  try {
    const status = options.resync ? undefined : await sound(options)
    const replica = new DirectoryReplica(options, status)
    if (status === undefined) await replica.open()
    return replica
  } catch (error) {
    throw describeSystemError(error, `opening the copy '${options.path}'`)
  }
}

/** What is recorded of a copy at which nothing has to be done; else undefined. */
async function sound({ storage, path, sidecar }: ReplicaOptions): Promise<CopyStatus | undefined> {
  const directory = openRoot(sidecar)
  try {
    const log = loadLog(systemCalls, directory)
    if (log === undefined || !log.closed) return undefined
    const { status } = CopyState.load(log)
    return isAtRest(status) && (await storage.stat(path))?.kind === 'directory' ? status : undefined
  } finally {
    closeFd(directory)
  }
}

/** Of a copy at which nothing has to be done, by its status. */
export function directoryReplicaAt(options: ReplicaOptions, status: CopyStatus): Replica {
  return new DirectoryReplica(options, status)
}

class DirectoryReplica implements Replica {
  readonly #options: ReplicaOptions
  readonly #locks: CopyLocks
  #status: CopyStatus | undefined
  #thread: CopyThread | undefined
  #encoder = new BatchEncoder()
  #isScheduled = false
  #isClosed = false
  /** The end of a pass was written, and may have to be shown by itself. */
  #hasPass = false
  #failed: unknown

  constructor(options: ReplicaOptions, status: CopyStatus | undefined) {
    this.#options = options
    this.#locks = new CopyLocks(options, options.sidecar)
    this.#status = status
  }

  /** Lets the thread repair what a crash left. */
  async open(): Promise<void> {
    try {
      const { status, isTorn } = await this.#started.ask({ kind: 'status' })
      this.#status = status
      if (isTorn) await this.#show()
    } catch (error) {
      await this.#thread?.end()
      throw error
    }
  }

  get #started(): CopyThread {
    this.#thread ??= new CopyThread(this.#options)
    return this.#thread
  }

  async position(_store: StoreName): Promise<Position | undefined> {
    return this.#status?.commit?.position as Position | undefined
  }

  consistent(): ConsistentCommit | undefined {
    const commit = this.#status?.consistent
    return commit === undefined ? undefined : toConsistent(commit)
  }

  async inventory(_store: StoreName): Promise<Inventory | undefined> {
    await this.#guarded(() => this.#post())
    const thread = this.#started
    const { files } = await thread.ask({ kind: 'files', anew: true, countMax: 1 })
    const { others } = await thread.ask({ kind: 'others', anew: true, countMax: 1 })
    const hasNothing = files?.length === 0 && others?.length === 0 && this.#status?.commit === undefined
    return hasNothing ? undefined : new CopyInventory(thread)
  }

  /** Mostly there is nothing to wait for: the same settled promise serves all entries. */
  write(entry: Entry): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed)
    let waiting: Promise<void> | undefined
    try {
      waiting = this.#write(entry)
    } catch (error) {
      return Promise.reject(this.#failedBy(error))
    }
    return waiting === undefined ? nothingToWaitFor : this.#guarded(() => waiting)
  }

  sync(): Promise<void> {
    return this.#guarded(() => this.#sync())
  }

  async #guarded(work: () => Promise<void> | undefined): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed
    try {
      await work()
    } catch (error) {
      throw this.#failedBy(error)
    }
  }

  #failedBy(error: unknown): unknown {
    this.#failed = describeSystemError(error, `writing the copy '${this.#options.path}'`)
    return this.#failed
  }

  #write(entry: Entry): Promise<void> | undefined {
    if (entry.store !== this.#options.store) {
      throw new HotspareError(
        'entry-invalid',
        `The copy is of store '${this.#options.store}', and got an entry of '${entry.store}'.`,
      )
    }
    // what can be seen is one whole pass, without a part of the next
    if (this.#hasPass) return this.#sync().then(() => this.#write(entry))
    this.#encoder.add(entry)
    if (entry.type === 'commit') this.#hasPass = toCopyCommit(entry).complete
    if (this.#encoder.isFull) return this.#post()
    this.#schedule()
    return undefined
  }

  /** A source may wait for memory that is in a batch which is not full: it goes as soon as the thread has room. */
  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => this.#postScheduled())
  }

  #postScheduled(): void {
    const full = this.#thread?.full
    if (full !== undefined) {
      full.then(
        () => this.#postScheduled(),
        () => this.#leaveScheduled(),
      )
      return
    }
    this.#leaveScheduled()
    if (this.#failed === undefined) this.#post()?.catch(() => undefined)
  }

  /** A failure is found by the next call. */
  #leaveScheduled(): void {
    this.#isScheduled = false
  }

  /** Undefined when more may be written at once. */
  #post(): Promise<void> | undefined {
    if (this.#encoder.isEmpty || this.#isClosed) return undefined
    const { batch, recycle } = this.#encoder.finish()
    const transfer = batch.copied.byteLength > 0 ? [batch.copied] : []
    return this.#started.post({ kind: 'batch', batch }, transfer, recycle)
  }

  async #sync(): Promise<void> {
    await this.#post()
    if (this.#thread === undefined) return
    const mayShow = this.#hasPass
    this.#hasPass = false
    if (mayShow) await this.#show()
    else await this.#flush({ kind: 'none' })
  }

  async #show(): Promise<void> {
    const names = await this.#locks.names('exclusive')
    let content: FileLock | undefined
    try {
      content = await this.#options.storage.lock(`${this.#options.sidecar}/content.lock`, 'exclusive')
      await this.#flush({ kind: 'allowed', readers: content === undefined })
    } finally {
      await content?.release()
      await names.release()
    }
  }

  async #flush(showing: Showing): Promise<void> {
    const { status } = await this.#started.ask({ kind: 'flush', showing })
    this.#status = status
  }

  async close(): Promise<void> {
    // what was not synced is void, and must not start a thread any more
    this.#isClosed = true
    try {
      await this.#thread?.close()
    } catch (error) {
      throw describeSystemError(error, `closing the copy '${this.#options.path}'`)
    }
  }
}

/** The thread, as seen from outside: questions are answered in order. */
class CopyThread {
  readonly #worker: Worker
  readonly #waiting = new Map<number, { resolve(answer: CopyAnswer): void; reject(error: Error): void }>()
  readonly #inFlight: Promise<void>[] = []
  #lastId = 0
  #failed: Error | undefined

  constructor({ store, path, sidecar, resync, noDelete, onNotice }: ReplicaOptions) {
    this.#worker = startThread('./copy-thread', import.meta.url, {
      name: 'hotspare-copy',
      workerData: { store, target: path, sidecar, resync, noDelete } satisfies CopyThreadData,
      resourceLimits: { maxYoungGenerationSizeMb: youngMiBMax },
    })
    this.#worker.on('message', (message: CopyMessage) => {
      if ('notice' in message) onNotice(message.notice)
      else this.#answered(message)
    })
    this.#worker.on('error', error => this.#ended(error))
    this.#worker.on('exit', () => this.#ended(new Error('the thread that writes the copy has ended')))
  }

  #answered(message: Exclude<CopyMessage, { notice: unknown }>): void {
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if ('answer' in message) waiting?.resolve(message.answer)
    else waiting?.reject(receiveError(message.error))
  }

  #ended(error: Error): void {
    this.#failed ??= error
    for (const { reject } of this.#waiting.values()) reject(this.#failed)
    this.#waiting.clear()
  }

  ask(request: CopyRequest, transfer: ArrayBuffer[] = []): Promise<CopyAnswer> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed)
    const id = ++this.#lastId
    this.#worker.postMessage({ id, request }, transfer)
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  /** Resolves when there is room for another; undefined when there is room already. Rejects for any before it. */
  post(
    request: CopyRequest,
    transfer: ArrayBuffer[],
    recycle: readonly (() => void)[],
  ): Promise<void> | undefined {
    const done = this.ask(request, transfer).then(() => {
      for (const give of recycle) give()
      this.#inFlight.splice(this.#inFlight.indexOf(done), 1)
    })
    // whoever waits for it, or for what comes after it, is told
    done.catch(() => undefined)
    this.#inFlight.push(done)
    return this.full
  }

  /** Resolves when there is room for another batch; undefined when there is room already. */
  get full(): Promise<void> | undefined {
    return this.#inFlight.length < batchesInFlightMax ? undefined : this.#inFlight[0]
  }

  async close(): Promise<void> {
    try {
      if (this.#failed === undefined) await this.ask({ kind: 'close' })
    } finally {
      await this.#worker.terminate()
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** What the copy will have when all that was written is shown. To be read before more is written. */
class CopyInventory implements Inventory {
  readonly #thread: CopyThread

  constructor(thread: CopyThread) {
    this.#thread = thread
  }

  async *files(): AsyncGenerator<InventoryFile> {
    for (let anew = true; ; anew = false) {
      const { files = [] } = await this.#thread.ask({ kind: 'files', anew, countMax: listedMax })
      for (const file of files) yield describe(file)
      if (files.length < listedMax) return
    }
  }

  async file(path: EntryPath): Promise<InventoryFile | undefined> {
    const { files } = await this.#thread.ask({ kind: 'file', path })
    const found = files?.[0]
    return found === undefined ? undefined : describe(found)
  }

  async *others(): AsyncGenerator<InventoryNode> {
    for (let anew = true; ; anew = false) {
      const { others = [] } = await this.#thread.ask({ kind: 'others', anew, countMax: listedMax })
      for (const { path, kind } of others) yield { path: path as EntryPath, kind }
      if (others.length < listedMax) return
    }
  }
}

function describe({ path, size, digests }: ListedFile): InventoryFile {
  return {
    path: path as EntryPath,
    size,
    blockBytes,
    digest: 'blake3-256',
    digests: async (first, count) => digests.subarray(first * digestBytes, (first + count) * digestBytes),
  }
}
