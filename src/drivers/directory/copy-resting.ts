/**
 * The replica of a directory that was closed in order, until something is written: knows what its log's closing says, and
 * loads what writing needs with the first entry. So a pass that finds nothing changed costs neither the code nor the record.
 */
import { describeSystemError } from '../../os/errors.ts'
import { closeFd, openRoot, readAt, statFd, tryOpenAt } from '../../os/tree-calls.ts'
import type { Entry, Position, StoreName } from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import type { ConsistentCommit, Replica, ReplicaOptions } from '../driver.ts'
import { readClosing } from './copy-closing.ts'
import { type CopyStatus, isAtRest, parseStatus, toConsistent } from './copy-status.ts'

/** Undefined when the copy has to be opened, or looked at closer, first. */
export async function restingReplica(options: ReplicaOptions): Promise<Replica | undefined> {
  try {
    const status = options.resync ? undefined : await closedStatus(options)
    return status === undefined ? undefined : new RestingReplica(options, status)
  } catch (error) {
    throw describeSystemError(error, `opening the copy '${options.path}'`)
  }
}

async function closedStatus({ storage, path, sidecar }: ReplicaOptions): Promise<CopyStatus | undefined> {
  const directory = openRoot(sidecar)
  try {
    const closing = readClosing({ tryOpenAt, statFd, readAt, closeFd }, directory)
    if (closing === undefined) return undefined
    const status = parseStatus(closing)
    return isAtRest(status) && (await storage.stat(path))?.kind === 'directory' ? status : undefined
  } finally {
    closeFd(directory)
  }
}

class RestingReplica implements Replica {
  readonly #options: ReplicaOptions
  readonly #status: CopyStatus
  #waking: Promise<Replica> | undefined
  #awake: Replica | undefined

  constructor(options: ReplicaOptions, status: CopyStatus) {
    this.#options = options
    this.#status = status
  }

  async position(store: StoreName): Promise<Position | undefined> {
    return this.#awake === undefined
      ? (this.#status.commit?.position as Position | undefined)
      : this.#awake.position(store)
  }

  consistent(): ConsistentCommit | undefined {
    if (this.#awake !== undefined) return this.#awake.consistent()
    const commit = this.#status.consistent
    return commit === undefined ? undefined : toConsistent(commit)
  }

  write(entry: Entry): Promise<void> {
    return this.#awake === undefined
      ? this.#wake().then(replica => replica.write(entry))
      : this.#awake.write(entry)
  }

  async sync(): Promise<void> {
    await (await this.#waking)?.sync()
  }

  async inventory(store: StoreName): Promise<Inventory | undefined> {
    return (await this.#wake()).inventory?.(store)
  }

  async close(): Promise<void> {
    await (await this.#waking)?.close()
  }

  #wake(): Promise<Replica> {
    this.#waking ??= this.#load()
    return this.#waking
  }

  async #load(): Promise<Replica> {
    const { directoryReplicaAt } = await import('./copy-replica.ts')
    this.#awake = directoryReplicaAt(this.#options, this.#status)
    return this.#awake
  }
}
