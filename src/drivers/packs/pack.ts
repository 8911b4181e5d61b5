/** One append-only file of the source, as followed in this run. Its descriptor outlives its name. */
import { describeSystemError, HotspareError, isSystemError } from '../../os/errors.ts'
import type { FileStat, Storage, StorageFile } from '../../os/storage.ts'
import { displayPath, type EntryPath, nativePath } from '../../stream/entry.ts'

export class Pack {
  readonly path: EntryPath
  readonly inode: bigint
  /** The last look at it. */
  stat: FileStat
  /** Bytes given in entries, all of them from the start. */
  sent = 0
  /** The copy has the file, be it empty. */
  created = false
  /** A successor exists and all of it was sent: it never grows again. */
  finished = false
  /** The name is gone, or names another file. */
  vanished = false
  /** Its removal was sent. The descriptor stays until that is committed. */
  removed = false
  /** Sent in more than one read: what was sent first may have changed before the last was. */
  followed = false
  /** The copy has more than the engine has left of it: it is to be cut to this, and sent from there. */
  cutTo: number | undefined
  /** When it was first seen modified without having grown, in ms; undefined when it was not. */
  suspectSinceMs: number | undefined
  /** Its modification time when its zero tail was last looked through. */
  searchedMtimeNs: bigint | undefined
  #file: StorageFile | undefined
  readonly #storage: Storage
  readonly #root: string

  constructor(storage: Storage, root: string, path: EntryPath, stat: FileStat) {
    this.#storage = storage
    this.#root = root
    this.path = path
    this.inode = stat.inode
    this.stat = stat
  }

  get held(): boolean {
    return this.#file !== undefined
  }

  get name(): string {
    return displayPath(this.path)
  }

  /** False when the name is gone or names another file than it did. */
  async hold(): Promise<boolean> {
    if (this.#file !== undefined) return true
    let file: StorageFile
    try {
      file = await this.#storage.open(nativePath(this.#root, this.path), 'read')
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false
      throw describeSystemError(error, `opening ${this.name}`)
    }
    const stat = await file.stat()
    if (stat.inode !== this.inode) {
      await file.close()
      return false
    }
    this.#file = file
    this.stat = stat
    return true
  }

  /** The held descriptor; opened again when it was released. */
  async file(): Promise<StorageFile> {
    if (this.#file === undefined && !(await this.hold())) {
      throw new HotspareError(
        this.finished ? 'source-changed' : 'gap',
        `Pack ${this.name} vanished from ${this.#root} before all of it was read (${this.sent} bytes were). Use --resync to go on with what there is.`,
        { details: { pack: this.name, offset: this.sent } },
      )
    }
    return this.#file!
  }

  async release(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    await file?.close()
  }
}
