/**
 * Where a standby keeps the copy of a store: at the store's path, with the sidecar of a follower beside it (lock,
 * meta.json, status.json), so that `clone`, `check`, `status` and `archive` know it, also while it is applied to.
 *
 * Invariant: the lock is held as long as the place is open. A path that holds something that is neither a copy of ours
 * nor recognised as a store of the driver is never written to.
 */
import type { CopyOptions, Driver, Notice, Replica } from '../../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import { parentDirectory } from '../../os/storage.ts'
import { type Meta, readMeta, writeMeta } from '../../replica/meta.ts'
import { openSidecar, type Sidecar, sidecarPath } from '../../replica/sidecar.ts'
import { type FollowerStatus, writeStatusFile } from '../../replica/status-file.ts'
import type { ServerMachine, StoreSettings } from '../server.ts'

export interface ReplicaPlaceOptions {
  readonly set: string
  readonly settings: StoreSettings
  readonly machine: ServerMachine
  onNotice(notice: Notice): void
}

/** What stands at a path that is to hold a copy. */
export type Found =
  /** Nothing, or a copy of ours. */
  | 'own'
  /** A store that others made: it may be taken as it is found, and made equal. */
  | 'other'

export class ReplicaPlace {
  readonly driver: Driver
  readonly path: string
  readonly #options: ReplicaPlaceOptions
  readonly #sidecar: Sidecar

  /** Throws `target-missing` (its directory), `target-busy`. */
  static async open(options: ReplicaPlaceOptions): Promise<ReplicaPlace> {
    const { settings, machine } = options
    const { storage, clock } = machine
    const parent = parentDirectory(settings.path)
    if ((await storage.stat(parent))?.kind !== 'directory') {
      throw new HotspareError(
        'target-missing',
        `There is no directory ${parent} for the copy of store '${settings.store}'. Make it first (or mount it).`,
      )
    }
    return new ReplicaPlace(options, await openSidecar(storage, clock, settings.path))
  }

  private constructor(options: ReplicaPlaceOptions, sidecar: Sidecar) {
    this.#options = options
    this.#sidecar = sidecar
    this.path = options.settings.path
    this.driver = options.machine.driverNamed(options.settings.driver)
  }

  get copy(): Omit<CopyOptions, 'signal' | 'onProgress' | 'onNotice'> {
    const { settings, machine } = this.#options
    const { store, profile } = settings
    const { storage, clock } = machine
    return {
      storage,
      clock,
      store,
      path: this.path,
      sidecar: sidecarPath(this.path),
      ...(profile === undefined ? {} : { profile }),
    }
  }

  /**
   * Whose it is what stands at the path. Throws `target-other-source` (a copy of another kind of store) and
   * `target-foreign` (nothing that a copy may replace).
   */
  async look(): Promise<Found> {
    const { settings } = this.#options
    const { driver, profile } = settings
    const meta = await readMeta(this.#options.machine.storage, this.#sidecar.path)
    if (meta === undefined) return (await this.isAbsent()) ? 'own' : this.#recognised()
    if (meta.driver !== driver || meta.profile !== profile) {
      const label = (name: string, of?: string) => (of === undefined ? name : `${name}, profile ${of}`)
      throw new HotspareError(
        'target-other-source',
        `${this.path} is a copy made by the driver ${label(meta.driver, meta.profile)}; store '${settings.store}' has ${label(driver, profile)}. Give the store another path.`,
      )
    }
    return 'own'
  }

  /** A copy of ours is there, or was begun. */
  async isOurs(): Promise<boolean> {
    return (await readMeta(this.#options.machine.storage, this.#sidecar.path)) !== undefined
  }

  /** Nobody has anything at the path yet. */
  async isAbsent(): Promise<boolean> {
    const { storage } = this.#options.machine
    const stat = await storage.stat(this.path)
    if (stat === undefined) return true
    return stat.kind === 'directory' && (await storage.list(this.path)).length === 0
  }

  async #recognised(): Promise<Found> {
    if ((await this.driver.detect(this.path)) !== undefined) return 'other'
    throw new HotspareError(
      'target-foreign',
      `${this.path} exists, and is not a store that the driver '${this.driver.name}' knows. Move it away, or give store '${this.#options.settings.store}' another path.`,
    )
  }

  /** Durable before the first byte of a copy. `upstream`: of whose store it is one. */
  async claim(upstream: string): Promise<void> {
    const { set, settings, machine } = this.#options
    const { store, driver, profile, driverOptions } = settings
    const source = `${set}/${upstream}/${store}`
    const { pattern } = driverOptions
    const meta: Meta = {
      driver,
      source,
      sourceReal: source,
      store,
      ...(profile === undefined ? {} : { profile }),
      ...(typeof pattern === 'string' ? { pattern } : {}),
    }
    await writeMeta(machine.storage, this.#sidecar.path, meta)
  }

  /** The caller closes it; one at a time. */
  async openReplica(resync: boolean): Promise<Replica> {
    try {
      const { onNotice } = this.#options
      return await this.driver.openReplica({ ...this.copy, resync, noDelete: false, onNotice })
    } catch (error) {
      throw describeSystemError(error, `Opening the copy ${this.path}`)
    }
  }

  async tellStatus(status: FollowerStatus): Promise<void> {
    try {
      await writeStatusFile(this.#options.machine.storage, this.#sidecar.path, status)
    } catch {
      // safe: nothing but a display reads it, and a fault of this disk meets the copy as well, where it is told
    }
  }

  async close(): Promise<void> {
    await this.#sidecar.close()
  }
}
