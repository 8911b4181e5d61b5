/** A copy held still, and the commits of which its content may be: the two that were recorded at that moment. */
import { HotspareError } from '../../os/errors.ts'
import type { CopyOptions } from '../driver.ts'
import { type CopyContent, readState } from './copy-state.ts'
import { type Companion, DatabaseSnapshot } from './database-snapshot.ts'
import { PageDigests } from './page-digests.ts'
import { sidecarPaths } from './sidecar-paths.ts'
import { describeEngineError } from './wal-writer.ts'

export interface CopySnapshot {
  readonly snapshot: DatabaseSnapshot
  readonly contents: readonly CopyContent[]
}

/** The caller closes the snapshot. */
export async function openCopySnapshot(options: CopyOptions, companion?: Companion): Promise<CopySnapshot> {
  const { path, storage, clock } = options
  let contents = recordedContents(options)
  if ((await storage.stat(path)) === undefined) {
    throw new HotspareError('target-missing', `There is no copy at ${path}.`)
  }
  try {
    const snapshot = await DatabaseSnapshot.open(path, clock, {
      ...(companion === undefined ? {} : { companion }),
      // a record names what shows, and what is to show next
      whenHeld: () => {
        contents = recordedContents(options)
      },
    })
    return { snapshot, contents }
  } catch (error) {
    throw describeEngineError(error, path)
  }
}

/** A digest table of its own, in the sidecar, that is removed afterwards. */
export async function withScratchDigests<T>(
  options: CopyOptions,
  name: string,
  work: (digests: PageDigests) => Promise<T>,
): Promise<T> {
  const path = `${options.sidecar}/${name}-pages-${process.pid}-${Math.floor(options.clock.nowMs() * 1000)}`
  const digests = new PageDigests(path)
  try {
    digests.clear()
    return await work(digests)
  } finally {
    digests.close()
    await options.storage.remove(path)
  }
}

function recordedContents(options: CopyOptions): CopyContent[] {
  const record = readState(sidecarPaths(options.sidecar).state)
  if (record?.copy != null) return [record.copy.next, record.copy.previous]
  if (record?.stage != null) {
    throw new HotspareError(
      'target-incomplete',
      `The first copy of ${options.path} is not whole yet: ${record.stage.pages} pages so far. Follow it until it is live.`,
    )
  }
  throw new HotspareError(
    'target-foreign',
    `hotspare has no record of ${options.path}: it is no copy of ours.`,
  )
}
