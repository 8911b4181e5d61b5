/**
 * Gives a new copy, whole and verified in the sidecar, the name of the copy.
 *
 * Idempotent: the record says by its inode which file is the new copy, so that a crash before, between or after the
 * steps is finished by doing them again. Nobody may have the old copy open: its log would be taken for the new one's.
 */
import { existsSync, rmSync, statSync } from 'node:fs'
import { HotspareError, isSystemError } from '../../os/errors.ts'
import { parentDirectory } from '../../os/storage.ts'
import type { ReplicaOptions } from '../driver.ts'
import { identityOf } from './copy-pages.ts'
import { openDatabase } from './engine.ts'
import type { SidecarPaths } from './sidecar-paths.ts'

export interface Replacing {
  /** The inode of the new copy. */
  readonly sealed: string
  /** What has the name is a copy of ours. */
  readonly known: boolean
}

/** The new copy's identity; undefined when it is neither in the sidecar nor has it the name. */
export async function replaceCopy(
  options: ReplicaOptions,
  paths: SidecarPaths,
  replacing: Replacing,
): Promise<{ identity: string } | undefined> {
  const { path, storage } = options
  if (inodeAt(paths.stage.file) === replacing.sealed) {
    if (existsSync(path)) {
      if (!replacing.known && !options.resync) {
        throw new HotspareError(
          'target-foreign',
          `${path} came to be while its first copy was made. Move it away, or let --resync replace it.`,
        )
      }
      closeDown(path)
    }
    removeSideFiles(path)
    await renameInto(options, paths.stage.file, path)
    // of whoever opened the old copy in between: they don't belong to the new one
    removeSideFiles(path)
    await storage.syncDirectory(parentDirectory(path))
  } else if (inodeAt(path) !== replacing.sealed) {
    return undefined
  }
  if (existsSync(paths.stage.digests)) await storage.rename(paths.stage.digests, paths.digests)
  return { identity: identityOf(statSync(path, { bigint: true })) }
}

/** Lets the engine close the old copy's log, which it does unless another process has it open. */
function closeDown(path: string): void {
  if (!existsSync(`${path}-wal`) && !existsSync(`${path}-shm`)) return
  try {
    const connection = openDatabase(path, { busyMs: 1000 })
    try {
      connection.prepare('PRAGMA schema_version').get()
    } finally {
      connection.close()
    }
  } catch {
    // not a database that the engine knows: then nobody has it open as one, and it is replaced as it is
    return
  }
  if (!existsSync(`${path}-wal`)) return
  throw new HotspareError(
    'target-busy',
    `${path} must be replaced by a new copy, and another process has it open. Close it there.`,
  )
}

function removeSideFiles(path: string): void {
  for (const suffix of ['-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true })
}

async function renameInto(options: ReplicaOptions, from: string, to: string): Promise<void> {
  try {
    await options.storage.rename(from, to)
  } catch (error) {
    if (!isSystemError(error, 'EXDEV', 'EBUSY')) throw error
    throw new HotspareError(
      'target-mount',
      `The new copy can't take the name ${to}: it lies on another file system than ${from}, or is a mount point. Name a target within one file system.`,
      { cause: error },
    )
  }
}

function inodeAt(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}
