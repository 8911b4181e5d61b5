/** The scanning threads, seen from the main one: requests go to the thread that has the fewest. */
import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import { displayPath } from '../../stream/entry.ts'
import { asFailure } from './path-error.ts'
import type {
  BlocksAnswer,
  BlocksRequest,
  LoadAnswer,
  LoadRequest,
  LookAnswer,
  LookRequest,
  ReadAnswer,
  ReadRequest,
  ScanAnswer,
  ScanFailure,
  ScanReply,
  ScanRequest,
} from './scan-protocol.ts'
import { startScanThread } from './scan-thread.ts'

/** Besides the main thread, which looks too, and is busy with what they have read. */
const threadsMax = 4

interface Thread {
  readonly worker: Worker
  readonly waiting: Map<number, { resolve(answer: ScanAnswer): void; reject(error: unknown): void }>
}

export class ScanPool {
  readonly #threads: Thread[] = []
  readonly #root: string
  #next = 1
  #ready = 0
  #warm = false
  #closed = false

  /** `root` is for messages. */
  constructor(root: string, threads = Math.max(1, Math.min(threadsMax, availableParallelism() - 1))) {
    this.#root = root
    for (let i = 0; i < threads; i++) this.#threads.push(this.#start())
  }

  get threads(): number {
    return this.#threads.length
  }

  /** All threads have come up. */
  get isReady(): boolean {
    return this.#ready === this.#threads.length
  }

  /** Looks in this thread. Blocks it for as long as that takes. */
  async lookHere(request: LookRequest): Promise<LookAnswer> {
    const { look } = await import('./scan-look.ts')
    await new Promise(resolve => setImmediate(resolve))
    try {
      return look(request)
    } catch (error) {
      throw this.#error(asFailure(error))
    }
  }

  look(request: LookRequest): Promise<LookAnswer> {
    return this.#ask(request) as Promise<LookAnswer>
  }

  read(request: ReadRequest): Promise<ReadAnswer> {
    return this.#ask(request) as Promise<ReadAnswer>
  }

  blocks(request: BlocksRequest): Promise<BlocksAnswer> {
    return this.#ask(request) as Promise<BlocksAnswer>
  }

  /** One thread loads an index and looks, until others take over; see look-ahead.ts. */
  ahead(
    request: LoadRequest,
    claimed: SharedArrayBuffer,
  ): { readonly loaded: Promise<LoadAnswer>; readonly looked: Promise<LookAnswer> } {
    const thread = this.#threads[0] as Thread
    const loaded = this.#askThread(thread, request) as Promise<LoadAnswer>
    const looked = this.#askThread(thread, { kind: 'ahead', claimed }) as Promise<LookAnswer>
    return { loaded, looked }
  }

  /** All threads load what reading needs, soon: nobody waits for it. */
  warm(): void {
    if (this.#warm) return
    this.#warm = true
    // a thread that cannot will tell so when it is asked to read
    for (const thread of this.#threads) this.#askThread(thread, { kind: 'warm' }).catch(() => undefined)
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#threads.map(thread => thread.worker.terminate()))
  }

  #ask(request: ScanRequest): Promise<ScanAnswer> {
    const thread = this.#threads.reduce((least, one) => (one.waiting.size < least.waiting.size ? one : least))
    return this.#askThread(thread, request)
  }

  #askThread(thread: Thread, request: ScanRequest): Promise<ScanAnswer> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      // only work under way keeps the process alive
      thread.worker.ref()
      thread.waiting.set(id, { resolve, reject })
      thread.worker.postMessage({ id, request })
    })
  }

  #start(): Thread {
    const worker = startScanThread()
    const thread: Thread = { worker, waiting: new Map() }
    worker.once('online', () => {
      this.#ready++
    })
    worker.on('message', (reply: ScanReply) => {
      const asked = thread.waiting.get(reply.id)
      thread.waiting.delete(reply.id)
      if (thread.waiting.size === 0) worker.unref()
      if ('answer' in reply) asked?.resolve(reply.answer)
      else asked?.reject(this.#error(reply.failure))
    })
    const fail = (error: unknown): void => {
      for (const asked of thread.waiting.values()) asked.reject(error)
      thread.waiting.clear()
    }
    worker.on('error', fail)
    worker.on('exit', () =>
      fail(new Error(this.#closed ? 'the scanning threads were closed' : 'a scanning thread ended')),
    )
    return thread
  }

  #error({ message, code, path }: ScanFailure): unknown {
    const error = Object.assign(new Error(message), code === undefined ? {} : { code })
    if (path === undefined) return error
    const shown = path === '' || path === '.' ? this.#root : `${this.#root}/${displayPath(path)}`
    const described = describeSystemError(error, `Reading ${shown}`)
    return described instanceof HotspareError
      ? new HotspareError(described.code, described.message, {
          cause: error,
          details: { ...described.details, path: shown },
        })
      : error
  }
}
