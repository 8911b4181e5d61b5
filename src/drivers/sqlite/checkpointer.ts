/**
 * Runs passive checkpoints of a live database in a thread of its own, so that the log goes on being read while its
 * content is moved and synced. The thread begins with the first checkpoint, and sleeps between them.
 *
 * Its connection belongs to this process, like all others: SQLite keeps the locks of a process's connections together.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'

/** Places in the shared memory, 32 bits each. */
export const slot = { task: 0, busy: 1, log: 2, checkpointed: 3, failed: 4 } as const
export const task = { none: 0, checkpoint: 1, end: 2, ended: 3 } as const
const slots = 5
/** A checkpoint that is under way when the thread is to end may have much to move. */
const endMsMax = 30_000

export interface CheckpointThreadData {
  readonly path: string
  /** Of the `-shm` file; it stays open, as closing it would lose this process's locks. */
  readonly shmFd: number
  readonly shared: SharedArrayBuffer
  /** Takes the properties of an error that ended the thread. */
  readonly failures: MessagePort
}

export interface Checkpoint {
  readonly frames: number
  /** All of the log is in the database file now. */
  readonly complete: boolean
  /** False when another process was at it. */
  readonly done: boolean
}

export function checkpointOf(row: { busy: number; log: number; checkpointed: number }): Checkpoint {
  return {
    frames: row.log,
    complete: row.log >= 0 && row.log === row.checkpointed,
    done: row.busy === 0 && row.log >= 0,
  }
}

export class Checkpointer {
  readonly #path: string
  readonly #state = new Int32Array(new SharedArrayBuffer(slots * 4))
  #worker: Worker | undefined
  readonly #failures = new MessageChannel()
  #failedToBegin: unknown
  #begun = false

  constructor(path: string) {
    this.#path = path
  }

  get isRunning(): boolean {
    return this.#begun && Atomics.load(this.#state, slot.task) === task.checkpoint
  }

  /** Descriptors of the database file that its connection has open. */
  get connections(): number {
    return this.#worker === undefined ? 0 : 1
  }

  /** None is running. `shmFd` names the database's `-shm` file, for reading and writing, until `close`. */
  begin(shmFd: number): void {
    this.#worker ??= this.#start(shmFd)
    this.#begun = true
    Atomics.store(this.#state, slot.task, task.checkpoint)
    Atomics.notify(this.#state, slot.task)
  }

  /** How the one that was begun has ended, once; undefined while it runs, or when none was begun. Throws what it met. */
  take(): Checkpoint | undefined {
    if (!this.#begun || this.isRunning) return undefined
    this.#begun = false
    if (Atomics.load(this.#state, slot.failed) !== 0) {
      this.#worker = undefined
      const { message } = receiveMessageOnPort(this.#failures.port1) ?? {}
      throw this.#failedToBegin ?? Object.assign(new Error(message?.message), message)
    }
    const [busy, log, checkpointed] = [slot.busy, slot.log, slot.checkpointed].map(at =>
      Atomics.load(this.#state, at),
    )
    return checkpointOf({ busy: busy!, log: log!, checkpointed: checkpointed! })
  }

  /** Returns when the connection is closed. */
  close(): void {
    if (this.#worker === undefined) return
    Atomics.store(this.#state, slot.task, task.end)
    Atomics.notify(this.#state, slot.task)
    Atomics.wait(this.#state, slot.task, task.end, endMsMax)
    this.#worker = undefined
  }

  #start(shmFd: number): Worker {
    const extension = import.meta.url.slice(-3)
    const worker = new Worker(new URL(`./checkpoint-thread${extension}`, import.meta.url), {
      workerData: {
        path: this.#path,
        shmFd,
        shared: this.#state.buffer as SharedArrayBuffer,
        failures: this.#failures.port2,
      } satisfies CheckpointThreadData,
      transferList: [this.#failures.port2],
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
    })
    worker.on('error', error => {
      this.#failedToBegin = error
      Atomics.store(this.#state, slot.failed, 1)
      Atomics.store(this.#state, slot.task, task.ended)
    })
    worker.unref()
    return worker
  }
}
