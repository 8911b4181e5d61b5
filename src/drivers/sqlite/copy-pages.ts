/**
 * Reads what a copy really holds: the pages of its database file, and over them the committed frames of its own log.
 *
 * Whoever calls holds a read transaction (or the write lock) of the engine, so that nobody restarts the log. Pages
 * that a checkpoint may be writing meanwhile are all among the frames, which go over them: nothing torn is seen.
 */
import { type BigIntStats, fstatSync, read as readCallback, readSync } from 'node:fs'
import { promisify } from 'node:util'
import { HotspareError } from '../../os/errors.ts'
import { lockPage } from './database-header.ts'
import type { PageDigests } from './page-digests.ts'
import {
  frameChecksum,
  frameHeaderBytes,
  frameOffset,
  parseFrameHeader,
  parseWalHeader,
  walHeaderBytes,
} from './wal-format.ts'

const readAsync = promisify(readCallback)
const chunkBytes = 1024 * 1024

export interface CommittedLog {
  readonly lastFrame: number
  readonly salt1: number
  readonly salt2: number
}

export interface Frame {
  readonly page: number
  /** 0, or the size of the database in pages after the commit that this frame ends. */
  readonly commitPages: number
  readonly data: Buffer
}

export interface ReadProgress {
  readonly signal?: AbortSignal
  onBytes?(bytes: number): void
}

/** Gives the frames up to the last committed one, their chain of checksums verified. `data` is valid during the visit. */
export async function visitFrames(
  fd: number,
  path: string,
  log: CommittedLog,
  visit: (frame: Frame) => void | Promise<void>,
  progress: ReadProgress = {},
): Promise<void> {
  if (log.lastFrame === 0) return
  const headerBytes = Buffer.alloc(walHeaderBytes)
  readSync(fd, headerBytes, 0, walHeaderBytes, 0)
  const header = parseWalHeader(headerBytes)
  if (header === undefined || header.salt1 !== log.salt1 || header.salt2 !== log.salt2) {
    throw new HotspareError('target-invalid', `${path}-wal is not the log that its index describes.`)
  }
  const frameBytes = frameHeaderBytes + header.pageBytes
  const framesAtOnce = Math.max(1, Math.floor(chunkBytes / frameBytes))
  const buffer = Buffer.alloc(framesAtOnce * frameBytes)
  let checksum = header.checksum
  for (let first = 1; first <= log.lastFrame; first += framesAtOnce) {
    progress.signal?.throwIfAborted()
    const count = Math.min(framesAtOnce, log.lastFrame - first + 1)
    const bytesRead = await readFully(
      fd,
      buffer.subarray(0, count * frameBytes),
      frameOffset(first, header.pageBytes),
    )
    for (let i = 0; i < count; i++) {
      const at = i * frameBytes
      const frame = parseFrameHeader(buffer, at)
      checksum = frameChecksum(buffer, at, header, checksum)
      const whole =
        bytesRead >= at + frameBytes &&
        frame.salt1 === header.salt1 &&
        frame.salt2 === header.salt2 &&
        frame.checksum.s1 === checksum.s1 &&
        frame.checksum.s2 === checksum.s2
      if (!whole) {
        throw new HotspareError(
          'target-invalid',
          `${path}-wal is damaged at frame ${first + i} of ${log.lastFrame} committed ones.`,
        )
      }
      const data = buffer.subarray(at + frameHeaderBytes, at + frameBytes)
      const visited = visit({ page: frame.page, commitPages: frame.commitPages, data })
      if (visited !== undefined) await visited
    }
    progress.onBytes?.(count * frameBytes)
  }
}

/** Brings the digests of what the database file holds to what the copy holds. */
export function overlayFrames(
  fd: number,
  path: string,
  log: CommittedLog,
  digests: PageDigests,
  progress: ReadProgress = {},
): Promise<void> {
  return visitFrames(
    fd,
    path,
    log,
    frame => {
      digests.update(frame.page, frame.data)
      if (frame.commitPages > 0) digests.resize(frame.commitPages)
    },
    progress,
  )
}

/** Takes the digests of all whole pages of a database file. */
export async function digestFile(
  fd: number,
  pageBytes: number,
  digests: PageDigests,
  progress: ReadProgress = {},
): Promise<void> {
  digests.clear()
  const pages = Math.floor(fstatSync(fd).size / pageBytes)
  await digestPages(fd, pageBytes, digests, { first: 1, last: pages }, progress)
  digests.resize(pages)
}

/** Reads some pages of a file, and takes them into the digests. */
export async function digestPages(
  fd: number,
  pageBytes: number,
  digests: PageDigests,
  { first, last }: { readonly first: number; readonly last: number },
  progress: ReadProgress = {},
): Promise<void> {
  const skipped = lockPage(pageBytes)
  const pagesAtOnce = Math.max(1, Math.min(Math.floor(chunkBytes / pageBytes), last - first + 1))
  // two buffers: one is read while the other is digested
  const buffers = [Buffer.alloc(pagesAtOnce * pageBytes), Buffer.alloc(pagesAtOnce * pageBytes)]
  const start = (page: number, turn: number): Promise<number> => {
    const count = Math.min(pagesAtOnce, last - page + 1)
    const target = (buffers[turn % 2] as Buffer).subarray(0, Math.max(0, count) * pageBytes)
    return count <= 0 ? Promise.resolve(0) : readFully(fd, target, (page - 1) * pageBytes)
  }
  let pending = start(first, 0)
  for (let from = first, turn = 0; from <= last; from += pagesAtOnce, turn++) {
    const bytesRead = await pending
    progress.signal?.throwIfAborted()
    pending = start(from + pagesAtOnce, turn + 1)
    const buffer = buffers[turn % 2] as Buffer
    for (let at = 0, page = from; at + pageBytes <= bytesRead; at += pageBytes, page++) {
      if (page !== skipped) digests.update(page, buffer.subarray(at, at + pageBytes))
    }
    progress.onBytes?.(bytesRead)
  }
  await pending
}

/** A page as the last commit left it. */
export function readPage(
  fds: { database: number; wal: number },
  pageBytes: number,
  frame: number | undefined,
  page: number,
): Buffer {
  const data = Buffer.alloc(pageBytes)
  const [fd, offset] =
    frame === undefined
      ? [fds.database, (page - 1) * pageBytes]
      : [fds.wal, frameOffset(frame, pageBytes) + frameHeaderBytes]
  const length = readSync(fd, data, 0, pageBytes, offset)
  if (length === pageBytes) return data
  throw new HotspareError('target-invalid', `The copy ends within page ${page}.`)
}

/** What tells a database file from what it was at another time, without reading it. */
export function fileIdentity(fd: number): string {
  return identityOf(fstatSync(fd, { bigint: true }))
}

export function identityOf(stat: BigIntStats): string {
  return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`
}

async function readFully(fd: number, target: Buffer, offset: number): Promise<number> {
  let done = 0
  while (done < target.length) {
    const { bytesRead } = await readAsync(fd, target, done, target.length - done, offset + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}
