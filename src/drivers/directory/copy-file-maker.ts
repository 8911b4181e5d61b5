/** Makes files that are new: in their place in a first copy, else in the stage. */
import { StatBuffer } from '../../os/stat-buffer.ts'
import { EEXIST, openFlag } from '../../os/tree-calls.ts'
import type { AttributesChange } from '../../stream/entry.ts'
import { type AttributeSetter, takeAttributes } from './copy-attributes.ts'
import { writtenDigests } from './copy-content.ts'
import type { CopyFiles } from './copy-files.ts'
import type { FileNode } from './copy-node.ts'
import type { PendingFile } from './copy-pending.ts'
import { removeTree } from './copy-removing.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'
import { type CopyTransaction, egid, euid, newFileNode, umask } from './copy-transaction.ts'

export interface SmallFile {
  readonly path: string
  readonly data: Uint8Array
  /** It is a new version, which takes the name later. */
  readonly version: PendingFile | undefined
}

export class FileMaker {
  readonly #transaction: CopyTransaction
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #attributes: AttributeSetter
  readonly #stat = new StatBuffer()

  constructor(transaction: CopyTransaction) {
    this.#transaction = transaction
    this.#state = transaction.state
    this.#files = transaction.files
    this.#stage = transaction.stage
    this.#attributes = transaction.attributes
  }

  /** A file of at most a block, with its metadata when that is known. */
  makeSmall({ path, data, version }: SmallFile, attributes: AttributesChange | undefined): void {
    if (version !== undefined) {
      this.#makeSmallStaged(version, path, data, attributes)
      return
    }
    if (!this.#transaction.goesInPlace(path)) {
      const file = this.#transaction.newStaged()
      this.#makeSmallStaged(file, path, data, attributes)
      this.#state.pending.set(path, { kind: 'file', file })
      return
    }
    const node = newFileNode()
    node.epoch = this.#transaction.epoch
    if (attributes !== undefined) takeAttributes(node, attributes)
    const fd = this.#createPlaced(path, attributes === undefined ? 0o600 : node.mode & 0o777)
    this.#fill(fd, path, node, data, attributes !== undefined)
    this.#state.record.put(path, node)
    if (!node.marked) this.#transaction.placed.set(node, path)
  }

  #makeSmallStaged(
    file: PendingFile,
    path: string,
    data: Uint8Array,
    attributes: AttributesChange | undefined,
  ): void {
    const { node } = file
    if (attributes !== undefined) takeAttributes(node, attributes)
    const fd = this.#stage.create(file.stage, attributes === undefined ? 0o600 : node.mode & 0o777)
    this.#fill(fd, path, node, data, attributes !== undefined)
    file.baseSize = node.size
    file.valid = node.size
    file.attributed = attributes !== undefined
    this.#state.pending.fileChanged(file)
  }

  /** Closes the descriptor, or keeps it for what may follow. */
  #fill(fd: number, path: string, node: FileNode, data: Uint8Array, attributed: boolean): void {
    const { calls } = this.#files
    try {
      if (data.length > 0) {
        calls.writeAt(fd, data, 0)
        writtenDigests(node, 0, data)
      }
      if (attributed) {
        const made = { uid: euid, gid: egid, mode: node.mode & 0o777 & ~umask }
        this.#attributes.setOpen(this.#files, fd, path, node, made, node.xattrs.size > 0)
        calls.statFd(fd, this.#stat)
        if (this.#stat.uid !== made.uid || this.#stat.gid !== made.gid) this.#notOurs(fd, path, node)
        node.mark(this.#stat)
      }
    } catch (error) {
      calls.closeFd(fd)
      throw error
    }
    if (attributed) calls.closeFd(fd)
    else this.#transaction.openFile.keep(node, () => fd)
  }

  /** The file system gives new files to somebody else. */
  #notOurs(fd: number, path: string, node: FileNode): void {
    if (this.#stat.uid === node.uid && this.#stat.gid === node.gid) return
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, false)
    this.#files.calls.statFd(fd, this.#stat)
  }

  makeEmpty(path: string): void {
    if (!this.#transaction.goesInPlace(path)) {
      const file = this.#transaction.newStaged()
      this.#transaction.stagedFd(file)
      this.#state.pending.set(path, { kind: 'file', file })
      return
    }
    const node = newFileNode()
    node.epoch = this.#transaction.epoch
    this.#transaction.openFile.of(node, () => this.#createPlaced(path, 0o600))
    this.#state.record.put(path, node)
    this.#transaction.placed.set(node, path)
  }

  /** What a crash left under the name, beyond the last commit, is removed. */
  #createPlaced(path: string, mode: number): number {
    const flags = openFlag.readWrite | openFlag.create | openFlag.exclusive
    const fd = this.#files.tryOpen(path, flags, mode)
    if (fd >= 0) return fd
    if (fd !== -(EEXIST as number)) this.#files.fail('openat', fd, path)
    removeTree(this.#files, path)
    return this.#files.open(path, flags, mode)
  }
}
