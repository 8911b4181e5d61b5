/**
 * New versions of files that `replace` began. They grow in the sidecar, whatever becomes of the copy meanwhile, and are
 * whole before their name is spoken of anywhere; what a crash leaves of them is removed at the next start.
 */
import { assert } from '../os/errors.ts'
import type { AttributesChange, EntryPath, TruncateChange, WriteChange } from '../stream/entry.ts'
import { BlockDigests } from './block-digests.ts'
import type { CopyDisk } from './copy-disk.ts'
import { checkSize } from './tree-change.ts'

interface StagedVersion {
  readonly stage: number
  readonly blocks: BlockDigests
}

export class StagedVersions {
  readonly #disk: CopyDisk
  readonly #blockBytes: number
  readonly #open = new Map<EntryPath, StagedVersion>()
  #last: number

  /** `last`: the highest number that is in use. */
  constructor(disk: CopyDisk, blockBytes: number, last: number) {
    this.#disk = disk
    this.#blockBytes = blockBytes
    this.#last = last
  }

  get paths(): EntryPath[] {
    return [...this.#open.keys()]
  }

  has(path: EntryPath): boolean {
    return this.#open.has(path)
  }

  async begin(path: EntryPath): Promise<void> {
    const stage = ++this.#last
    await this.#disk.createStage(stage)
    this.#open.set(path, { stage, blocks: new BlockDigests(this.#blockBytes) })
  }

  async change(change: WriteChange | TruncateChange | AttributesChange): Promise<void> {
    const version = this.#open.get(change.path)
    assert(version !== undefined, 'no new version was begun')
    if (change.type === 'write') await this.#write(version, change)
    else if (change.type === 'truncate') await this.#truncate(version, change)
    else await this.#disk.setStageAttributes(version.stage, change)
  }

  async #write({ stage, blocks }: StagedVersion, { path, offset, data }: WriteChange): Promise<void> {
    if (data.length === 0) return
    checkSize(path, offset + data.length)
    const writing = this.#disk.writeStage(stage, offset, data)
    if (offset >= blocks.size && blocks.missingTail === undefined) {
      blocks.appendZeros(offset - blocks.size)
      blocks.append(asBuffer(data))
    } else blocks.touch(offset, data.length)
    await writing
  }

  async #truncate({ stage, blocks }: StagedVersion, { path, size }: TruncateChange): Promise<void> {
    checkSize(path, size)
    await this.#disk.truncateStage(stage, size)
    blocks.resize(size)
  }

  /** The version is whole: its number, and the digests of all its blocks. */
  async finish(path: EntryPath): Promise<StagedVersion | undefined> {
    const version = this.#open.get(path)
    if (version === undefined) return undefined
    this.#open.delete(path)
    const { stage, blocks } = version
    const file = await this.#disk.stageFile(stage)
    for (const block of [...blocks.stale]) {
      const bytes = Buffer.allocUnsafe(blocks.blockLength(block))
      const length = await file.read(bytes, block * blocks.blockBytes)
      assert(length === bytes.length, `the new version of '${path}' is shorter than what was written`)
      blocks.refresh(block, bytes)
    }
    return version
  }
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
}
