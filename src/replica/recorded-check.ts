/** Proves that a copy is what was recorded, block by block, whether its follower runs or not. */
import type { CopyOptions } from '../drivers/driver.ts'
import { isSystemError } from '../os/errors.ts'
import type { EntryPath } from '../stream/entry.ts'
import { findDifference } from './copy-examination.ts'
import type { CopyFile } from './copy-tree.ts'
import { readRecorded } from './recorded-reading.ts'
import type { RecordedCommit } from './state-record.ts'

export interface RecordedCheck {
  readonly commit: RecordedCommit
  readonly files: number
  readonly bytes: number
  /** What is not as recorded. */
  readonly faults: readonly { readonly path: EntryPath; readonly what: string }[]
}

/**
 * Reads all that is recorded. Nothing that is recorded is changed in place meanwhile; what the follower appends is left
 * out. Throws `target-missing` and `target-incomplete`.
 */
export async function checkRecorded(options: CopyOptions): Promise<RecordedCheck> {
  const reading = await readRecorded(options)
  try {
    await reading.releaseNames()
    const files = [...reading.state.tree.filesByPath()]
    const totalBytes = files.reduce((sum, { file }) => sum + file.size, 0)
    const faults: { path: EntryPath; what: string }[] = []
    let bytes = 0
    for (const { path, file } of files) {
      options.signal.throwIfAborted()
      const what = await checkFile(options, path, file)
      if (what !== undefined) faults.push({ path, what })
      bytes += file.size
      options.onProgress({ bytes, totalBytes })
    }
    return { commit: reading.consistent, files: files.length, bytes, faults }
  } finally {
    await reading.release()
  }
}

async function checkFile(
  { storage, path: root, sidecar, clock }: CopyOptions,
  path: EntryPath,
  file: CopyFile,
): Promise<string | undefined> {
  try {
    const block = await findDifference(storage, root, path, file, 0)
    if (block === undefined) return undefined
    // it may have been replaced since, by the follower
    if ((await isRecordedStill({ storage, path: root, sidecar, clock }, path, file)) === false)
      return undefined
    return `it differs from what was copied, in its bytes from ${block * file.blocks.blockBytes}`
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error
    if (!(await isRecordedStill({ storage, path: root, sidecar, clock }, path, file))) return undefined
    return 'it is gone'
  }
}

async function isRecordedStill(
  options: Parameters<typeof readRecorded>[0],
  path: EntryPath,
  file: CopyFile,
): Promise<boolean> {
  const now = await readRecorded(options)
  await now.release()
  return now.state.tree.findFile(path)?.id === file.id
}
