/**
 * The directory beside a copy that holds everything which is ours, so that the copy holds only what is the store's.
 *
 *     <copy>.hotspare/lock          flock, exclusive while a follower runs
 *     <copy>.hotspare/meta.json     of what it is a copy
 *     <copy>.hotspare/status.json   what the follower last said of itself
 *     <copy>.hotspare/scratch/      what the source keeps for itself; may be lost at any time, and what is found there
 *                                   is the driver's to judge
 *     <copy>.hotspare/...           the replica's state
 *
 * Invariant: whoever writes the copy or its state holds the lock. The kernel gives it back when a process ends in
 * whatever way, so a crash leaves nothing to clear.
 */
import type { Clock } from '../os/clock.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { type FileLock, parentDirectory, type Storage } from '../os/storage.ts'

/** Someone who only asks whether a follower runs holds the lock for microseconds: not a reason to give up. */
const lockAttemptsMax = 10
const lockRetryMs = 20

export function sidecarPath(target: string): string {
  return `${target}.hotspare`
}

export interface Sidecar {
  readonly path: string
  /** With what the driver left there. */
  readonly scratch: string
  close(): Promise<void>
}

/** Makes the sidecar when missing, and takes it. Throws `target-busy` when another follower has it. */
export async function openSidecar(storage: Storage, clock: Clock, target: string): Promise<Sidecar> {
  const path = sidecarPath(target)
  try {
    await storage.makeDirectory(path, 0o700)
    await storage.syncDirectory(parentDirectory(path))
    const lock = await takeLock(storage, clock, target)
    try {
      const scratch = `${path}/scratch`
      await storage.makeDirectory(scratch, 0o700)
      return { path, scratch, close: () => lock.release() }
    } catch (error) {
      await lock.release()
      throw error
    }
  } catch (error) {
    throw describeSystemError(error, `Making ${path}, where the state of the copy is kept`)
  }
}

async function takeLock(storage: Storage, clock: Clock, target: string): Promise<FileLock> {
  for (let attempt = 1; ; attempt++) {
    const lock = await storage.lock(lockPath(target), 'exclusive')
    if (lock !== undefined) return lock
    if (attempt === lockAttemptsMax) {
      throw new HotspareError(
        'target-busy',
        `Another follower keeps ${target} up to date. 'hotspare status' shows it; stop it first, or choose another target.`,
      )
    }
    await clock.sleep(lockRetryMs)
  }
}

/** True while a follower runs. Does not disturb one that starts meanwhile: see `lockAttemptsMax`. */
export async function isFollowed(storage: Storage, target: string): Promise<boolean> {
  const path = lockPath(target)
  if ((await storage.stat(path)) === undefined) return false
  const lock = await storage.lock(path, 'shared')
  await lock?.release()
  return lock === undefined
}

/** Runs `work` with the lock when no follower has it; gives false, without running it, when one has. */
export async function whileStopped(
  storage: Storage,
  target: string,
  work: () => Promise<void>,
): Promise<boolean> {
  const lock = await storage.lock(lockPath(target), 'exclusive')
  if (lock === undefined) return false
  try {
    await work()
    return true
  } finally {
    await lock.release()
  }
}

function lockPath(target: string): string {
  return `${sidecarPath(target)}/lock`
}
