/** Has an archive read back by a thread of its own while it is written (read-back-thread.ts). */
import type { Worker } from 'node:worker_threads'
import { HotspareError } from '../os/errors.ts'
import { startThread } from '../os/thread.ts'
import type { ReadBackReply, ReadBackRequest, ReadBackResult, ReadBackSubject } from './read-back-messages.ts'

/** Of the thread: nothing it makes lives longer than a member. */
const youngMiBMax = 16

export interface FrameToCheck {
  readonly offset: number
  readonly length: number
  readonly rawBytes: number
  /** When there is no file to read. */
  readonly bytes?: Buffer
}

export class ReadBack {
  readonly #worker: Worker
  readonly #waiting: (() => void)[] = []
  #error: unknown
  #failed = false
  #closing = false
  #result: ((result: ReadBackResult | undefined) => void) | undefined

  /** Starts the thread, which takes a while: to be made before there is anything to read. */
  constructor() {
    this.#worker = startThread('./read-back-thread', import.meta.url, {
      resourceLimits: { maxYoungGenerationSizeMb: youngMiBMax },
    })
    this.#worker.on('message', (reply: ReadBackReply) => this.#take(reply))
    this.#worker.on('error', error => this.#fail(error))
    this.#worker.on('exit', () => {
      if (!this.#closing) this.#fail(new Error('the thread that reads back has ended'))
    })
  }

  #take(reply: ReadBackReply): void {
    switch (reply.kind) {
      case 'checked':
        this.#waiting.shift()?.()
        break
      case 'fault':
        this.#fail(damaged(describe(reply.fault), reply.fault.damaged))
        break
      case 'damaged':
        this.#fail(damaged(reply.what))
        break
      case 'failed':
        this.#fail(
          Object.assign(new Error(`reading back: ${reply.message}`), reply.system && { code: reply.system }),
        )
        break
      case 'result':
        this.#result?.(reply.result)
    }
  }

  #fail(error: unknown): void {
    if (this.#failed) return
    this.#failed = true
    this.#error = error
    for (const resolve of this.#waiting.splice(0)) resolve()
    this.#result?.(undefined)
  }

  #throwIfFailed(): void {
    if (this.#failed) throw this.#error
  }

  /** First, and once. */
  begin(subject: ReadBackSubject): void {
    this.#send({ kind: 'begin', subject })
  }

  #send(request: ReadBackRequest): void {
    this.#worker.postMessage(request)
  }

  /** Resolves when the frame was proved; rejects as soon as anything was not. */
  async check(frame: FrameToCheck): Promise<void> {
    this.#throwIfFailed()
    const checked = new Promise<void>(resolve => {
      this.#waiting.push(resolve)
    })
    this.#send({ kind: 'frame', ...frame, bytes: frame.bytes })
    await checked
    this.#throwIfFailed()
  }

  /** Resolves when all was proved. */
  async finish(fileBytes: number): Promise<ReadBackResult> {
    this.#throwIfFailed()
    const result = new Promise<ReadBackResult | undefined>(resolve => {
      this.#result = resolve
    })
    this.#send({ kind: 'end', fileBytes })
    const found = await result
    this.#throwIfFailed()
    if (found === undefined) throw damaged('it was not read to its end')
    return found
  }

  async close(): Promise<void> {
    this.#closing = true
    await this.#worker.terminate()
  }
}

export function describe(fault: {
  readonly offset: number
  readonly path?: string
  readonly what: string
}): string {
  const where = `at byte ${fault.offset} of the archive`
  return fault.path === undefined ? `${fault.what} (${where})` : `'${fault.path}': ${fault.what} (${where})`
}

/** `member`: whose content it is, as its path stands in the archive. */
function damaged(what: string, member?: string): HotspareError {
  return new HotspareError(
    'archive-damaged',
    `The archive, read back, is not what was written: ${what}. It was not kept. The disk or the memory may be faulty.`,
    member === undefined ? {} : { details: { member } },
  )
}
