/**
 * Files that were replaced or removed while somebody reads the copy (a clone, a check, an archive): they stay in the
 * sidecar under their inode's number until no one reads any more, so that a reader finds all that it began with, and
 * applying changes never waits for it.
 */
import type { StatBuffer } from '../../os/stat-buffer.ts'
import { cName, EEXIST, EOPNOTSUPP, EPERM, openFlag, systemError } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'
import type { CopyFiles } from './copy-files.ts'

export function keptName(inodeLow: number, inodeHigh: number): Buffer {
  return cName(`${inodeHigh}-${inodeLow}`)
}

const EMLINK = 31
const temporaryName = cName('new')

export class KeptFiles {
  readonly #directory: number

  constructor(directory: number) {
    this.#directory = directory
  }

  /** Before a file's name goes to something else. */
  keep(files: CopyFiles, path: string, stat: StatBuffer): void {
    const { calls } = files
    const kept = keptName(stat.inodeLow, stat.inodeHigh)
    const result = files.try(path, (at, name) => calls.tryLinkAt(at, name, this.#directory, kept))
    if (result === 0) return
    if (result === -(EEXIST as number)) {
      // it may be a copy of the bytes from before a change in place; a name that is this file's already stays as it is
      calls.tryUnlinkAt(this.#directory, temporaryName)
      files.must('linkat', path, (at, name) => calls.tryLinkAt(at, name, this.#directory, temporaryName))
      files.must('renameat2', path, () =>
        calls.tryRenameAt(this.#directory, temporaryName, this.#directory, kept),
      )
      calls.tryUnlinkAt(this.#directory, temporaryName)
      return
    }
    const unlinkable = [EPERM as number, EOPNOTSUPP as number, EMLINK].some(number => result === -number)
    if (!unlinkable) files.fail('linkat', result, path)
    files.must('renameat2', path, (at, name) => calls.tryRenameAt(at, name, this.#directory, kept))
  }

  /** Keeps a copy of the bytes, which `fill` writes, of a file that stays and changes. */
  keepBytes(calls: CopyCalls, inodeLow: number, inodeHigh: number, fill: (fd: number) => void): void {
    const flags = openFlag.readWrite | openFlag.create | openFlag.truncate
    const fd = calls.openAt(this.#directory, temporaryName, flags, 0o600)
    try {
      fill(fd)
    } finally {
      calls.closeFd(fd)
    }
    const kept = keptName(inodeLow, inodeHigh)
    const result = calls.tryRenameAt(this.#directory, temporaryName, this.#directory, kept)
    if (result < 0) throw systemError('renameat2', -result, 'kept/new')
  }
}
