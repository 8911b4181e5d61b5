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
import { cName, EEXIST, openFlag } from '../../os/tree-calls.ts'
import {
  type AttributesChange,
  type Change,
  displayPath,
  type NodeChange,
  type RenameChange,
  type TruncateChange,
  type WriteChange,
} from '../../stream/entry.ts'
import type { AttributeSetter } from './copy-attributes.ts'
import { asBuffer, resizeDigests, writtenDigests } from './copy-content.ts'
import type { CopyFiles } from './copy-files.ts'
import {
  blockBytes,
  copyMetadata,
  DirectoryNode,
  FileNode,
  type Metadata,
  SymlinkNode,
  toXattrs,
} from './copy-node.ts'
import { isAtOrBelow, joinPath, nameOf, parentOf } from './copy-paths.ts'
import { gone, type PendingFile } from './copy-pending.ts'
import type { SectionWriter } from './copy-record.ts'
import { removeTree } from './copy-removing.ts'
import { CopySettling, discardStages } from './copy-settling.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'

const umask = process.umask()
const euid = process.geteuid?.() ?? 0
const egid = process.getegid?.() ?? 0

interface HeldFile {
  readonly path: string
  readonly data: Uint8Array
  /** It is a new version, which takes the name later. */
  readonly version: PendingFile | undefined
}

export class CopyWriter {
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #attributes: AttributeSetter
  readonly #settling: CopySettling
  #epoch = 1
  /** A small file of which the metadata may come next, so that it is made once and right. */
  #held: HeldFile | undefined
  /** New versions that do not have their name yet; undefined: nothing was written yet. */
  readonly #versions = new Map<string, PendingFile>()
  /** Files made in place that the transaction touched, by a name. */
  readonly #placed = new Map<FileNode, string>()
  #openFor: FileNode | undefined
  #openFd = -1
  readonly #stat = new StatBuffer()

  constructor(state: CopyState, files: CopyFiles, stage: CopyStage, attributes: AttributeSetter) {
    this.#state = state
    this.#files = files
    this.#stage = stage
    this.#attributes = attributes
    this.#settling = new CopySettling(state, files, stage, attributes)
  }

  apply(change: Change): void {
    const held = this.#held
    if (held !== undefined) {
      this.#held = undefined
      const completes = change.type === 'attributes' && change.path === held.path
      this.#makeSmall(held, completes ? change : undefined)
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
        const before = this.#versions.get(change.path)
        if (before !== undefined) this.#state.pending.drop(before)
        this.#versions.set(change.path, this.#newStaged())
        return
      }
      case 'replaced':
        this.#replaced(change.path)
        return
      case 'remove':
        this.#remove(change.path)
        return
      case 'rename':
        this.#rename(change)
        return
      case 'node':
        this.#node(change)
        return
      default:
        unreachable(change)
    }
  }

  /** Writes what waits for metadata: the memory of the data is needed no longer. */
  settleHeld(): void {
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) this.#makeSmall(held, undefined)
  }

  /** Ends the transaction: all is written, though not durable, and what it changed is in `sections`. */
  commit(sections: SectionWriter): void {
    this.settleHeld()
    for (const path of [...this.#versions.keys()]) this.#replaced(path)
    this.#closeFile()
    const { record, pending } = this.#state
    for (const [node, path] of this.#placed) this.#settling.placed(node, path)
    this.#placed.clear()
    for (const file of pending.changedFiles) this.#settling.pending(file, this.#epoch)
    record.writeChanges(sections)
    pending.writeChanges(sections)
    this.#epoch++
  }

  close(): void {
    this.#closeFile()
  }

  // ---- one file that is open

  #file(node: FileNode, open: () => number): number {
    if (this.#openFor === node) return this.#openFd
    this.#closeFile()
    this.#openFd = open()
    this.#openFor = node
    return this.#openFd
  }

  #closeFile(): void {
    if (this.#openFor !== undefined) this.#files.calls.closeFd(this.#openFd)
    this.#openFor = undefined
  }

  // ---- where things go

  get #isFirst(): boolean {
    return this.#state.status.phase === 'first'
  }

  /** In a first copy a name that nothing is known of, in a directory that is there, is made at once. */
  #goesInPlace(path: string): boolean {
    if (!this.#isFirst) return false
    const { record, pending, view } = this.#state
    const parent = parentOf(path)
    return (
      record.hasDirectory(parent) &&
      pending.get(path) === undefined &&
      !view.hides(parent) &&
      record.find(path) === undefined
    )
  }

  /** Directories above a path are made when they are missing. */
  #needParent(path: string): void {
    const parent = parentOf(path)
    if (
      parent === '' ||
      (this.#isFirst && this.#state.pending.isEmpty && this.#state.record.hasDirectory(parent))
    )
      return
    const found = this.#state.view.find(parent)
    if (found?.node.kind === 'directory') return
    if (found !== undefined) {
      throw new HotspareError(
        'entry-invalid',
        `'${displayPath(path)}' lies in '${displayPath(parent)}', which is no directory.`,
        { details: { path: displayPath(path) } },
      )
    }
    this.#needParent(parent)
    this.#makeDirectory(parent)
  }

  #newStaged(): PendingFile {
    const node = newFileNode()
    const file = this.#state.pending.newFile(node)
    file.stage = this.#stage.nextNumber
    file.stageEpoch = this.#epoch
    return file
  }

  /** A recorded file becomes pending, under all names that it still has. */
  #pendingOf(path: string): PendingFile {
    const { view, pending, record } = this.#state
    const found = view.find(path)
    if (found?.file !== undefined) return found.file
    if (found?.node.kind !== 'file') throw notAFile(path)
    const { node } = found
    if (this.#openFor === node) this.#closeFile()
    const names = [...(record.namesOf(node) ?? [path])].filter(
      name => pending.get(name) === undefined && !view.hides(parentOf(name)),
    )
    this.#settling.placed(node, path)
    const file = pending.newFile(node.clone())
    file.home = path
    file.baseSize = node.size
    file.valid = node.size
    for (const name of names) pending.set(name, { kind: 'file', file })
    return file
  }

  // ---- content

  #write(change: WriteChange): void {
    const { path, offset, data } = change
    const version = this.#versions.get(path)
    if (version !== undefined) {
      const isWhole = offset === 0 && data.length <= blockBytes && version.node.size === 0
      if (isWhole && this.#openFor !== version.node) this.#held = { path, data, version }
      else this.#writePending(version, offset, data)
      return
    }
    const found = this.#state.view.find(path)
    if (found === undefined || found.node.kind !== 'file') {
      if (found !== undefined) this.#clear(path)
      this.#needParent(path)
      if (offset === 0 && data.length <= blockBytes) {
        this.#held = { path, data, version: undefined }
        return
      }
      this.#makeEmpty(path)
      this.#write(change)
      return
    }
    if (found.file !== undefined) this.#writePending(found.file, offset, data)
    else if (this.#changesInPlace(found.node, offset)) this.#writePlaced(path, found.node, offset, data)
    else this.#writePending(this.#pendingOf(path), offset, data)
  }

  #changesInPlace(node: FileNode, offset: number): boolean {
    return this.#isFirst && (node.epoch === this.#epoch || offset >= node.committedSize)
  }

  #writePlaced(path: string, node: FileNode, offset: number, data: Uint8Array): void {
    const fd = this.#file(node, () => this.#files.openForWriting(path))
    if (data.length > 0) this.#files.calls.writeAt(fd, data, offset)
    writtenDigests(node, offset, data)
    this.#touchPlaced(node, path)
  }

  #touchPlaced(node: FileNode, path: string): void {
    node.marked = false
    this.#placed.set(node, path)
    this.#state.record.touch(path)
  }

  #writePending(file: PendingFile, offset: number, data: Uint8Array): void {
    const { node } = file
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (data.length === 0) {
      if (file.stageEpoch === this.#epoch) this.#stagedFd(file)
      return
    }
    if (this.#isStagedInPlace(file, offset)) {
      this.#files.calls.writeAt(this.#stagedFd(file), data, offset)
      writtenDigests(node, offset, data)
      file.baseSize = node.size
      file.valid = node.size
      return
    }
    if (file.patchEpoch !== this.#epoch) {
      file.patchStage = this.#stage.nextNumber
      file.patchEpoch = this.#epoch
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
    if (file.stageEpoch === this.#epoch) return true
    const { baseSize } = file
    return (
      offset >= baseSize && file.valid === baseSize && file.node.size === baseSize && file.pieces.length === 0
    )
  }

  #stagedFd(file: PendingFile): number {
    return this.#file(file.node, () =>
      file.stageEpoch === this.#epoch && !this.#stage.stat(file.stage, this.#stat)
        ? this.#stage.create(file.stage, 0o600)
        : this.#stage.open(file.stage, openFlag.readWrite),
    )
  }

  #truncate({ path, size }: TruncateChange): void {
    const version = this.#versions.get(path)
    if (version !== undefined) {
      this.#truncatePending(version, size)
      return
    }
    const found = this.#state.view.find(path)
    if (found === undefined || found.node.kind !== 'file') {
      if (found !== undefined) this.#clear(path)
      this.#needParent(path)
      this.#makeEmpty(path)
      this.#truncate({ path, size } as TruncateChange)
      return
    }
    if (found.file !== undefined) {
      this.#truncatePending(found.file, size)
      return
    }
    const { node } = found
    if (size === node.size) return
    if (!(this.#isFirst && (node.epoch === this.#epoch || size >= node.committedSize))) {
      this.#truncatePending(this.#pendingOf(path), size)
      return
    }
    this.#files.calls.truncateFd(
      this.#file(node, () => this.#files.openForWriting(path)),
      size,
    )
    resizeDigests(node, size)
    this.#touchPlaced(node, path)
  }

  #truncatePending(file: PendingFile, size: number): void {
    const { node } = file
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (
      this.#isStagedInPlace(file, Math.min(size, node.size)) &&
      (file.stageEpoch === this.#epoch || size >= node.size)
    ) {
      this.#files.calls.truncateFd(this.#stagedFd(file), size)
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

  // ---- making files

  /** A file of at most a block, with its metadata when that is known. */
  #makeSmall({ path, data, version }: HeldFile, attributes: AttributesChange | undefined): void {
    if (version !== undefined) {
      this.#makeSmallStaged(version, path, data, attributes)
      return
    }
    if (!this.#goesInPlace(path)) {
      const file = this.#newStaged()
      this.#makeSmallStaged(file, path, data, attributes)
      this.#state.pending.set(path, { kind: 'file', file })
      return
    }
    const node = newFileNode()
    node.epoch = this.#epoch
    if (attributes !== undefined) takeAttributes(node, attributes)
    const fd = this.#createPlaced(path, attributes === undefined ? 0o600 : node.mode & 0o777)
    this.#fill(fd, path, node, data, attributes !== undefined)
    this.#state.record.put(path, node)
    if (!node.marked) this.#placed.set(node, path)
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
    else {
      this.#closeFile()
      this.#openFor = node
      this.#openFd = fd
    }
  }

  /** The file system gives new files to somebody else. */
  #notOurs(fd: number, path: string, node: FileNode): void {
    if (this.#stat.uid === node.uid && this.#stat.gid === node.gid) return
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, false)
    this.#files.calls.statFd(fd, this.#stat)
  }

  #makeEmpty(path: string): void {
    if (!this.#goesInPlace(path)) {
      const file = this.#newStaged()
      this.#stagedFd(file)
      this.#state.pending.set(path, { kind: 'file', file })
      return
    }
    const node = newFileNode()
    node.epoch = this.#epoch
    this.#file(node, () => this.#createPlaced(path, 0o600))
    this.#state.record.put(path, node)
    this.#placed.set(node, path)
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

  #replaced(path: string): void {
    const file = this.#versions.get(path)
    if (file === undefined) {
      throw new HotspareError(
        'entry-invalid',
        `A new version of '${displayPath(path)}' ends that was never begun.`,
      )
    }
    this.#versions.delete(path)
    // an empty version, of which nothing was written
    if (file.node.size === 0 && !file.attributed) this.#stagedFd(file)
    this.#needParent(path)
    const found = this.#state.view.find(path)
    if (found !== undefined) this.#clear(path)
    this.#state.pending.set(path, { kind: 'file', file })
  }

  // ---- metadata

  #setAttributes(change: AttributesChange): void {
    const { path } = change
    const version = this.#versions.get(path)
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
      if (this.#isFirst && node.epoch === this.#epoch) this.#attributePlaced(node, path, change)
      else this.#attributePending(this.#pendingOf(path), path, change)
      return
    }
    if (found.pending) {
      takeAttributes(node, change)
      this.#state.pending.set(path, { kind: 'node', node })
    } else if (this.#isFirst && node.kind === 'directory') {
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
    const fd = this.#file(node, () => this.#files.openForWriting(path))
    this.#files.calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, change.xattrs !== undefined)
    this.#touchPlaced(node, path)
  }

  #attributePending(file: PendingFile, path: string, change: AttributesChange): void {
    const { node } = file
    takeAttributes(node, change)
    this.#state.pending.fileChanged(file)
    file.attributed = false
    if (file.stageEpoch !== this.#epoch) return
    const fd = this.#stagedFd(file)
    this.#files.calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, change.xattrs !== undefined)
    file.attributed = true
    // content that follows would change its times again, and comes rarely
    this.#closeFile()
  }

  // ---- names

  #node(change: NodeChange): void {
    const { path, node } = change
    switch (node.kind) {
      case 'directory': {
        if (this.#state.view.find(path)?.node.kind === 'directory') return
        if (path !== '') this.#needParent(path)
        this.#clear(path)
        this.#makeDirectory(path)
        return
      }
      case 'symlink': {
        if (path === '') throw notAFile(path)
        this.#needParent(path)
        const found = this.#state.view.find(path)
        if (found?.node.kind === 'symlink' && found.node.target === node.target) return
        if (found !== undefined) this.#clear(path)
        this.#makeSymlink(path, node.target)
        return
      }
      case 'hardlink':
        this.#needParent(path)
        this.#link(path, node.to)
        return
      default:
        unreachable(node)
    }
  }

  #makeDirectory(path: string): void {
    const { pending, record } = this.#state
    const directory = new DirectoryNode()
    directory.uid = euid
    directory.gid = egid
    if (path !== '' && this.#goesInPlace(path)) {
      const make = () =>
        this.#files.try(path, (at, name) => this.#files.calls.tryMakeDirectoryAt(at, name, 0o700))
      let result = make()
      if (result === -(EEXIST as number)) {
        removeTree(this.#files, path)
        result = make()
      }
      if (result < 0) this.#files.fail('mkdirat', result, path)
      record.put(path, directory)
      return
    }
    const before = this.#state.view.recorded(path)
    pending.set(path, { kind: 'node', node: directory })
    // what the directory held before does not come back with it
    if (before?.kind === 'directory')
      for (const name of record.children(path)?.keys() ?? []) pending.set(joinPath(path, name), gone)
  }

  #makeSymlink(path: string, target: string): void {
    const node = new SymlinkNode(target)
    node.uid = euid
    node.gid = egid
    this.#state.pending.set(path, { kind: 'node', node })
  }

  #link(path: string, to: string): void {
    const { view, pending, record } = this.#state
    if (path === to) return
    if (this.#versions.has(to)) this.#replaced(to)
    const target = view.find(to)
    const found = view.find(path)
    if (target?.node.kind === 'symlink') {
      const copy = new SymlinkNode(target.node.target)
      copyMetadata(target.node, copy)
      if (found !== undefined) this.#clear(path)
      pending.set(path, { kind: 'node', node: copy })
      return
    }
    if (target?.node.kind !== 'file') throw notAFile(to)
    if (found?.node === target.node) return
    if (isAtOrBelow(to, path)) throw notAFile(to)
    if (target.file === undefined && this.#goesInPlace(path)) {
      this.#linkPlaced(path, to)
      record.link(path, target.node, to)
      this.#touchPlaced(target.node, to)
      return
    }
    const file = this.#pendingOf(to)
    this.#state.pending.fileChanged(file)
    if (found !== undefined) this.#clear(path)
    pending.set(path, { kind: 'file', file })
  }

  #linkPlaced(path: string, to: string): void {
    const { calls } = this.#files
    const link = () =>
      this.#files.try(path, (at, name) =>
        calls.tryLinkAt(this.#files.directory(parentOf(to)), cName(nameOf(to)), at, name),
      )
    let result = link()
    if (result === -(EEXIST as number)) {
      removeTree(this.#files, path)
      result = link()
    }
    if (result < 0) this.#files.fail('linkat', result, path)
  }

  #remove(path: string): void {
    for (const [begun, file] of this.#versions) {
      if (!isAtOrBelow(begun, path)) continue
      this.#state.pending.drop(file)
      this.#versions.delete(begun)
    }
    if (path !== '') {
      this.#clear(path)
      return
    }
    for (const name of this.#state.view.children('').keys()) this.#clear(name)
  }

  /** Takes the name away, with all that it holds. */
  #clear(path: string): void {
    const { view, pending } = this.#state
    this.#closeFile()
    const before = view.recorded(path)
    if (before !== undefined) this.#keepOtherNames(path)
    pending.deleteBelow(path)
    if (before === undefined) pending.delete(path)
    else pending.set(path, gone)
  }

  /** Files that lose a name here and have others: their marks change, so all of them are looked after. */
  #keepOtherNames(path: string): void {
    const { view, record, pending } = this.#state
    const node = view.recorded(path)
    if (node?.kind === 'directory') {
      for (const [name, child] of record.children(path) ?? [])
        if (child.kind === 'directory' || (child.kind === 'file' && child.group !== 0))
          if (!view.hides(path)) this.#keepOtherNames(joinPath(path, name))
      return
    }
    if (node?.kind !== 'file' || node.group === 0 || pending.get(path) !== undefined) return
    for (const name of record.namesOf(node) ?? []) {
      if (name === path || pending.get(name) !== undefined || view.hides(parentOf(name))) continue
      const file = this.#pendingOf(name)
      file.home = name
      return
    }
  }

  #rename({ path, to }: RenameChange): void {
    const { view } = this.#state
    if (path === to) return
    if (path === '' || to === '' || isAtOrBelow(to, path) || isAtOrBelow(path, to)) throw notRenamed(path, to)
    if (this.#versions.has(path)) this.#replaced(path)
    if (view.find(path) === undefined) throw notRenamed(path, to)
    this.#needParent(to)
    if (view.find(to) !== undefined) this.#clear(to)
    this.#move(path, to)
    this.#clear(path)
  }

  #move(path: string, to: string): void {
    const { view, pending } = this.#state
    const found = view.find(path)
    if (found === undefined || found.node.kind === 'other') return
    if (found.node.kind === 'file') {
      const file = this.#pendingOf(path)
      pending.set(to, { kind: 'file', file })
      return
    }
    const { node } = found
    const moved = node.kind === 'symlink' ? new SymlinkNode(node.target) : new DirectoryNode()
    copyMetadata(node, moved)
    if (node.kind === 'directory') {
      const children = [...view.children(path).keys()]
      const before = view.recorded(to)
      pending.set(to, { kind: 'node', node: moved })
      if (before?.kind === 'directory')
        for (const name of this.#state.record.children(to)?.keys() ?? [])
          pending.set(joinPath(to, name), gone)
      for (const name of children) this.#move(joinPath(path, name), joinPath(to, name))
    } else pending.set(to, { kind: 'node', node: moved })
  }
}

function newFileNode(): FileNode {
  const node = new FileNode()
  node.uid = euid
  node.gid = egid
  return node
}

function takeAttributes(node: Metadata, change: AttributesChange): void {
  if (change.mode !== undefined) node.mode = change.mode & 0o7777
  if (change.uid !== undefined) node.uid = change.uid
  if (change.gid !== undefined) node.gid = change.gid
  if (change.mtimeNs !== undefined) {
    const billion = 1_000_000_000n
    const nanoseconds = ((change.mtimeNs % billion) + billion) % billion
    node.mtimeSeconds = Number((change.mtimeNs - nanoseconds) / billion)
    node.mtimeNanoseconds = Number(nanoseconds)
    node.timed = true
  }
  // what is kept outlives the batch whose memory this may be
  if (change.xattrs !== undefined) {
    const copied = Object.entries(change.xattrs).map(([name, value]) => [name, Buffer.from(asBuffer(value))])
    node.xattrs = toXattrs(Object.fromEntries(copied))
  }
}

function notAFile(path: string): HotspareError {
  return new HotspareError('entry-invalid', `'${displayPath(path)}' is not a file of the copy.`)
}

function notRenamed(path: string, to: string): HotspareError {
  return new HotspareError(
    'entry-invalid',
    `'${displayPath(path)}' cannot be renamed to '${displayPath(to)}'.`,
  )
}
