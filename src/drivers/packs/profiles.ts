/** All profiles, and the choice of one. */
import { HotspareError } from '../../os/errors.ts'
import type { Storage } from '../../os/storage.ts'
import type { Detection } from '../driver.ts'
import { viewDirectory } from './directory-view.ts'
import type { Profile } from './profile.ts'
import { genericProfile } from './profile-generic.ts'
import { prometheusWalProfile } from './profile-prometheus-wal.ts'
import { rdmProfile } from './profile-rdm.ts'
import { redisAofProfile } from './profile-redis-aof.ts'

export const profiles: readonly Profile[] = [
  rdmProfile,
  redisAofProfile,
  prometheusWalProfile,
  genericProfile(),
]

/** The surest profile for what lies at `path`, which is a directory. */
export async function detectProfile(storage: Storage, path: string): Promise<Detection | undefined> {
  const view = await viewDirectory(storage, path)
  let best: Detection | undefined
  for (const profile of profiles) {
    const found = await profile.detect(path, view)
    if (found !== undefined && found.confidence > (best?.confidence ?? 0)) best = found
  }
  return best
}

export function profileNamed(name: string, pattern?: string): Profile {
  if (pattern !== undefined && name !== 'generic')
    throw new HotspareError('usage', `--pattern goes with profile generic, not with ${name}.`)
  const profile = name === 'generic' ? genericProfile(pattern) : profiles.find(one => one.name === name)
  if (profile !== undefined) return profile
  const known = profiles.map(one => one.name).join(', ')
  throw new HotspareError('usage', `There is no profile '${name}' for packs. Profiles: ${known}.`)
}

/** As asked for, else as detected; a pattern alone asks for generic. */
export async function chooseProfile(
  storage: Storage,
  path: string,
  name: string | undefined,
  pattern: string | undefined,
): Promise<Profile> {
  const chosen = name ?? (pattern === undefined ? (await detectProfile(storage, path))?.profile : 'generic')
  if (chosen !== undefined) return profileNamed(chosen, pattern)
  // a database directory that is still empty can only be told by its name
  if (path.endsWith('.rdm')) return rdmProfile
  throw new HotspareError(
    'source-unknown',
    `Nothing in ${path} says what kind of packs it holds. Name it: --profile ${profiles.map(one => one.name).join('|')}.`,
    { details: { path } },
  )
}
