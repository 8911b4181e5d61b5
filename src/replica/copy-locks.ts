/**
 * What keeps a clone and the follower out of each other's way: two locks on files in the sidecar.
 *
 *     names     shared while a clone notes what there is and opens it; exclusive while the follower changes a name
 *     content   shared while a clone or check reads; exclusive while the follower changes bytes that are recorded
 *
 * Appending takes neither. A lock ends with the process that holds it.
 */
import type { Clock } from '../os/clock.ts'
import type { FileLock, Storage } from '../os/storage.ts'

const retryMsMin = 1
const retryMsMax = 50

export class CopyLocks {
  readonly #storage: Storage
  readonly #clock: Clock
  readonly #sidecar: string

  constructor(machine: { readonly storage: Storage; readonly clock: Clock }, sidecar: string) {
    this.#storage = machine.storage
    this.#clock = machine.clock
    this.#sidecar = sidecar
  }

  names(mode: 'shared' | 'exclusive'): Promise<FileLock> {
    return this.#take('names.lock', mode)
  }

  content(mode: 'shared' | 'exclusive'): Promise<FileLock> {
    return this.#take('content.lock', mode)
  }

  /** Waits for as long as it takes: whoever holds it is at work, or its end frees it. */
  async #take(name: string, mode: 'shared' | 'exclusive'): Promise<FileLock> {
    for (let retryMs = retryMsMin; ; retryMs = Math.min(2 * retryMs, retryMsMax)) {
      const lock = await this.#storage.lock(`${this.#sidecar}/${name}`, mode)
      if (lock !== undefined) return lock
      await this.#clock.sleep(retryMs)
    }
  }
}
