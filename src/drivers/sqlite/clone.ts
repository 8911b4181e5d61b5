/**
 * A single clean database file from a copy, while it is followed: the database file (its blocks shared where the file
 * system can), and over it the committed frames of its log.
 *
 * The clone takes its name only when its bytes, read back, give the digest of a commit of the source.
 */
import { closeSync, fdatasync, ftruncateSync, openSync, read, write } from 'node:fs'
import { promisify } from 'node:util'
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import { parentDirectory } from '../../os/storage.ts'
import { tryReflink } from '../../os/syscalls.ts'
import type { CloneOptions, CloneReport, ConsistentCommit } from '../driver.ts'
import { digestFile, visitFrames } from './copy-pages.ts'
import { contentChanged, openCopySnapshot, sourceCommit, withScratchDigests } from './copy-snapshot.ts'
import type { CopyContent } from './copy-state.ts'
import type { DatabaseSnapshot } from './database-snapshot.ts'

const readAsync = promisify(read)
const writeAsync = promisify(write)
const fdatasyncAsync = promisify(fdatasync)
const chunkBytes = 1024 * 1024

export async function cloneSqliteCopy(options: CloneOptions): Promise<CloneReport> {
  const { destination, storage } = options
  try {
    if ((await storage.stat(destination)) !== undefined) {
      throw new HotspareError('usage', `${destination} exists already; name a clone that doesn't.`)
    }
    const temporary = `${destination}.${process.pid}.tmp`
    try {
      const report = await writeClone(options, temporary)
      await storage.rename(temporary, destination)
      await storage.syncDirectory(parentDirectory(destination))
      return report
    } finally {
      await storage.remove(temporary)
    }
  } catch (error) {
    throw describeSystemError(error, `Cloning ${options.path} to ${destination}`)
  }
}

async function writeClone(options: CloneOptions, temporary: string): Promise<CloneReport> {
  const { snapshot, contents } = await openCopySnapshot(options)
  try {
    const fd = openSync(temporary, 'wx+', 0o600)
    try {
      const method = await writePages(options, snapshot, fd)
      const commit = await verify(options, snapshot, fd, contents)
      await fdatasyncAsync(fd)
      return { method, bytes: snapshot.pages * snapshot.pageBytes, commit }
    } finally {
      closeSync(fd)
    }
  } finally {
    snapshot.close()
  }
}

async function writePages(
  options: CloneOptions,
  snapshot: DatabaseSnapshot,
  fd: number,
): Promise<CloneReport['method']> {
  const { pageBytes, pages } = snapshot
  const { signal } = options
  const method = tryReflink(snapshot.databaseFd, fd) ? 'reflink' : 'copy'
  if (method === 'copy') await copyFile(options, snapshot, fd)
  if (snapshot.walFd !== undefined) {
    await visitFrames(
      snapshot.walFd,
      snapshot.path,
      snapshot.log,
      async frame => {
        if (frame.page <= pages) await writeFully(fd, frame.data, (frame.page - 1) * pageBytes)
      },
      { signal },
    )
  }
  ftruncateSync(fd, pages * pageBytes)
  return method
}

async function copyFile(options: CloneOptions, snapshot: DatabaseSnapshot, fd: number): Promise<void> {
  const totalBytes = snapshot.fileBytes
  const buffer = Buffer.alloc(chunkBytes)
  for (let bytes = 0; bytes < totalBytes; ) {
    options.signal.throwIfAborted()
    const { bytesRead } = await readAsync(snapshot.databaseFd, buffer, 0, chunkBytes, bytes)
    if (bytesRead === 0) break
    await writeFully(fd, buffer.subarray(0, bytesRead), bytes)
    bytes += bytesRead
    options.onProgress({ bytes, totalBytes })
  }
}

/** Reads the clone back: which commit it is, or an error when it is none. */
function verify(
  options: CloneOptions,
  snapshot: DatabaseSnapshot,
  fd: number,
  contents: readonly CopyContent[],
): Promise<ConsistentCommit> {
  return withScratchDigests(options, 'clone', async digests => {
    await digestFile(fd, snapshot.pageBytes, digests, { signal: options.signal })
    const content = contents.find(candidate => candidate.state === digests.state)
    if (content === undefined) throw contentChanged(options.path, digests.state, contents[0]?.state)
    return sourceCommit(options.path, content)
  })
}

async function writeFully(fd: number, data: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await writeAsync(fd, data, done, data.length - done, offset + done)
    done += bytesWritten
  }
}
