/**
 * Makes an archive of a snapshot, and proves it.
 *
 *     snapshot --batches--> headers and content --frames--> compression --> file | stream
 *                                                                            |
 *                                       every digest  <-- parsed <-- decompressed
 *
 * A file is written under a temporary name beside it, read back, made durable, and takes its name by a rename: an
 * existing file is replaced only by a whole archive that was proved. A crash leaves the temporary name alone, which the
 * next archive to this directory removes. Whoever writes a temporary file holds a lock on it.
 *
 * Worst outcome: a disk that gives other bytes later than it gives now.
 */
import type { Writable } from 'node:stream'
import type { Snapshot } from '../drivers/snapshot.ts'
import { HotspareError, isSystemError } from '../os/errors.ts'
import { parentDirectory, type Storage } from '../os/storage.ts'
import { type ArchiveOutput, FileOutput, StreamOutput } from './archive-output.ts'
import { streamArchive } from './archive-stream.ts'
import type { ArchiveFormat } from './compression.ts'
import { FrameQueue } from './frame-queue.ts'
import { entryOfMember } from './header-writer.ts'
import { ReadBack } from './read-back.ts'

export interface WriteArchiveOptions {
  readonly snapshot: Snapshot
  readonly format: ArchiveFormat
  readonly level: number
  /** What the file of a copy that is one file is called. */
  readonly ownName: string
  readonly signal: AbortSignal
  /** Started before, for one archive; a new one when left out. Who started it closes it. */
  readonly readBack?: ReadBack
  onProgress(done: { readonly bytes: number; readonly totalBytes: number }): void
}

export interface ArchiveFigures {
  readonly members: number
  /** Of the files' content, holes included. */
  readonly bytes: number
  /** Of the tar archive. */
  readonly tarBytes: number
  /** Of what was written. */
  readonly archiveBytes: number
}

/** Throws `digest-mismatch` (the copy is not what was recorded), `archive-damaged` (read back, it was not right). */
export async function writeArchiveFile(
  storage: Storage,
  path: string,
  options: WriteArchiveOptions,
): Promise<ArchiveFigures> {
  const directory = parentDirectory(path)
  await removeAbandoned(storage, directory)
  const temporary = `${directory}/${temporaryPrefix}${process.pid}-${crypto.randomUUID().slice(0, 8)}`
  const lock = await storage.lock(temporary, 'exclusive')
  if (lock === undefined) throw new HotspareError('target-busy', `${temporary} is in use.`)
  try {
    try {
      const file = await storage.open(temporary, 'write')
      const figures = await writeTo(
        new FileOutput(file, temporary, options.format, options.readBack),
        options,
      )
      options.signal.throwIfAborted()
      await storage.rename(temporary, path)
      await storage.syncDirectory(directory)
      return figures
    } catch (error) {
      await storage.remove(temporary)
      throw error
    }
  } finally {
    await lock.release()
  }
}

/** The stream is not ended. What stands in it after a rejection is no whole archive. */
export function writeArchiveStream(stream: Writable, options: WriteArchiveOptions): Promise<ArchiveFigures> {
  return writeTo(new StreamOutput(stream, options.format, options.readBack), options)
}

/** Starts the thread that reads back, for `WriteArchiveOptions`; to be closed, whether it was used or not. */
export function startReadBack(): ReadBack {
  return new ReadBack()
}

const temporaryPrefix = '.hotspare-archive-'

/** Temporary files that nobody holds any more: what crashes have left. */
async function removeAbandoned(storage: Storage, directory: string): Promise<void> {
  for (const name of await storage.list(directory)) {
    if (!name.startsWith(temporaryPrefix)) continue
    try {
      await removeIfAbandoned(storage, `${directory}/${name}`)
    } catch (error) {
      // another user's, in a directory that is shared: it is theirs to clear up, and harms nothing of ours
      if (!isSystemError(error, 'EACCES', 'EPERM')) throw error
    }
  }
}

async function removeIfAbandoned(storage: Storage, path: string): Promise<void> {
  if ((await storage.stat(path))?.kind !== 'file') return
  const lock = await storage.lock(path, 'exclusive')
  if (lock === undefined) return
  try {
    await storage.remove(path)
  } finally {
    await lock.release()
  }
}

async function writeTo(output: ArchiveOutput, options: WriteArchiveOptions): Promise<ArchiveFigures> {
  const frames = new FrameQueue(options.format, options.level, frame => output.write(frame))
  try {
    const content = await streamArchive(frames, options)
    await frames.finish()
    const found = await output.finish()
    if (found.members !== content.members || found.chain !== content.chain) {
      throw new HotspareError(
        'archive-damaged',
        `The archive, read back, has ${found.members} members that end in ${found.chain}; ${content.members} that end in ${content.chain} were written. It was not kept.`,
      )
    }
    const { members, bytes } = content
    return { members, bytes, tarBytes: frames.rawBytes, archiveBytes: frames.bytes }
  } catch (error) {
    await blameCopy(error, options.snapshot)
    throw error
  } finally {
    await frames.close()
    await output.close()
  }
}

/** Content that is not what was recorded, read back: throws `digest-mismatch` when the copy itself is not. */
async function blameCopy(error: unknown, snapshot: Snapshot): Promise<void> {
  if (!(error instanceof HotspareError) || error.code !== 'archive-damaged') return
  const { member } = error.details
  if (typeof member !== 'string') return
  await snapshot.prove?.(entryOfMember(member)).catch(found => {
    // what keeps from looking is no news beside the archive's own fault, which is thrown
    if (found instanceof HotspareError && found.code === 'digest-mismatch') throw found
  })
}
