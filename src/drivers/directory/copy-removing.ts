/** Takes names out of a copy: a file, or a directory with all that it holds. Nothing is followed. */
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { ENOENT } from '../../os/tree-calls.ts'
import type { CopyFiles } from './copy-files.ts'
import { joinPath } from './copy-paths.ts'

/** Removing what is not there is no error. `keep` is called for each plain file before its name goes. */
export function removeTree(
  files: CopyFiles,
  path: string,
  keep?: (path: string, stat: StatBuffer) => void,
): void {
  const stat = new StatBuffer()
  if (!files.exists(path, stat)) return
  if (stat.kind === fileKind.directory) {
    const names = files.list(path)
    for (const name of names) removeTree(files, joinPath(path, name), keep)
    files.forget(path)
    unlessMissing(
      files,
      'unlinkat',
      path,
      files.try(path, (at, name) => files.calls.tryRemoveDirectoryAt(at, name)),
    )
    return
  }
  if (stat.kind === fileKind.file) keep?.(path, stat)
  unlessMissing(
    files,
    'unlinkat',
    path,
    files.try(path, (at, name) => files.calls.tryUnlinkAt(at, name)),
  )
}

function unlessMissing(files: CopyFiles, call: string, path: string, result: number): void {
  if (result < 0 && result !== -(ENOENT as number)) files.fail(call, result, path)
}
