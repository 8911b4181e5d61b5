/** The end of a transaction: every digest is known, and every mark is that of the file as it is now. */
import { blake3 } from '@napi-rs/blake-hash'
import { StatBuffer } from '../../os/stat-buffer.ts'
import { ENOENT, openFlag } from '../../os/tree-calls.ts'
import type { AttributeSetter } from './copy-attributes.ts'
import { changedCopy } from './copy-changed.ts'
import { PendingReader, settleDigests } from './copy-content.ts'
import type { CopyFiles } from './copy-files.ts'
import { blockBytes, type FileNode, secondsOf } from './copy-node.ts'
import type { PendingChanges, PendingFile } from './copy-pending.ts'
import type { CopyStage } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'

/** More files of pieces than this for one file are gathered into one. */
const patchStagesMax = 8

export class CopySettling {
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #attributes: AttributeSetter
  readonly #stat = new StatBuffer()

  constructor(state: CopyState, files: CopyFiles, stage: CopyStage, attributes: AttributeSetter) {
    this.#state = state
    this.#files = files
    this.#stage = stage
    this.#attributes = attributes
  }

  /** A file that is in its place. */
  placed(node: FileNode, path: string): void {
    if (node.stale !== undefined) {
      const fd = this.#files.open(path, openFlag.read)
      try {
        settleDigests(node, (offset, into) => void this.#files.calls.readAt(fd, into, offset))
      } finally {
        this.#files.calls.closeFd(fd)
      }
    }
    if (!node.marked) {
      if (!this.#files.exists(path, this.#stat)) this.#files.fail('statx', -(ENOENT as number), path)
      if (node.timed && !isAsAsked(node, this.#stat)) {
        // content that came later changed what had been set
        this.#attributes.setNamed(this.#files, path, node, this.#stat, false)
        this.#files.exists(path, this.#stat)
      }
      node.mark(this.#stat)
    }
    node.committedSize = node.size
  }

  /** In the transaction of this epoch. */
  pending(file: PendingFile, epoch: number): void {
    const { node } = file
    if (file.stages.size > patchStagesMax) this.#gather(file, epoch)
    if (node.stale !== undefined) {
      const reader = new PendingReader(this.#files, this.#stage, file)
      try {
        this.#proveBase(file, node.stale, reader)
        settleDigests(node, (offset, into) => reader.read(offset, into))
      } finally {
        reader.close()
      }
    }
    if (file.stage !== 0 && this.#stage.stat(file.stage, this.#stat)) node.mark(this.#stat)
  }

  /** Bytes of the copy that stay in a block of which some change are those that were recorded, or the new digest would call a fault right. */
  #proveBase(file: PendingFile, stale: ReadonlySet<number>, reader: PendingReader): void {
    const base = file.stage === 0 ? this.#state.record.find(file.home) : undefined
    if (base?.kind !== 'file') return
    const buffer = Buffer.allocUnsafe(Math.min(blockBytes, base.size))
    for (const block of stale) {
      const offset = block * blockBytes
      const bytes = buffer.subarray(0, Math.min(blockBytes, base.size - offset))
      if (block >= base.blocks || offset >= file.valid) continue
      reader.readBase(offset, bytes)
      if (!blake3(bytes).equals(base.digest(block)))
        throw changedCopy(file.home, `has other bytes from offset ${offset}`)
    }
  }

  /** Pieces that are spread over many staged files, most of them out of date, go to a new one. */
  #gather(file: PendingFile, epoch: number): void {
    const { calls } = this.#files
    const stage = this.#stage.nextNumber
    const fd = this.#stage.create(stage, 0o600)
    const reader = new PendingReader(this.#files, this.#stage, file)
    const before = file.stages
    try {
      const buffer = Buffer.allocUnsafe(blockBytes)
      for (const { offset, length } of file.pieces) {
        for (let done = 0; done < length; ) {
          const bytes = buffer.subarray(0, Math.min(buffer.length, length - done))
          reader.read(offset + done, bytes)
          calls.writeAt(fd, bytes, offset + done)
          done += bytes.length
        }
      }
    } finally {
      reader.close()
      calls.closeFd(fd)
    }
    file.pieces = file.pieces.map(piece => ({ ...piece, stage }))
    file.patchStage = stage
    file.patchEpoch = epoch
    discardStages(this.#state.pending, file, before)
  }
}

/** Staged files that a file was made of, and is not any more. */
export function discardStages(pending: PendingChanges, file: PendingFile, before: ReadonlySet<number>): void {
  const after = file.stages
  for (const stage of before) if (!after.has(stage) && stage !== file.patchStage) pending.garbage.add(stage)
}

function isAsAsked(node: FileNode, stat: StatBuffer): boolean {
  return (
    stat.mode === node.mode &&
    stat.mtimeNanoseconds === node.mtimeNanoseconds &&
    secondsOf(stat.mtimeSecondsLow, stat.mtimeSecondsHigh) === node.mtimeSeconds
  )
}
