/** Reads a source directory as a `DirectoryView`. */

import { isSystemError } from '../../os/errors.ts'
import type { FileStat, Storage } from '../../os/storage.ts'
import { type EntryPath, nativePath } from '../../stream/entry.ts'
import { type DirectoryView, readSmallBytesMax } from './profile.ts'

/**
 * Lists `root` and looks at each name. `known` may answer for a name that need not be looked at again. A name that
 * goes away meanwhile is left out.
 */
export async function viewDirectory(
  storage: Storage,
  root: string,
  known: (name: string) => FileStat | undefined = () => undefined,
): Promise<DirectoryView> {
  const entries = new Map<string, FileStat>()
  const names = await storage.list(root)
  const statsAtOnce = 4
  for (let i = 0; i < names.length; i += statsAtOnce) {
    const some = names.slice(i, i + statsAtOnce)
    const stats = await Promise.all(
      some.map(name => known(name) ?? storage.stat(nativePath(root, name as EntryPath))),
    )
    for (const [j, stat] of stats.entries()) if (stat !== undefined) entries.set(some[j]!, stat)
  }
  return { entries, readSmall: name => readStart(storage, root, name) }
}

async function readStart(storage: Storage, root: string, name: string): Promise<Buffer | undefined> {
  let file: Awaited<ReturnType<Storage['open']>>
  try {
    file = await storage.open(nativePath(root, name as EntryPath), 'read')
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const { size } = await file.stat()
    const buffer = Buffer.alloc(Math.min(size, readSmallBytesMax))
    return buffer.subarray(0, await file.read(buffer, 0))
  } finally {
    await file.close()
  }
}
