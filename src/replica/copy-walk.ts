/** What is really on disk at a copy, each directory before what it holds. */
import type { FileStat, Storage } from '../os/storage.ts'
import { type EntryPath, nativePath } from '../stream/entry.ts'

const statsAtOnceMax = 64

export interface Found {
  readonly path: EntryPath
  readonly stat: FileStat
}

export async function* walkCopy(storage: Storage, root: string): AsyncGenerator<Found> {
  const stat = await storage.stat(root)
  if (stat === undefined) return
  yield { path: '' as EntryPath, stat }
  if (stat.kind === 'directory') yield* walkDirectory(storage, root, '')
}

async function* walkDirectory(storage: Storage, root: string, directory: string): AsyncGenerator<Found> {
  const names = await storage.list(nativePath(root, directory as EntryPath))
  const prefix = directory === '' ? '' : `${directory}/`
  for (let at = 0; at < names.length; at += statsAtOnceMax) {
    const found = await Promise.all(
      names.slice(at, at + statsAtOnceMax).map(async name => {
        const path = (prefix + name) as EntryPath
        return { path, stat: await storage.stat(nativePath(root, path)) }
      }),
    )
    for (const { path, stat } of found) {
      // removed since the directory was listed
      if (stat === undefined) continue
      yield { path, stat }
      if (stat.kind === 'directory') yield* walkDirectory(storage, root, path)
    }
  }
}
