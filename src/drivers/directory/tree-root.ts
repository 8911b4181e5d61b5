/** The root of a live tree: an open directory, looked up by its name anew before each read. */
import fs from 'node:fs'
import { HotspareError, isSystemError } from '../../os/errors.ts'
import { fileSystemType } from '../../os/syscalls.ts'
import { closeFd, openRoot } from '../../os/tree-calls.ts'

/** How long a clock tick of a local file system is at most, with room to spare. */
const tickMs = 20
/** Of one whose clock may be another machine's, or whose times are coarse. */
const foreignTickMs = 2_500

/** File systems with times of a nanosecond's format by this machine's clock: statfs f_type of statfs(2). */
const localFileSystems: ReadonlySet<number> = new Set([
  0xef53, // ext
  0x58465342, // XFS
  0x9123683e, // btrfs
  0x01021994, // tmpfs
  0x2fc12fc1, // ZFS
  0xf2f52010, // F2FS
  0x794c7630, // overlay
  0xca451a4e, // bcachefs
])

export class TreeRoot {
  readonly path: string
  #fd = -1
  #identity = ''
  #racyMs = foreignTickMs

  constructor(path: string) {
    this.path = path
  }

  get fd(): number {
    return this.#fd
  }

  /** A change that is this young may be followed by another that leaves the same times. */
  get racyMs(): number {
    return this.#racyMs
  }

  /** Device and inode, as text. */
  get identity(): string {
    return this.#identity
  }

  /** Opens what has the name now; true when it is another directory than before. Throws `source-missing`. */
  open(): boolean {
    let stat: fs.BigIntStats
    try {
      stat = fs.statSync(this.path, { bigint: true })
    } catch (error) {
      if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error
      throw new HotspareError('source-missing', `There is no directory ${this.path}.`, { cause: error })
    }
    if (!stat.isDirectory())
      throw new HotspareError('source-missing', `${this.path} is no directory.`, {
        details: { path: this.path },
      })
    const identity = `${stat.dev}:${stat.ino}`
    if (this.#fd >= 0 && identity === this.#identity) return false
    const fd = openRoot(this.path)
    this.close()
    this.#fd = fd
    this.#identity = identity
    this.#racyMs = localFileSystems.has(fileSystemType(this.path) ?? 0) ? tickMs : foreignTickMs
    return true
  }

  /** True when there is nothing in it. */
  isEmpty(): boolean {
    const directory = fs.opendirSync(this.path)
    try {
      return directory.readSync() === null
    } finally {
      directory.closeSync()
    }
  }

  close(): void {
    if (this.#fd >= 0) closeFd(this.#fd)
    this.#fd = -1
  }
}
