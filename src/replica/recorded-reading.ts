/**
 * Reads a copy from beside its follower: notes what is recorded of it, under a lock under which no name changes, and
 * keeps the bytes that are recorded from being changed until `release`.
 */
import { HotspareError } from '../os/errors.ts'
import type { FileLock, Storage } from '../os/storage.ts'
import { type EntryPath, nativePath } from '../stream/entry.ts'
import { CopyLocks } from './copy-locks.ts'
import { copyPaths } from './copy-paths.ts'
import type { NameOp } from './copy-tree.ts'
import { type CopyState, readState } from './state-log.ts'
import type { RecordedCommit } from './state-record.ts'

export interface ReadingOptions {
  readonly storage: Storage
  readonly clock: ConstructorParameters<typeof CopyLocks>[0]['clock']
  readonly path: string
  readonly sidecar: string
}

export interface RecordedReading {
  readonly state: CopyState
  readonly consistent: RecordedCommit
  /** Names may change from here on: what is needed is open. Idempotent. */
  releaseNames(): Promise<void>
  release(): Promise<void>
}

/** Throws `target-missing` and `target-incomplete`. */
export async function readRecorded(options: ReadingOptions): Promise<RecordedReading> {
  const { storage, path, sidecar } = options
  if ((await storage.stat(sidecar)) === undefined) throw missing(path)
  const locks = new CopyLocks(options, sidecar)
  const held: FileLock[] = []
  const release = async () => {
    for (let lock = held.pop(); lock !== undefined; lock = held.pop()) await lock.release()
  }
  try {
    held.push(await locks.content('shared'), await locks.names('shared'))
    const state = await readState(storage, copyPaths(sidecar).state)
    if (state === undefined) throw missing(path)
    const { consistent } = state
    const inPlace = (await storage.stat(copyPaths(sidecar).first)) === undefined
    if (consistent === undefined || !inPlace)
      throw incomplete(path, 'the first copy, or a resync, has not come to its end')
    if ((await storage.stat(path)) === undefined) throw missing(path)
    // a follower that is alive has done by now what it announced, because we hold the lock
    const isTorn = state.applying !== undefined || !(await areDone(options, state.intents))
    if (isTorn) throw incomplete(path, 'its follower was stopped in the middle of a change')
    let namesReleased = false
    return {
      state,
      consistent,
      async releaseNames() {
        if (namesReleased) return
        namesReleased = true
        await held.pop()?.release()
      },
      release,
    }
  } catch (error) {
    await release()
    throw error
  }
}

async function areDone({ storage, path, sidecar }: ReadingOptions, ops: readonly NameOp[]): Promise<boolean> {
  const stat = (at: EntryPath) => storage.stat(nativePath(path, at))
  for (const op of ops) {
    const present = await stat(op.path)
    switch (op.kind) {
      case 'file':
      case 'directory':
        if (present?.kind !== op.kind) return false
        break
      case 'remove':
        if (present !== undefined) return false
        break
      case 'rename':
        if (present !== undefined || (await stat(op.to)) === undefined) return false
        break
      case 'take':
        if ((await storage.stat(`${copyPaths(sidecar).stages}/${op.stage}`)) !== undefined) return false
        break
      case 'link':
        if (present === undefined || present.inode !== (await stat(op.to))?.inode) return false
        break
      case 'symlink':
        if (present?.kind !== 'symlink') return false
        if ((await storage.readlink(nativePath(path, op.path))).toString('latin1') !== op.target) return false
        break
      case 'other':
        break
    }
  }
  return true
}

function missing(path: string): HotspareError {
  return new HotspareError(
    'target-missing',
    `There is no copy at '${path}'. Make one with 'hotspare follow'.`,
    {
      details: { path },
    },
  )
}

function incomplete(path: string, why: string): HotspareError {
  return new HotspareError(
    'target-incomplete',
    `The copy '${path}' is not consistent yet: ${why}. Run 'hotspare follow' until it says that it is live.`,
    { details: { path } },
  )
}
