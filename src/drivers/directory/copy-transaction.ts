/**
 * The transaction under way, for those who take its changes: the parts of the copy, what is new in it, and where things
 * of it go.
 */
import { HotspareError } from '../../os/errors.ts'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { openFlag } from '../../os/tree-calls.ts'
import { displayPath } from '../../stream/entry.ts'
import type { AttributeSetter } from './copy-attributes.ts'
import type { CopyFiles } from './copy-files.ts'
import { FileNode } from './copy-node.ts'
import { OpenFile } from './copy-open-file.ts'
import { parentOf } from './copy-paths.ts'
import type { PendingFile } from './copy-pending.ts'
import { CopySettling } from './copy-settling.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'

export const umask = process.umask()
export const euid = process.geteuid?.() ?? 0
export const egid = process.getegid?.() ?? 0

export class CopyTransaction {
  readonly state: CopyState
  readonly files: CopyFiles
  readonly stage: CopyStage
  readonly attributes: AttributeSetter
  readonly settling: CopySettling
  readonly openFile: OpenFile
  readonly #stat = new StatBuffer()
  epoch = 1
  /** New versions that do not have their name yet; undefined: nothing was written yet. */
  readonly versions = new Map<string, PendingFile>()
  /** Files made in place that the transaction touched, by a name. */
  readonly placed = new Map<FileNode, string>()

  constructor(state: CopyState, files: CopyFiles, stage: CopyStage, attributes: AttributeSetter) {
    this.state = state
    this.files = files
    this.stage = stage
    this.attributes = attributes
    this.settling = new CopySettling(state, files, stage, attributes)
    this.openFile = new OpenFile(files)
  }

  get isFirst(): boolean {
    return this.state.status.phase === 'first'
  }

  /** In a first copy a name that nothing is known of, in a directory that is there, is made at once. */
  goesInPlace(path: string): boolean {
    if (!this.isFirst) return false
    const { record, pending, view } = this.state
    const parent = parentOf(path)
    return (
      record.hasDirectory(parent) &&
      pending.get(path) === undefined &&
      !view.hides(parent) &&
      record.find(path) === undefined
    )
  }

  newStaged(): PendingFile {
    const node = newFileNode()
    const file = this.state.pending.newFile(node)
    file.stage = this.stage.nextNumber
    file.stageEpoch = this.epoch
    return file
  }

  /** A recorded file becomes pending, under all names that it still has. */
  pendingOf(path: string): PendingFile {
    const { view, pending, record } = this.state
    const found = view.find(path)
    if (found?.file !== undefined) return found.file
    if (found?.node.kind !== 'file') throw notAFile(path)
    const { node } = found
    if (this.openFile.is(node)) this.openFile.close()
    const names = [...(record.namesOf(node) ?? [path])].filter(
      name => pending.get(name) === undefined && !view.hides(parentOf(name)),
    )
    this.settling.placed(node, path)
    const file = pending.newFile(node.clone())
    file.home = path
    file.baseSize = node.size
    file.valid = node.size
    for (const name of names) pending.set(name, { kind: 'file', file })
    return file
  }

  touchPlaced(node: FileNode, path: string): void {
    node.marked = false
    this.placed.set(node, path)
    this.state.record.touch(path)
  }

  stagedFd(file: PendingFile): number {
    return this.openFile.of(file.node, () =>
      file.stageEpoch === this.epoch && !this.stage.stat(file.stage, this.#stat)
        ? this.stage.create(file.stage, 0o600)
        : this.stage.open(file.stage, openFlag.readWrite),
    )
  }
}

export function newFileNode(): FileNode {
  const node = new FileNode()
  node.uid = euid
  node.gid = egid
  return node
}

export function notAFile(path: string): HotspareError {
  return new HotspareError('entry-invalid', `'${displayPath(path)}' is not a file of the copy.`)
}
