/** Numbered files in the sidecar: content that has no name in the copy yet. */
import type { StatBuffer } from '../../os/stat-buffer.ts'
import { cName, EACCES, EEXIST, ENOENT, openFlag, systemError } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'
import { listNames } from './copy-names.ts'

export class CopyStage {
  readonly directory: number
  readonly #calls: CopyCalls
  #last: number

  /** Numbers above `last` are free. The descriptor belongs to this from now on. */
  constructor(calls: CopyCalls, directory: number, last: number) {
    this.#calls = calls
    this.directory = directory
    this.#last = last
  }

  get nextNumber(): number {
    return ++this.#last
  }

  open(stage: number, flags: number): number {
    const name = stageName(stage)
    const fd = this.#calls.tryOpenAt(this.directory, name, flags)
    if (fd >= 0) return fd
    const isForWriting = (flags & (openFlag.write | openFlag.readWrite)) !== 0
    if (fd !== -(EACCES as number) || !isForWriting) throw systemError('openat', -fd, `stage/${stage}`)
    // it has its metadata already; whoever writes to it sets them again
    this.#calls.tryChangeModeAt(this.directory, name, 0o600)
    return this.#calls.openAt(this.directory, name, flags)
  }

  /** Makes the file; what a crash left under its number is removed. */
  create(stage: number, mode: number): number {
    const name = stageName(stage)
    const flags = openFlag.readWrite | openFlag.create | openFlag.exclusive
    const fd = this.#calls.tryOpenAt(this.directory, name, flags, mode)
    if (fd >= 0) return fd
    if (fd !== -(EEXIST as number)) throw systemError('openat', -fd, `stage/${stage}`)
    this.remove(stage)
    return this.#calls.openAt(this.directory, name, flags, mode)
  }

  /** Removing what is not there is no error. */
  remove(stage: number): void {
    const result = this.#calls.tryUnlinkAt(this.directory, stageName(stage))
    if (result < 0 && result !== -(ENOENT as number)) throw systemError('unlinkat', -result, `stage/${stage}`)
  }

  /** False when there is no such file. */
  stat(stage: number, into: StatBuffer): boolean {
    const result = this.#calls.tryStatAt(this.directory, stageName(stage), into)
    if (result === 0) return true
    if (result === -(ENOENT as number)) return false
    throw systemError('statx', -result, `stage/${stage}`)
  }

  /** Removes all files but these. */
  removeAllBut(wanted: ReadonlySet<number>): void {
    for (const name of listNames(this.#calls, this.directory))
      if (!wanted.has(Number(name))) this.#unlink(name)
  }

  #unlink(name: string): void {
    const result = this.#calls.tryUnlinkAt(this.directory, cName(name))
    if (result < 0 && result !== -(ENOENT as number)) throw systemError('unlinkat', -result, name)
  }

  close(): void {
    this.#calls.closeFd(this.directory)
  }
}

export function stageName(stage: number): Buffer {
  return cName(String(stage))
}
