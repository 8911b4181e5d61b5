/**
 * The driver for directories of append-only files: wiring of the source to the replica of files, and to the checks.
 * What an act needs is loaded with it, so that a command starts with little.
 */

import { HotspareError } from '../../os/errors.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import type { CopyOptions, Driver, Replica, ReplicaOptions, SourceOptions } from '../driver.ts'
import type { PacksSource } from './packs-source.ts'
import { profileSummaries } from './profile-summaries.ts'

async function openSource(options: SourceOptions): Promise<PacksSource> {
  const { storage, clock, store, path, profile, driverOptions } = options
  const { pattern } = driverOptions
  if (pattern !== undefined && typeof pattern !== 'string')
    throw new HotspareError('usage', `--pattern is a text; found ${typeof pattern}.`)
  const { PacksSource } = await import('./packs-source.ts')
  const { chooseProfile } = await import('./profiles.ts')
  return PacksSource.open({
    storage,
    clock,
    store,
    root: path,
    profile: await chooseProfile(storage, path, profile, pattern),
    onNotice: notice => options.onNotice(notice),
  })
}

async function openReplica(options: ReplicaOptions): Promise<Replica> {
  const { openFileReplica } = await import('../../replica/file-replica.ts')
  return openFileReplica(options, { applies: 'in-order' })
}

/** Applies or drops what a crash left half done; the engine itself drops an incomplete record at the end. */
async function recover(options: CopyOptions): Promise<void> {
  const replica = await openReplica({ ...options, resync: false, noDelete: false })
  await replica.close()
}

export const packsDriver: Driver = {
  name: 'packs',
  summary: 'directories of append-only files: RDM packs, Redis append-only files, Prometheus logs, others',
  profiles: Object.entries(profileSummaries).map(([name, summary]) => ({ name, summary })),
  capabilities: { singleFile: false, appendsOnly: true, holdsWriters: false, stateDigest: false },
  tools: [
    { name: 'redis-check-aof', purpose: 'check of a redis-aof copy' },
    { name: 'redis-server', purpose: 'check of a redis-aof copy: it has to load a clone' },
  ],
  async detect(path) {
    const stat = await nodeStorage.stat(path)
    if (stat?.kind !== 'directory') return undefined
    const { detectProfile } = await import('./profiles.ts')
    return detectProfile(nodeStorage, path)
  },
  openSource,
  openReplica,
  recover,
  async check(options) {
    const { checkPacks } = await import('./check.ts')
    return checkPacks(options)
  },
  async clone(options) {
    const { cloneFileCopy } = await import('../../replica/clone.ts')
    return cloneFileCopy(options)
  },
  async snapshot(options) {
    const { snapshotRecorded } = await import('../../replica/recorded-snapshot.ts')
    return snapshotRecorded(options)
  },
  async backlog(source, position) {
    const { decodePosition } = await import('./position.ts')
    const { packBacklog } = await import('./pack-backlog.ts')
    const { profileNamed } = await import('./profiles.ts')
    const { profile, pattern, newest } = decodePosition(position)
    return packBacklog(nodeStorage, source, profileNamed(profile, pattern), newest)
  },
}
