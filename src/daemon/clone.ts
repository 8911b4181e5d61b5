import type { CloneReport } from '../drivers/driver.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { isWithin } from '../os/real-path.ts'
import type { Storage } from '../os/storage.ts'
import { type CopyRequest, openCopy } from './copy.ts'
import { type CopyPlace, resolveDestination } from './locate.ts'
import { absolutePath } from './paths.ts'

export interface CloneRequest extends CopyRequest {
  /** Must not exist; for a one-file store also a directory that gets it under the copy's name. */
  readonly destination: string
}

export interface CloneResult extends CloneReport {
  readonly driver: string
  /** Absolute paths. */
  readonly target: string
  readonly destination: string
  readonly elapsedMs: number
}

/**
 * Makes a consistent copy of a copy, also while it is followed. Rejects with `target-missing`, `target-foreign` (the
 * destination exists), `target-incomplete` (nothing consistent to clone yet), or what the driver finds.
 */
export async function clone(request: CloneRequest): Promise<CloneResult> {
  try {
    const { place, machine, options } = await openCopy(request)
    const { storage, clock } = machine
    const startedMs = clock.nowMs()
    const destination = await freeDestination(storage, place, absolutePath(request.destination))
    const report = await place.driver.clone({ ...options, destination })
    const elapsedMs = clock.nowMs() - startedMs
    return { driver: place.driver.name, target: place.target, destination, ...report, elapsedMs }
  } catch (error) {
    throw describeSystemError(error, `Cloning ${request.target} to ${request.destination}`)
  }
}

async function freeDestination(storage: Storage, place: CopyPlace, wanted: string): Promise<string> {
  const ownName = place.target.slice(place.target.lastIndexOf('/') + 1)
  const destination = await resolveDestination(storage, wanted, ownName, place.driver)
  if ((await storage.stat(destination)) !== undefined) {
    throw new HotspareError('target-foreign', `${destination} exists already. Clone to a name that is free.`)
  }
  if (isWithin(destination, place.target) || isWithin(destination, place.sidecar)) {
    throw new HotspareError(
      'target-inside-source',
      `${destination} lies inside the copy ${place.target}. Choose a destination outside of it.`,
    )
  }
  return destination
}
