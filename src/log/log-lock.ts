/** The lock that keeps a log's directory for one process at a time; made with the directory, durably. */
import { HotspareError } from '../os/errors.ts'
import { type FileLock, parentDirectory, type Storage } from '../os/storage.ts'

/** The lock of a log that nobody has open; `log-busy`. */
export async function takeLog(storage: Storage, directory: string): Promise<FileLock> {
  await makeDurably(storage, directory)
  const lock = await storage.lock(`${directory}/lock`, 'exclusive')
  if (lock !== undefined) return lock
  throw new HotspareError('log-busy', `The log in '${directory}' is in use by another process.`, {
    details: { directory },
  })
}

/** Also when it is there already: whoever made it may have been stopped before its name was durable. */
async function makeDurably(storage: Storage, directory: string): Promise<void> {
  const parent = parentDirectory(directory)
  if ((await storage.stat(parent)) === undefined) await makeDurably(storage, parent)
  await storage.makeDirectory(directory)
  await storage.syncDirectory(parent)
}
