import type { CopyOptions, Machine, Notice } from '../drivers/driver.ts'
import { whileStopped } from '../replica/sidecar.ts'
import { type CopyPlace, locateCopy } from './locate.ts'
import { localMachine } from './machine.ts'
import { absolutePath } from './paths.ts'

/** What every act on a finished or followed copy takes. */
export interface CopyRequest {
  /** The copy; it may be followed meanwhile. */
  readonly target: string
  readonly signal?: AbortSignal
  readonly onProgress?: (done: { readonly bytes: number; readonly totalBytes: number }) => void
  readonly onNotice?: (notice: Notice) => void
  /** The files and the clock to work with; this machine's own unless told otherwise. */
  readonly machine?: Machine
}

export interface OpenCopy {
  readonly place: CopyPlace
  readonly machine: Machine
  readonly options: CopyOptions
}

/** Finds a copy and, unless a follower keeps it, makes good what a crash of the last follower left. */
export async function openCopy(request: CopyRequest): Promise<OpenCopy> {
  const machine = request.machine ?? localMachine
  const place = await locateCopy(machine.storage, absolutePath(request.target))
  const { profile } = place.meta
  const options: CopyOptions = {
    ...machine,
    store: place.meta.store,
    path: place.target,
    sidecar: place.sidecar,
    ...(profile === undefined ? {} : { profile }),
    signal: request.signal ?? new AbortController().signal,
    onProgress: request.onProgress ?? (() => {}),
    onNotice: request.onNotice ?? (() => {}),
  }
  await whileStopped(machine.storage, place.target, () => place.driver.recover(options))
  return { place, machine, options }
}
