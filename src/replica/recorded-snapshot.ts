/**
 * The snapshot of a copy that the file replica keeps, also while it is being followed: names and sizes of one moment are
 * noted and opened under a short lock, and then read while the follower goes on appending. Every block is compared with
 * its recorded digest before it is given.
 */
import { blake3 } from '@napi-rs/blake-hash'
import {
  batchBytesMax,
  batchEntriesMax,
  type Snapshot,
  type SnapshotBatch,
  type SnapshotEntry,
  type SnapshotExtent,
  type SnapshotFile,
  type SnapshotMetadata,
  type SnapshotOptions,
  smallContentBytesMax,
  snapshotBlockBytes,
} from '../drivers/snapshot.ts'
import { assert, HotspareError } from '../os/errors.ts'
import type { FileStat, NativePath, Storage, StorageFile } from '../os/storage.ts'
import { displayPath, type EntryPath, nativePath } from '../stream/entry.ts'
import type { BlockDigests } from './block-digests.ts'
import type { CopyFile, TreeNode } from './copy-tree.ts'
import { type RecordedReading, readRecorded } from './recorded-reading.ts'
import { toConsistent } from './state-record.ts'

/** More files than this are not held open: then no name of the copy changes until the snapshot is closed. */
const openFilesMax = 500

/** Throws `target-missing` and `target-incomplete`. */
export async function snapshotRecorded(options: SnapshotOptions): Promise<Snapshot> {
  const reading = await readRecorded(options)
  const snapshot = new RecordedSnapshot(options, reading)
  try {
    await snapshot.openFiles()
    return snapshot
  } catch (error) {
    await snapshot.close()
    throw error
  }
}

class RecordedSnapshot implements Snapshot {
  readonly commit
  readonly consistent = true
  readonly totalBytes: number
  readonly totalEntries: number
  readonly #options: SnapshotOptions
  readonly #storage: Storage
  readonly #reading: RecordedReading
  readonly #nodes: readonly { readonly path: EntryPath; readonly node: TreeNode }[]
  readonly #open = new Map<CopyFile, StorageFile>()
  readonly #given = new Map<CopyFile, EntryPath>()
  #closed = false

  constructor(options: SnapshotOptions, reading: RecordedReading) {
    this.#options = options
    this.#storage = options.storage
    this.#reading = reading
    this.commit = toConsistent(reading.consistent)
    this.#nodes = [...reading.state.tree.walk()]
    this.totalEntries = this.#nodes.length
    const files = new Set(this.#nodes.flatMap(({ node }) => (node.kind === 'file' ? [node.file] : [])))
    this.totalBytes = [...files].reduce((sum, file) => sum + file.size, 0)
  }

  async openFiles(): Promise<void> {
    const files = this.#nodes.filter(({ node }) => node.kind === 'file')
    if (files.length > openFilesMax) return
    for (const { path, node } of files) {
      if (node.kind === 'file' && !this.#open.has(node.file))
        this.#open.set(node.file, await this.#storage.open(this.#place(path), 'read'))
    }
    await this.#reading.releaseNames()
  }

  #place(path: EntryPath): NativePath {
    return nativePath(this.#options.path, path)
  }

  async *batches(): AsyncGenerator<SnapshotBatch> {
    let entries: SnapshotEntry[] = []
    let bytes = 0
    const batch = (): SnapshotBatch => {
      const given = entries
      entries = []
      bytes = 0
      return { entries: given, release() {} }
    }
    for (const { path, node } of this.#nodes) {
      this.#options.signal.throwIfAborted()
      const entry = await this.#entry(path, node)
      entries.push(entry)
      if (entry.kind === 'file') bytes += entry.content?.length ?? batchBytesMax
      if (bytes >= batchBytesMax || entries.length >= batchEntriesMax) yield batch()
    }
    if (entries.length > 0) yield batch()
  }

  async #entry(path: EntryPath, node: TreeNode): Promise<SnapshotEntry> {
    switch (node.kind) {
      case 'directory':
        return { kind: 'directory', ...(await this.#metadata(path, await this.#stat(path))) }
      case 'symlink':
        return {
          kind: 'symlink',
          ...(await this.#metadata(path, await this.#stat(path))),
          target: node.target,
        }
      case 'file': {
        const first = this.#given.get(node.file)
        const file = await this.#fileOf(path, node.file)
        const metadata = await this.#metadata(path, await file.stat())
        if (first !== undefined) return { kind: 'hardlink', ...metadata, to: first }
        this.#given.set(node.file, path)
        return this.#file(metadata, node.file, file)
      }
      case 'other':
        throw new HotspareError(
          'unsupported',
          `'${displayPath(path)}' in the copy is a device, pipe or socket, which cannot be archived.`,
        )
    }
  }

  /** Its name may have gone since; then it has none of the metadata that could be carried. */
  async #stat(path: EntryPath): Promise<FileStat | undefined> {
    return this.#storage.stat(this.#place(path))
  }

  async #fileOf(path: EntryPath, file: CopyFile): Promise<StorageFile> {
    let open = this.#open.get(file)
    if (open === undefined) {
      open = await this.#storage.open(this.#place(path), 'read')
      this.#open.set(file, open)
    }
    return open
  }

  async #metadata(path: EntryPath, stat: FileStat | undefined): Promise<SnapshotMetadata> {
    const billion = 1_000_000_000n
    const mtimeNs = stat?.mtimeNs ?? 0n
    const nanoseconds = ((mtimeNs % billion) + billion) % billion
    const xattrs = stat === undefined ? {} : await this.#xattrs(path)
    return {
      path,
      mode: stat?.mode ?? 0o700,
      uid: stat?.uid ?? 0,
      gid: stat?.gid ?? 0,
      mtimeSeconds: Number((mtimeNs - nanoseconds) / billion),
      mtimeNanoseconds: Number(nanoseconds),
      xattrs: Object.keys(xattrs).length === 0 ? undefined : xattrs,
    }
  }

  async #xattrs(path: EntryPath): Promise<Record<string, Buffer>> {
    // its name may have gone since, and with it the only way to them
    if ((await this.#stat(path)) === undefined) return {}
    return this.#storage.xattrs(this.#place(path))
  }

  async #file(metadata: SnapshotMetadata, file: CopyFile, open: StorageFile): Promise<SnapshotFile> {
    const { blocks, size } = file
    assert(blocks.blockBytes === snapshotBlockBytes, 'digests of other blocks')
    const digests = blocks.slice(0, blocks.count)
    const base = { kind: 'file', ...metadata, size, digests } as const
    if (size <= smallContentBytesMax) {
      const content = size === 0 ? Buffer.alloc(0) : await this.#block(metadata.path, blocks, 0, open)
      await this.#done(file)
      return { ...base, extents: undefined, content, stream: undefined }
    }
    const { allocatedBytes } = await open.stat()
    const extents = allocatedBytes + snapshotBlockBytes < size ? extentsOf(digests, size) : undefined
    return {
      ...base,
      extents,
      content: undefined,
      stream: () => this.#stream(metadata.path, file, open, extents),
    }
  }

  async *#stream(
    path: EntryPath,
    file: CopyFile,
    open: StorageFile,
    extents: readonly SnapshotExtent[] | undefined,
  ): AsyncGenerator<Uint8Array> {
    const { blocks, size } = file
    const pieces = (extents ?? [{ offset: 0, length: size }]).flatMap(({ offset, length }) => {
      const first = offset / snapshotBlockBytes
      return Array.from({ length: Math.ceil(length / snapshotBlockBytes) }, (_, i) => first + i)
    })
    // the next block is read while one is taken
    let next = pieces[0] === undefined ? undefined : this.#block(path, blocks, pieces[0], open)
    try {
      for (let i = 0; i < pieces.length; i++) {
        const bytes = await next
        const following = pieces[i + 1]
        next = following === undefined ? undefined : this.#block(path, blocks, following, open)
        // seen where it is awaited
        next?.catch(() => {})
        if (bytes !== undefined) yield bytes
      }
    } finally {
      await next?.catch(() => {})
    }
    await this.#done(file)
  }

  async #block(path: EntryPath, blocks: BlockDigests, block: number, open: StorageFile): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(blocks.blockLength(block))
    const offset = block * snapshotBlockBytes
    const length = await open.read(bytes, offset)
    if (length === bytes.length && blocks.matches(block, bytes)) return bytes
    throw new HotspareError(
      'digest-mismatch',
      `'${displayPath(path)}' in the copy '${this.#options.path}' is not what was copied, in its bytes from ${offset}. Run 'hotspare check', and 'hotspare follow --resync' to repair it.`,
      { details: { path: displayPath(path), offset } },
    )
  }

  /** Other names of it need no more than that it was given. */
  async #done(file: CopyFile): Promise<void> {
    if (file.names.size > 1) return
    const open = this.#open.get(file)
    this.#open.delete(file)
    await open?.close()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const file of this.#open.values()) await file.close()
    this.#open.clear()
    await this.#reading.release()
  }
}

/** Blocks of zeros are holes; undefined when there are none. */
function extentsOf(digests: Uint8Array, size: number): readonly SnapshotExtent[] | undefined {
  const zeros = blake3(Buffer.alloc(snapshotBlockBytes))
  const extents: { offset: number; length: number }[] = []
  let holes = 0
  for (let block = 0; block * snapshotBlockBytes < size; block++) {
    const offset = block * snapshotBlockBytes
    const length = Math.min(snapshotBlockBytes, size - offset)
    const last = extents.at(-1)
    if (zeros.equals(digests.subarray(block * 32, block * 32 + 32))) holes++
    else if (last !== undefined && last.offset + last.length === offset) last.length += length
    else extents.push({ offset, length })
  }
  return holes === 0 ? undefined : extents
}
