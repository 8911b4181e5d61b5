/**
 * The files of a copy by their paths within it. Every path is walked from the copy's root through directories alone, so
 * that no symbolic link, put there by an entry or by somebody else, leads anywhere outside.
 *
 * Whoever is not root cannot change what is in a directory without the owner's permissions: they are given to it
 * (`loosened`), and whoever applies changes sets its mode again at the end.
 */
import { isSystemError } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { cName, EACCES, ENOENT, ENOTDIR, nameBuffer, openFlag, systemError } from '../../os/tree-calls.ts'
import { displayPath } from '../../stream/entry.ts'
import type { CopyCalls } from './copy-calls.ts'
import { listNames } from './copy-names.ts'
import { isAtOrBelow, nameOf, parentOf } from './copy-paths.ts'

const openDirectoriesMax = 128

export class CopyFiles {
  readonly calls: CopyCalls
  readonly root: number
  /** Directories whose mode is not what it was. */
  readonly loosened = new Set<string>()
  readonly #directories = new Map<string, number>()
  #lastPath: string | undefined
  #lastFd = -1
  readonly #stat = new StatBuffer()
  readonly #name = nameBuffer()
  /** We are not root, and may change modes to get on. */
  readonly loosens: boolean

  /** The descriptor of the root belongs to this from now on. */
  constructor(calls: CopyCalls, root: number, loosens = process.geteuid?.() !== 0) {
    this.calls = calls
    this.root = root
    this.loosens = loosens
  }

  /** A descriptor that is this object's own, for calls relative to it. */
  directory(path: string): number {
    const fd = this.tryDirectory(path)
    return fd < 0 ? this.fail('openat', fd, path) : fd
  }

  tryDirectory(path: string): number {
    if (path === '') return this.root
    if (path === this.#lastPath) return this.#lastFd
    let fd = this.#directories.get(path)
    if (fd === undefined) {
      const flags = openFlag.read | openFlag.directory
      fd = this.calls.tryOpenBeneath(this.root, path, flags)
      if (fd === -(EACCES as number) && this.#loosen(path))
        fd = this.calls.tryOpenBeneath(this.root, path, flags)
      if (fd < 0) return fd
      if (this.#directories.size >= openDirectoriesMax) {
        for (const [oldest, descriptor] of this.#directories) {
          this.calls.closeFd(descriptor)
          this.#directories.delete(oldest)
          break
        }
      }
      this.#directories.set(path, fd)
    }
    this.#lastPath = path
    this.#lastFd = fd
    return fd
  }

  /** A directory has lost its name. */
  forget(path: string): void {
    this.#lastPath = undefined
    for (const [open, fd] of this.#directories) {
      if (!isAtOrBelow(open, path)) continue
      this.calls.closeFd(fd)
      this.#directories.delete(open)
    }
  }

  close(): void {
    this.forget('')
    this.calls.closeFd(this.root)
  }

  // ---- 0 or a descriptor, or the negative number of the error

  /** Of the name itself. */
  stat(path: string, into: StatBuffer): number {
    if (path === '') {
      this.calls.statFd(this.root, into)
      return 0
    }
    const directory = this.tryDirectory(parentOf(path))
    return directory < 0 ? directory : this.calls.tryStatAt(directory, cName(nameOf(path)), into)
  }

  /** False when there is nothing of that name. */
  exists(path: string, into: StatBuffer): boolean {
    let result = this.stat(path, into)
    if (result === -(EACCES as number) && this.#loosen(parentOf(path))) result = this.stat(path, into)
    if (result === 0) return true
    if (result === -(ENOENT as number) || result === -(ENOTDIR as number)) return false
    return this.fail('statx', result, path)
  }

  tryOpen(path: string, flags: number, mode = 0): number {
    return this.#inParent(path, (directory, name) => this.calls.tryOpenAt(directory, name, flags, mode))
  }

  open(path: string, flags: number, mode = 0): number {
    const fd = this.tryOpen(path, flags, mode)
    return fd < 0 ? this.fail('openat', fd, path) : fd
  }

  /** The names in a directory. */
  list(path: string): string[] {
    try {
      return listNames(this.calls, this.directory(path))
    } catch (error) {
      if (!isSystemError(error, 'EACCES') || !this.#loosen(path)) throw error
      return listNames(this.calls, this.directory(path))
    }
  }

  /** To change its bytes, whatever its mode says. */
  openForWriting(path: string): number {
    const fd = this.tryOpen(path, openFlag.readWrite)
    if (fd >= 0) return fd
    if (fd !== -(EACCES as number) || !this.loosens) return this.fail('openat', fd, path)
    if (!this.exists(path, this.#stat)) return this.fail('openat', fd, path)
    const mode = this.#stat.mode | 0o600
    this.must('fchmodat', path, (directory, name) => this.calls.tryChangeModeAt(directory, name, mode))
    return this.open(path, openFlag.readWrite)
  }

  try(path: string, act: (directory: number, name: Buffer) => number): number {
    return this.#inParent(path, act)
  }

  /** As `try`, and throws what fails. */
  must(call: string, path: string, act: (directory: number, name: Buffer) => number): void {
    const result = this.#inParent(path, act)
    if (result < 0) this.fail(call, result, path)
  }

  fail(call: string, result: number, path: string): never {
    throw systemError(call, -result, displayPath(path))
  }

  #inParent(path: string, act: (directory: number, name: Buffer) => number): number {
    const parent = parentOf(path)
    const directory = this.tryDirectory(parent)
    if (directory < 0) return directory
    const name = this.#inNameBuffer(nameOf(path))
    const result = act(directory, name)
    if (result !== -(EACCES as number) || !this.#loosen(parent)) return result
    return act(directory, name)
  }

  /** As `cName`, in memory that the next one takes: for calls that are made at once. */
  #inNameBuffer(name: string): Buffer {
    if (name.length >= this.#name.length) return cName(name)
    this.#name[this.#name.write(name, 'latin1')] = 0
    return this.#name
  }

  /** Gives the owner all permissions on a directory and on those above it; false when that changed nothing. */
  #loosen(path: string): boolean {
    if (!this.loosens) return false
    let loosened = false
    const parts = path === '' ? [] : path.split('/')
    for (let depth = 0; depth <= parts.length; depth++) {
      const at = parts.slice(0, depth).join('/')
      if (this.stat(at, this.#stat) !== 0) return loosened
      const { mode } = this.#stat
      if ((mode & 0o700) === 0o700) continue
      const result =
        at === ''
          ? this.calls.tryChangeMode(this.root, mode | 0o700)
          : this.calls.tryChangeModeAt(this.tryDirectory(parentOf(at)), cName(nameOf(at)), mode | 0o700)
      if (result < 0) return loosened
      this.loosened.add(at)
      loosened = true
    }
    return loosened
  }
}
