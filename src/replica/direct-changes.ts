/**
 * Changes that are applied as they come, because a copy that stops anywhere among them is what the source might have
 * been after a crash there: appends, and changes of names in order.
 *
 * Before a name changes in a copy that can be seen, everything before is durable and the change is written down. A
 * transaction that a crash cut short comes again from its beginning: what is there already is recognised by
 * comparison and left. Bytes beyond what is recorded are our own lost tail only when they are what the source sends,
 * or zeros, which a power failure leaves; anything else was put there by somebody else and is not overwritten.
 *
 * In a copy that cannot be seen yet only what adds to it is direct: what is recorded of it must stay as it is.
 */
import { HotspareError, unreachable } from '../os/errors.ts'
import {
  type AttributesChange,
  type Change,
  displayPath,
  type EntryPath,
  type TruncateChange,
  type WriteChange,
} from '../stream/entry.ts'
import type { BlockDigests } from './block-digests.ts'
import type { CopyDisk } from './copy-disk.ts'
import type { CopyLocks } from './copy-locks.ts'
import type { CopyRecorder } from './copy-recorder.ts'
import type { CopyFile, CopyTree, NameOp } from './copy-tree.ts'
import { asBuffer } from './staged-versions.ts'
import { checkSize, opsOfChange, opsToMakeFile, opsToMakeParents, refuse } from './tree-change.ts'

export type DirectChange = Exclude<Change, { type: 'replace' | 'replaced' | 'record' }>

export class DirectChanges {
  readonly #recorder: CopyRecorder
  readonly #disk: CopyDisk
  readonly #tree: CopyTree
  readonly #locks: CopyLocks
  readonly #visible: () => boolean
  /** Real sizes of files that are longer than what is recorded of them. */
  readonly #excess: Map<CopyFile, number>

  constructor(
    recorder: CopyRecorder,
    locks: CopyLocks,
    visible: () => boolean,
    excess: Map<CopyFile, number>,
  ) {
    this.#recorder = recorder
    this.#disk = recorder.disk
    this.#tree = recorder.state.tree
    this.#locks = locks
    this.#visible = visible
    this.#excess = excess
  }

  /** A file that is longer than what is recorded of it and than what the source has sent since. */
  get leftover(): { readonly path: EntryPath; readonly size: number; readonly found: number } | undefined {
    for (const [file, found] of this.#excess) {
      if (file.path !== undefined && found > file.size) return { path: file.path, size: file.size, found }
    }
    return undefined
  }

  /** The file is changed through the journal: what was beyond its end came again, or means nothing any more. */
  forgetExcess(file: CopyFile): void {
    this.#excess.delete(file)
  }

  /** False when the change cannot be made directly; then nothing was done. */
  async apply(change: DirectChange): Promise<boolean> {
    switch (change.type) {
      case 'write':
        return this.#write(change)
      case 'truncate':
        return this.#truncate(change)
      case 'attributes':
        return this.#attributes(change)
      case 'remove':
      case 'rename':
      case 'node':
        return this.#names(change)
      default:
        return unreachable(change)
    }
  }

  async #write({ path, offset, data: bytes }: WriteChange): Promise<boolean> {
    const data = asBuffer(bytes)
    const end = offset + data.length
    checkSize(path, end)
    const present = this.#tree.findFile(path)
    const size = present?.size ?? 0
    if (offset < size) {
      const known = data.subarray(0, Math.min(data.length, size - offset))
      if (!(await this.#isEqual(path, offset, known))) return false
    }
    const file = present ?? (await this.#makeFile(path))
    if (end <= size || data.length === 0) return true
    const from = Math.max(offset, size)
    const rest = data.subarray(from - offset)
    const excess = this.#excess.get(file)
    if (excess !== undefined && excess > size) await this.#checkExcess(path, size, from, rest, excess)
    await this.#loadTail(path, file.blocks)
    const writing = this.#disk.write(path, from, rest)
    file.blocks.appendZeros(from - size)
    file.blocks.append(rest)
    this.#recorder.fileChanged(file)
    await writing
    return true
  }

  async #truncate({ path, size }: TruncateChange): Promise<boolean> {
    checkSize(path, size)
    const present = this.#tree.findFile(path)
    if (present !== undefined && present.size > size) return false
    const file = present ?? (await this.#makeFile(path))
    if (file.size === size) return true
    const excess = this.#excess.get(file) ?? 0
    if (excess > file.size) await this.#checkExcess(path, file.size, size, Buffer.alloc(0), excess)
    await this.#loadTail(path, file.blocks)
    if (excess < size) await this.#disk.truncate(path, size)
    else await this.#disk.touch(path)
    file.blocks.appendZeros(size - file.size)
    this.#recorder.fileChanged(file)
    return true
  }

  async #attributes(change: AttributesChange): Promise<boolean> {
    const node = this.#tree.find(change.path)
    if (node === undefined) throw refuse(change.path, 'there is nothing of this name')
    await this.#disk.setAttributes(change.path, change)
    if (node.kind === 'file') this.#recorder.fileChanged(node.file)
    return true
  }

  async #names(change: Extract<DirectChange, { type: 'remove' | 'rename' | 'node' }>): Promise<boolean> {
    const ops = opsOfChange(this.#tree, change)
    if (!this.#visible() && ops.some(op => this.#touchesRecorded(op))) return false
    await this.#change(ops)
    return true
  }

  #touchesRecorded(op: NameOp): boolean {
    return op.kind === 'rename' || op.kind === 'remove' || this.#tree.find(op.path) !== undefined
  }

  /** Gives the name to a new version that stands in the sidecar; false as with `apply`. */
  async take(path: EntryPath, stage: number, blocks: BlockDigests): Promise<boolean> {
    if (!this.#visible() && this.#tree.find(path) !== undefined) return false
    const parents = opsToMakeParents(this.#tree, path)
    const file = this.#tree.addFile(blocks)
    await this.#change([...parents, { kind: 'take', path, file: file.id, stage }])
    this.#recorder.fileChanged(file)
    return true
  }

  async #makeFile(path: EntryPath): Promise<CopyFile> {
    await this.#change(opsToMakeFile(this.#tree, path))
    const file = this.#tree.findFile(path)
    if (file === undefined) throw refuse(path, 'it is not a file')
    return file
  }

  async #change(ops: readonly NameOp[]): Promise<void> {
    for (const op of ops) {
      if (this.#visible()) await this.#changeAnnounced(op)
      else {
        await this.#perform(op)
        this.#tree.apply(op)
        this.#recorder.namesChanged([op])
      }
      const moved = this.#tree.findFile(op.kind === 'rename' ? op.to : op.path)
      if (moved !== undefined) this.#recorder.fileChanged(moved)
    }
  }

  /** Everything before is durable, and so is that the name is to be changed; then it is changed. */
  async #changeAnnounced(op: NameOp): Promise<void> {
    const lock = await this.#locks.names('exclusive')
    try {
      await this.#recorder.settle([op])
      await this.#perform(op)
    } finally {
      await lock.release()
    }
  }

  async #perform(op: NameOp): Promise<void> {
    try {
      await this.#disk.perform(op, true)
    } catch (error) {
      if (op.kind !== 'file' || (error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      throw changed(this.#disk.root, op.path, 'was put there by somebody else')
    }
  }

  async #isEqual(path: EntryPath, offset: number, expected: Buffer): Promise<boolean> {
    const found = Buffer.allocUnsafe(expected.length)
    return (await this.#disk.read(path, found, offset)) === found.length && found.equals(expected)
  }

  /** Bytes from `size` on that are not recorded have to be zeros, or zeros up to `from` and then those of `data`. */
  async #checkExcess(
    path: EntryPath,
    size: number,
    from: number,
    data: Buffer,
    excess: number,
  ): Promise<void> {
    const end = Math.min(from + data.length, excess)
    const stepBytes = 1024 * 1024
    for (let at = size; at < end; at += stepBytes) {
      const found = Buffer.alloc(Math.min(stepBytes, end - at))
      await this.#disk.read(path, found, at)
      for (let i = 0; i < found.length; i++) {
        if (found[i] === 0) continue
        const sent = at + i - from
        if (sent >= 0 && data[sent] === found[i]) continue
        throw changed(this.#disk.root, path, `has bytes at offset ${at + i} that its source does not have`)
      }
    }
  }

  /** The digest of a file's last block goes on from its bytes, which are compared with what is recorded on the way. */
  async #loadTail(path: EntryPath, blocks: BlockDigests): Promise<void> {
    const missing = blocks.missingTail
    if (missing === undefined) return
    const bytes = Buffer.allocUnsafe(missing.length)
    const length = await this.#disk.read(path, bytes, missing.offset)
    if (length < missing.length || !blocks.loadTail(bytes))
      throw changed(
        this.#disk.root,
        path,
        `differs from what was copied, in its bytes from ${missing.offset}`,
      )
  }
}

export function changed(root: string, path: EntryPath, what: string): HotspareError {
  return new HotspareError(
    'target-changed',
    `'${displayPath(path)}' in the copy '${root}' ${what}. Nothing was overwritten. Use --resync to take the copy as it is and send the difference.`,
    { details: { path, copy: root } },
  )
}
