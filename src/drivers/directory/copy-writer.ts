/**
 * Takes the changes of a transaction. What is new in a first copy is made in its place at once; all else goes to the
 * stage and to what is pending, and the copy itself is not touched.
 *
 * Invariant: what a commit counts on is never changed in place afterwards. A file of a first copy or of the stage may be
 * changed as long as the transaction lasts that made it (its epoch), and appended to later; any other change of it is
 * laid beside it. So a crash leaves bytes and names beyond the last commit, and nothing that differs from it.
 */
import { HotspareError, unreachable } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { openFlag } from '../../os/tree-calls.ts'
import {
  type AttributesChange,
  type Change,
  displayPath,
  type TruncateChange,
  type WriteChange,
} from '../../stream/entry.ts'
import { type AttributeSetter, takeAttributes } from './copy-attributes.ts'
import { resizeDigests, writtenDigests } from './copy-content.ts'
import { FileMaker, type SmallFile } from './copy-file-maker.ts'
import type { CopyFiles } from './copy-files.ts'
import { NameWriter } from './copy-name-writer.ts'
import { blockBytes, copyMetadata, DirectoryNode, type FileNode, SymlinkNode } from './copy-node.ts'
import type { PendingFile } from './copy-pending.ts'
import type { SectionWriter } from './copy-record.ts'
import { discardStages } from './copy-settling.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'
import { CopyTransaction } from './copy-transaction.ts'

export class CopyWriter {
  readonly #transaction: CopyTransaction
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #attributes: AttributeSetter
  readonly #maker: FileMaker
  readonly #names: NameWriter
  /** A small file of which the metadata may come next, so that it is made once and right. */
  #held: SmallFile | undefined
  readonly #stat = new StatBuffer()

  constructor(state: CopyState, files: CopyFiles, stage: CopyStage, attributes: AttributeSetter) {
    this.#transaction = new CopyTransaction(state, files, stage, attributes)
    this.#state = state
    this.#files = files
    this.#stage = stage
    this.#attributes = attributes
    this.#maker = new FileMaker(this.#transaction)
    this.#names = new NameWriter(this.#transaction)
  }

  apply(change: Change): void {
    const held = this.#held
    if (held !== undefined) {
      this.#held = undefined
      const completes = change.type === 'attributes' && change.path === held.path
      this.#maker.makeSmall(held, completes ? change : undefined)
      if (completes) return
    }
    switch (change.type) {
      case 'record':
        throw new HotspareError('unsupported', 'A copy of a directory cannot take records.')
      case 'write':
        this.#write(change)
        return
      case 'truncate':
        this.#truncate(change)
        return
      case 'attributes':
        this.#setAttributes(change)
        return
      case 'replace': {
        const before = this.#transaction.versions.get(change.path)
        if (before !== undefined) this.#state.pending.drop(before)
        this.#transaction.versions.set(change.path, this.#transaction.newStaged())
        return
      }
      case 'replaced':
        this.#names.replaced(change.path)
        return
      case 'remove':
        this.#names.remove(change.path)
        return
      case 'rename':
        this.#names.rename(change)
        return
      case 'node':
        this.#names.node(change)
        return
      default:
        unreachable(change)
    }
  }

  /** Writes what waits for metadata: the memory of the data is needed no longer. */
  settleHeld(): void {
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) this.#maker.makeSmall(held, undefined)
  }

  /** Ends the transaction: all is written, though not durable, and what it changed is in `sections`. */
  commit(sections: SectionWriter): void {
    this.settleHeld()
    for (const path of [...this.#transaction.versions.keys()]) this.#names.replaced(path)
    this.#transaction.openFile.close()
    const { record, pending } = this.#state
    for (const [node, path] of this.#transaction.placed) this.#transaction.settling.placed(node, path)
    this.#transaction.placed.clear()
    for (const file of pending.changedFiles) this.#transaction.settling.pending(file, this.#transaction.epoch)
    record.writeChanges(sections)
    pending.writeChanges(sections)
    this.#transaction.epoch++
  }

  close(): void {
    this.#transaction.openFile.close()
  }

  // ---- content

  #write(change: WriteChange): void {
    const { path, offset, data } = change
    const { versions } = this.#transaction
    const version = versions.size === 0 ? undefined : versions.get(path)
    if (version !== undefined) {
      const isWhole = offset === 0 && data.length <= blockBytes && version.node.size === 0
      if (isWhole && !this.#transaction.openFile.is(version.node)) this.#held = { path, data, version }
      else this.#writePending(version, offset, data)
      return
    }
    const found = this.#state.view.find(path)
    if (found === undefined || found.node.kind !== 'file') {
      if (found !== undefined) this.#names.clear(path)
      this.#names.needParent(path)
      if (offset === 0 && data.length <= blockBytes) {
        this.#held = { path, data, version: undefined }
        return
      }
      this.#maker.makeEmpty(path)
      this.#write(change)
      return
    }
    if (found.file !== undefined) this.#writePending(found.file, offset, data)
    else if (this.#changesInPlace(found.node, offset)) this.#writePlaced(path, found.node, offset, data)
    else this.#writePending(this.#transaction.pendingOf(path), offset, data)
  }

  #changesInPlace(node: FileNode, offset: number): boolean {
    return (
      this.#transaction.isFirst && (node.epoch === this.#transaction.epoch || offset >= node.committedSize)
    )
  }

  #writePlaced(path: string, node: FileNode, offset: number, data: Uint8Array): void {
    const fd = this.#transaction.openFile.of(node, () => this.#files.openForWriting(path))
    if (data.length > 0) this.#files.calls.writeAt(fd, data, offset)
    writtenDigests(node, offset, data)
    this.#transaction.touchPlaced(node, path)
  }

  #writePending(file: PendingFile, offset: number, data: Uint8Array): void {
    const { node } = file
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (data.length === 0) {
      if (file.stageEpoch === this.#transaction.epoch) this.#transaction.stagedFd(file)
      return
    }
    if (this.#isStagedInPlace(file, offset)) {
      this.#files.calls.writeAt(this.#transaction.stagedFd(file), data, offset)
      writtenDigests(node, offset, data)
      file.baseSize = node.size
      file.valid = node.size
      return
    }
    if (file.patchEpoch !== this.#transaction.epoch) {
      file.patchStage = this.#stage.nextNumber
      file.patchEpoch = this.#transaction.epoch
      this.#files.calls.closeFd(this.#stage.create(file.patchStage, 0o600))
    }
    const before = file.stages
    const fd = this.#stage.open(file.patchStage, openFlag.write)
    try {
      this.#files.calls.writeAt(fd, data, offset)
    } finally {
      this.#files.calls.closeFd(fd)
    }
    file.overlay(offset, data.length, file.patchStage)
    writtenDigests(node, offset, data)
    discardStages(this.#state.pending, file, before)
  }

  #isStagedInPlace(file: PendingFile, offset: number): boolean {
    if (file.stage === 0) return false
    if (file.stageEpoch === this.#transaction.epoch) return true
    const { baseSize } = file
    return (
      offset >= baseSize && file.valid === baseSize && file.node.size === baseSize && file.pieces.length === 0
    )
  }

  #truncate({ path, size }: TruncateChange): void {
    const version = this.#transaction.versions.get(path)
    if (version !== undefined) {
      this.#truncatePending(version, size)
      return
    }
    const found = this.#state.view.find(path)
    if (found === undefined || found.node.kind !== 'file') {
      if (found !== undefined) this.#names.clear(path)
      this.#names.needParent(path)
      this.#maker.makeEmpty(path)
      this.#truncate({ path, size } as TruncateChange)
      return
    }
    if (found.file !== undefined) {
      this.#truncatePending(found.file, size)
      return
    }
    const { node } = found
    if (size === node.size) return
    if (
      !(this.#transaction.isFirst && (node.epoch === this.#transaction.epoch || size >= node.committedSize))
    ) {
      this.#truncatePending(this.#transaction.pendingOf(path), size)
      return
    }
    this.#files.calls.truncateFd(
      this.#transaction.openFile.of(node, () => this.#files.openForWriting(path)),
      size,
    )
    resizeDigests(node, size)
    this.#transaction.touchPlaced(node, path)
  }

  #truncatePending(file: PendingFile, size: number): void {
    const { node } = file
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (
      this.#isStagedInPlace(file, Math.min(size, node.size)) &&
      (file.stageEpoch === this.#transaction.epoch || size >= node.size)
    ) {
      this.#files.calls.truncateFd(this.#transaction.stagedFd(file), size)
      resizeDigests(node, size)
      file.baseSize = size
      file.valid = size
      return
    }
    if (size < node.size) {
      const before = file.stages
      file.overlay(size, node.size - size, 0)
      file.valid = Math.min(file.valid, size)
      discardStages(this.#state.pending, file, before)
    }
    resizeDigests(node, size)
  }

  // ---- metadata

  #setAttributes(change: AttributesChange): void {
    const { path } = change
    const version = this.#transaction.versions.get(path)
    if (version !== undefined) {
      this.#attributePending(version, path, change)
      return
    }
    const found = this.#state.view.find(path)
    if (found === undefined) {
      throw new HotspareError('entry-invalid', `Attributes for '${displayPath(path)}', which is not there.`)
    }
    const { node, file } = found
    if (node.kind === 'other') return
    if (file !== undefined) {
      this.#attributePending(file, path, change)
      return
    }
    if (node.kind === 'file') {
      if (this.#transaction.isFirst && node.epoch === this.#transaction.epoch)
        this.#attributePlaced(node, path, change)
      else this.#attributePending(this.#transaction.pendingOf(path), path, change)
      return
    }
    if (found.pending) {
      takeAttributes(node, change)
      this.#state.pending.set(path, { kind: 'node', node })
    } else if (this.#transaction.isFirst && node.kind === 'directory') {
      // set when the copy is whole
      takeAttributes(node, change)
      this.#state.record.touch(path)
    } else {
      const changed = node.kind === 'symlink' ? new SymlinkNode(node.target) : new DirectoryNode()
      copyMetadata(node, changed)
      takeAttributes(changed, change)
      this.#state.pending.set(path, { kind: 'node', node: changed })
    }
  }

  #attributePlaced(node: FileNode, path: string, change: AttributesChange): void {
    takeAttributes(node, change)
    const fd = this.#transaction.openFile.of(node, () => this.#files.openForWriting(path))
    this.#files.calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, change.xattrs !== undefined)
    this.#transaction.touchPlaced(node, path)
  }

  #attributePending(file: PendingFile, path: string, change: AttributesChange): void {
    const { node } = file
    takeAttributes(node, change)
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (file.stageEpoch !== this.#transaction.epoch) return
    const fd = this.#transaction.stagedFd(file)
    this.#files.calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, change.xattrs !== undefined)
    file.attributed = true
    // content that follows would change its times again, and comes rarely
    this.#transaction.openFile.close()
  }
}
