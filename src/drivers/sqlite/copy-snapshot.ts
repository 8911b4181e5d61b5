/** A copy held still, and the commits of which its content may be: the two that were recorded at that moment. */
import { HotspareError } from '../../os/errors.ts'
import type { CopyOptions } from '../driver.ts'
import { type Commitment, type CopyContent, commitmentOf, readState } from './copy-state.ts'
import { type Companion, DatabaseSnapshot } from './database-snapshot.ts'
import { PageDigests } from './page-digests.ts'
import { sidecarPaths } from './sidecar-paths.ts'
import { describeEngineError } from './wal-writer.ts'

export interface CopySnapshot {
  readonly snapshot: DatabaseSnapshot
  /** The newest first: it shows, unless it is just being written. */
  readonly contents: readonly [next: CopyContent, previous: CopyContent]
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

export interface ScratchDigests {
  readonly digests: PageDigests
  /** Removes it. */
  close(): Promise<void>
}

/** An empty digest table of its own, in the sidecar. */
export function openScratchDigests(options: CopyOptions, name: string): ScratchDigests {
  const path = `${options.sidecar}/${name}-pages-${process.pid}-${Math.floor(options.clock.nowMs() * 1000)}`
  const digests = new PageDigests(path)
  digests.clear()
  return {
    digests,
    async close() {
      digests.close()
      await options.storage.remove(path)
    },
  }
}

export async function withScratchDigests<T>(
  options: CopyOptions,
  name: string,
  work: (digests: PageDigests) => Promise<T>,
): Promise<T> {
  const scratch = openScratchDigests(options, name)
  try {
    return await work(scratch.digests)
  } finally {
    await scratch.close()
  }
}

/** The content is none that was recorded. */
export function contentChanged(path: string, found: string, recorded: string | undefined): HotspareError {
  return new HotspareError(
    'target-changed',
    `${path} does not hold what was recorded: its digest is ${found}, recorded is ${recorded}. It was changed by somebody else, or is damaged: compare it with its source by --resync.`,
  )
}

/** A commit of the source; `target-incomplete` where the content is that of none. */
export function sourceCommit(path: string, content: CopyContent): Commitment {
  const commit = commitmentOf(content)
  if (commit !== undefined) return commit
  throw new HotspareError(
    'target-incomplete',
    `${path} was taken over as it was found, and has not got a commit of its source yet.`,
  )
}

function recordedContents(options: CopyOptions): CopySnapshot['contents'] {
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
