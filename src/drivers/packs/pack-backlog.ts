/** How far a position is behind its source, by names and sizes alone. */
import type { Storage } from '../../os/storage.ts'
import { entryPath, nativePath } from '../../stream/entry.ts'
import type { Backlog } from '../../stream/source.ts'
import { viewDirectory } from './directory-view.ts'
import type { PacksPosition } from './position.ts'
import type { Profile } from './profile.ts'
import { isZero } from './zero-tail.ts'

const tailReadBytes = 4096

/** Undefined when the source is not there, or in the middle of a change. */
export async function packBacklog(
  storage: Storage,
  root: string,
  profile: Profile,
  newest: PacksPosition['newest'],
): Promise<Backlog | undefined> {
  if ((await storage.stat(root))?.kind !== 'directory') return undefined
  const view = await viewDirectory(storage, root)
  const layout = await profile.layout(view)
  if (layout === undefined) return undefined
  const at = newest === undefined ? -1 : layout.packs.indexOf(newest.path)
  let bytes = 0
  for (const [index, name] of layout.packs.entries()) {
    const size = view.entries.get(name)!.size
    const isOld = at >= 0 ? index < at : newest !== undefined && profile.compare(name, newest.path) < 0
    if (isOld) continue
    const done = index === at ? newest!.offset : 0
    const isLast = index === layout.packs.length - 1
    if (size > done && !(isLast && (await endsInZeros(storage, root, name, size, done)))) bytes += size - done
  }
  return { bytes }
}

/** Space that was allocated in advance is not behind. */
async function endsInZeros(
  storage: Storage,
  root: string,
  name: string,
  size: number,
  from: number,
): Promise<boolean> {
  if (size - from < tailReadBytes) return false
  const file = await storage.open(nativePath(root, entryPath(name)), 'read')
  try {
    const tail = Buffer.alloc(tailReadBytes)
    await file.read(tail, size - tailReadBytes)
    return isZero(tail)
  } finally {
    await file.close()
  }
}
