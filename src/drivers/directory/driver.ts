/**
 * The driver for directories of any files: wiring of the source to the copy of trees. What an act needs is loaded with it,
 * so that a command starts with little.
 */
import { opendirSync } from 'node:fs'
import { nodeStorage } from '../../os/node-storage.ts'
import type { Driver } from '../driver.ts'
import { takeLookAhead } from './look-ahead.ts'

export const directoryDriver: Driver = {
  name: 'directory',
  summary:
    'directories of any files, with all metadata; consistent where the application is held (hotspare mirror)',
  profiles: [],
  capabilities: { singleFile: false, appendsOnly: false, holdsWriters: false, stateDigest: false },
  tools: [],
  async detect(path) {
    const stat = await nodeStorage.stat(path)
    if (stat?.kind !== 'directory' || isEmpty(path)) return undefined
    // whoever recognises what is in it knows more
    return { confidence: 0.1, reason: 'a directory' }
  },
  async openSource(options) {
    const ahead = await takeLookAhead(options.path, options.clock.nowMs())
    const { ScanPool } = await import('./scan-pool.ts')
    // its threads come up while all else is loaded
    const pool = ahead?.pool ?? new ScanPool(options.path)
    const { openDirectorySource } = await import('./source.ts')
    return openDirectorySource(options, pool, ahead)
  },
  async openReplica(options) {
    const { restingReplica } = await import('./copy-resting.ts')
    const resting = await restingReplica(options)
    if (resting !== undefined) return resting
    const { openDirectoryReplica } = await import('./copy-replica.ts')
    return openDirectoryReplica(options)
  },
  async recover(options) {
    const { recoverDirectoryCopy } = await import('./copy-reading.ts')
    return recoverDirectoryCopy(options)
  },
  async check(options) {
    const { checkDirectoryCopy } = await import('./copy-reading.ts')
    return checkDirectoryCopy(options)
  },
  async clone(options) {
    const { cloneDirectoryCopy } = await import('./copy-reading.ts')
    return cloneDirectoryCopy(options)
  },
  async snapshot(options) {
    const { snapshotDirectoryCopy } = await import('./copy-snapshot.ts')
    return snapshotDirectoryCopy(options)
  },
  async backlog() {
    // only a look at the whole tree would tell
    return undefined
  },
}

/** It may become anything yet: a store that its application has not made. */
function isEmpty(path: string): boolean {
  const directory = opendirSync(path)
  try {
    return directory.readSync() === null
  } finally {
    directory.closeSync()
  }
}
