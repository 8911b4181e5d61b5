/**
 * A snapshot as the bytes of a tar archive: headers, content, padding, the end. Nothing here knows where they go.
 */
import type { Snapshot, SnapshotEntry, SnapshotFile } from '../drivers/snapshot.ts'
import { HotspareError } from '../os/errors.ts'
import { displayPath } from '../stream/entry.ts'
import type { FrameQueue } from './frame-queue.ts'
import { HeaderWriter } from './header-writer.ts'
import { paddedBytes, wholeBytes } from './tar-format.ts'

export interface ArchiveContent {
  readonly members: number
  /** Of the files' content, holes included. */
  readonly bytes: number
  /** Of the last header: proves all of them. */
  readonly chain: string
}

export interface ArchiveStreamOptions {
  readonly snapshot: Snapshot
  /** What the file of a copy that is one file is called. */
  readonly ownName: string
  readonly signal: AbortSignal
  onProgress(done: { readonly bytes: number; readonly totalBytes: number }): void
}

/** Resolves when all was written to `frames`, the last of which is not sent on yet. */
export async function streamArchive(
  frames: FrameQueue,
  options: ArchiveStreamOptions,
): Promise<ArchiveContent> {
  const { snapshot, signal } = options
  const headers = new HeaderWriter(options.ownName)
  let bytes = 0
  frames.write(headers.begin())
  for await (const batch of snapshot.batches()) {
    try {
      for (const entry of batch.entries) {
        bytes += writeMember(frames, headers, entry)
        if (entry.kind === 'file' && entry.stream !== undefined) {
          await streamContent(frames, entry, signal)
        }
      }
    } finally {
      batch.release()
    }
    signal.throwIfAborted()
    await frames.room()
    const { totalBytes } = snapshot
    if (totalBytes !== undefined) options.onProgress({ bytes, totalBytes: Math.max(bytes, totalBytes) })
  }
  frames.write(headers.end())
  frames.writeZeros(wholeBytes(frames.written) - frames.written)
  return { members: headers.members, bytes, chain: headers.chain }
}

/** All of it, but the content of a large file. */
function writeMember(frames: FrameQueue, headers: HeaderWriter, entry: SnapshotEntry): number {
  const { bytes, map, dataBytes } = headers.member(entry)
  frames.write(bytes)
  if (map !== undefined) frames.write(map)
  if (entry.kind !== 'file') return 0
  const contentBytes = dataBytes - (map?.length ?? 0)
  if (entry.content !== undefined) {
    requireLength(entry, entry.content.length, contentBytes)
    frames.write(entry.content)
    frames.writeZeros(paddedBytes(dataBytes) - dataBytes)
  } else if (entry.stream === undefined) {
    requireLength(entry, 0, contentBytes)
  }
  return entry.size
}

async function streamContent(frames: FrameQueue, file: SnapshotFile, signal: AbortSignal): Promise<void> {
  const wanted = file.extents?.reduce((sum, { length }) => sum + length, 0) ?? file.size
  let bytes = 0
  for await (const piece of file.stream?.() ?? []) {
    frames.write(piece)
    bytes += piece.length
    signal.throwIfAborted()
    await frames.room()
  }
  requireLength(file, bytes, wanted)
  // a map has whole blocks
  frames.writeZeros(paddedBytes(wanted) - wanted)
}

function requireLength(file: SnapshotFile, found: number, wanted: number): void {
  if (found === wanted) return
  const path = displayPath(file.path)
  throw new HotspareError(
    'digest-mismatch',
    `'${path}' in the copy has ${found} bytes where ${wanted} were copied. Run 'hotspare check', and 'hotspare follow --resync' to repair it.`,
    { details: { path, expected: wanted, found } },
  )
}
