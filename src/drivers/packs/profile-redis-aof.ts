/**
 * Redis 7 multi-part append-only file (`appendonlydir`). The manifest names a base file and the incremental files after
 * it; only the last incremental file grows. A rewrite brings a new base under a new name and a new manifest by rename,
 * and deletes the old files. So the copy gets the files first, the manifest last, and loses the old ones after that:
 * at any moment its manifest names files that are all there. What the manifest does not name, no server reads.
 */
import type { DirectoryView, Profile } from './profile.ts'
import { compareBytes, fileNames } from './profile.ts'
import { profileSummaries } from './profile-summaries.ts'
import { parseManifest } from './redis-manifest.ts'

const manifestSuffix = '.manifest'

function manifestName(view: DirectoryView): string | undefined {
  return fileNames(view).find(name => name.endsWith(manifestSuffix) && !name.startsWith('temp'))
}

export const redisAofProfile: Profile = {
  name: 'redis-aof',
  summary: profileSummaries['redis-aof'],
  vanished: 'drop',
  tailMayShrink: true,
  compare: compareBytes,
  async layout(view) {
    const name = manifestName(view)
    if (name === undefined) return { packs: [], wholes: [], trees: [], leftOut: [] }
    const content = await view.readSmall(name)
    if (content === undefined) return undefined
    const manifest = parseManifest(content)
    if ('invalid' in manifest) return undefined
    const needed = manifest.files.filter(file => file.type !== 'history')
    if (needed.some(file => view.entries.get(file.name)?.kind !== 'file')) return undefined
    const base = needed.filter(file => file.type === 'base')
    const incremental = needed.filter(file => file.type === 'incremental')
    return {
      packs: [...base, ...incremental].map(file => file.name),
      wholes: [{ name, content }],
      trees: [],
      leftOut: [],
    }
  },
  async detect(_path, view) {
    const name = manifestName(view)
    const content = name === undefined ? undefined : await view.readSmall(name)
    if (content === undefined) return undefined
    const manifest = parseManifest(content)
    if ('invalid' in manifest || manifest.files.length === 0) return undefined
    return {
      confidence: 0.95,
      profile: 'redis-aof',
      reason: `a Redis append-only directory (${name} names ${manifest.files.length} files)`,
    }
  },
}
