/**
 * The snapshot of a SQLite copy: its newest whole transaction as one database file. A clone is made in the sidecar,
 * where it may share its blocks with the copy, and loses its name as soon as it is open: what a crash leaves of one that
 * was being made, the next snapshot removes.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { assert, HotspareError } from '../../os/errors.ts'
import type { Storage, StorageFile } from '../../os/storage.ts'
import { entryPath } from '../../stream/entry.ts'
import type { ConsistentCommit } from '../driver.ts'
import {
  type Snapshot,
  type SnapshotBatch,
  type SnapshotMetadata,
  type SnapshotOptions,
  smallContentBytesMax,
  snapshotBlockBytes,
} from '../snapshot.ts'
import { cloneSqliteCopy } from './clone.ts'

const digestBytes = 32
const placePrefix = 'archive-'

export async function snapshotSqliteCopy(options: SnapshotOptions): Promise<Snapshot> {
  const { storage, sidecar } = options
  await removeAbandoned(storage, sidecar)
  const place = `${sidecar}/${placePrefix}${process.pid}-${crypto.randomUUID().slice(0, 8)}`
  await storage.makeDirectory(place)
  const lock = await storage.lock(`${place}/lock`, 'exclusive')
  try {
    const destination = `${place}/clone`
    // the clone's own progress is another one's than that of what is made of it
    const { commit } = await cloneSqliteCopy({ ...options, destination, onProgress() {} })
    const file = await storage.open(destination, 'read')
    try {
      return await DatabaseFileSnapshot.open(options, file, commit)
    } catch (error) {
      await file.close()
      throw error
    }
  } finally {
    await storage.removeTree(place)
    await lock?.release()
  }
}

async function removeAbandoned(storage: Storage, sidecar: string): Promise<void> {
  if ((await storage.stat(sidecar)) === undefined) return
  for (const name of await storage.list(sidecar)) {
    if (!name.startsWith(placePrefix)) continue
    const lock = await storage.lock(`${sidecar}/${name}/lock`, 'exclusive')
    if (lock === undefined) continue
    await storage.removeTree(`${sidecar}/${name}`)
    await lock.release()
  }
}

class DatabaseFileSnapshot implements Snapshot {
  readonly commit: ConsistentCommit
  readonly consistent = true
  readonly totalBytes: number
  readonly totalEntries = 1
  readonly #options: SnapshotOptions
  readonly #file: StorageFile
  readonly #digests: Uint8Array
  readonly #metadata: SnapshotMetadata
  #closed = false

  /** Its digests are taken here; from then on the clone is what was recorded. */
  static async open(
    options: SnapshotOptions,
    file: StorageFile,
    commit: ConsistentCommit,
  ): Promise<DatabaseFileSnapshot> {
    const { storage, path, signal } = options
    const { size } = await file.stat()
    const digests = new Uint8Array(Math.ceil(size / snapshotBlockBytes) * digestBytes)
    const buffer = Buffer.allocUnsafe(snapshotBlockBytes)
    for (let block = 0; block * snapshotBlockBytes < size; block++) {
      signal.throwIfAborted()
      const bytes = await readBlock(file, buffer, block, size)
      digests.set(blake3(bytes), block * digestBytes)
    }
    const stat = await storage.stat(path)
    assert(stat !== undefined, 'a clone of nothing')
    const xattrs = await storage.xattrs(path)
    // the commit's time, since a checkpoint changes that of the file and nothing else
    const timeMs = Math.floor(commit.timeMs)
    const mtimeSeconds = Math.floor(timeMs / 1000)
    const metadata: SnapshotMetadata = {
      path: entryPath(''),
      mode: stat.mode,
      uid: stat.uid,
      gid: stat.gid,
      mtimeSeconds,
      mtimeNanoseconds: (timeMs - mtimeSeconds * 1000) * 1_000_000,
      xattrs: Object.keys(xattrs).length === 0 ? undefined : xattrs,
    }
    return new DatabaseFileSnapshot(options, file, commit, size, digests, metadata)
  }

  private constructor(
    options: SnapshotOptions,
    file: StorageFile,
    commit: ConsistentCommit,
    size: number,
    digests: Uint8Array,
    metadata: SnapshotMetadata,
  ) {
    this.#options = options
    this.#file = file
    this.commit = commit
    this.totalBytes = size
    this.#digests = digests
    this.#metadata = metadata
  }

  async *batches(): AsyncGenerator<SnapshotBatch> {
    const size = this.totalBytes
    const isSmall = size <= smallContentBytesMax
    const pieces: Uint8Array[] = []
    if (isSmall) for await (const piece of this.#stream()) pieces.push(piece)
    yield {
      entries: [
        {
          kind: 'file',
          ...this.#metadata,
          size,
          digests: this.#digests,
          extents: undefined,
          content: isSmall ? Buffer.concat(pieces) : undefined,
          stream: isSmall ? undefined : () => this.#stream(),
        },
      ],
      release() {},
    }
  }

  async *#stream(): AsyncGenerator<Uint8Array> {
    const size = this.totalBytes
    const buffers = [Buffer.allocUnsafe(snapshotBlockBytes), Buffer.allocUnsafe(snapshotBlockBytes)] as const
    const read = async (block: number): Promise<Buffer | undefined> => {
      if (block * snapshotBlockBytes >= size) return undefined
      const bytes = await readBlock(this.#file, buffers[block % 2 === 0 ? 0 : 1], block, size)
      if (blake3(bytes).equals(this.#digests.subarray(block * digestBytes, (block + 1) * digestBytes)))
        return bytes
      throw mismatch(this.#options.path, block * snapshotBlockBytes)
    }
    let next = read(0)
    try {
      for (let block = 0; ; block++) {
        this.#options.signal.throwIfAborted()
        const bytes = await next
        if (bytes === undefined) return
        // the block that its memory had was given, and is void now
        next = read(block + 1)
        next.catch(() => {})
        yield bytes
      }
    } finally {
      await next.catch(() => {})
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#file.close()
  }
}

async function readBlock(file: StorageFile, buffer: Buffer, block: number, size: number): Promise<Buffer> {
  const offset = block * snapshotBlockBytes
  const bytes = buffer.subarray(0, Math.min(snapshotBlockBytes, size - offset))
  const length = await file.read(bytes, offset)
  assert(length === bytes.length, 'the clone has become shorter')
  return bytes
}

function mismatch(path: string, offset: number): HotspareError {
  return new HotspareError(
    'digest-mismatch',
    `The clone of '${path}' reads differently the second time, in its bytes from ${offset}: the disk or the memory may be faulty.`,
    { details: { path, offset } },
  )
}
