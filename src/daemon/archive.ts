import type { Writable } from 'node:stream'
import type { ArchiveFormat } from '../archive/compression.ts'
import type { ReadBack } from '../archive/read-back.ts'
import type { TarMember } from '../archive/tar-member.ts'
import type { ArchiveVerification } from '../archive/verify-archive.ts'
import type { ArchiveFigures, WriteArchiveOptions } from '../archive/write-archive.ts'
import type { ConsistentCommit, Machine, Notice } from '../drivers/driver.ts'
import type { Snapshot } from '../drivers/snapshot.ts'
import { describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import { isWithin, realPath } from '../os/real-path.ts'
import { parentDirectory, type Storage } from '../os/storage.ts'
import { displayPath } from '../stream/entry.ts'
import { type CopyRequest, type OpenCopy, openCopy } from './copy.ts'
import { localMachine } from './machine.ts'
import { absolutePath } from './paths.ts'

export interface ArchiveRequest extends CopyRequest {
  /** The archive to make (one that is there is replaced when the new one is whole), or a stream that gets it. */
  readonly to: string | Writable
  /** By the name's end when left out. */
  readonly format?: ArchiveFormat
  /** Of the compression: zstd 1 to 19 (2), gzip 1 to 9 (6). */
  readonly level?: number
  /** Refuse a copy that was never read inside a window. */
  readonly consistent?: boolean
}

export interface ArchiveResult extends ArchiveFigures {
  readonly driver: string
  /** Absolute paths; no file for a stream. */
  readonly target: string
  readonly file?: string
  readonly format: ArchiveFormat
  readonly commit: ConsistentCommit
  /** The copy was read at a moment at which it was proved consistent. */
  readonly consistent: boolean
  readonly elapsedMs: number
}

/**
 * Makes an archive of a copy's newest consistent state, also while it is followed. It is read back and proved before it
 * takes its name. Rejects with `target-missing`, `target-incomplete`, `digest-mismatch` (the copy is not what was
 * recorded), `archive-damaged` (read back, it was not what was written), or with what the machine said; then a file that
 * was there is as it was.
 */
export async function archive(request: ArchiveRequest): Promise<ArchiveResult> {
  const named = typeof request.to === 'string' ? request.to : 'the output'
  try {
    return await archiveCopy(request)
  } catch (error) {
    throw describeSystemError(error, `Archiving ${request.target} to ${named}`)
  }
}

async function archiveCopy(request: ArchiveRequest): Promise<ArchiveResult> {
  const { compression, writing } = await loadWriting()
  const format = formatOf(request, compression)
  const level = levelOf(request, format, compression)
  // it loads what it needs while the copy is opened
  const readBack = writing.startReadBack()
  try {
    return await archiveOpened(await openCopy(request), request, { writing, readBack, format, level })
  } finally {
    await readBack.close()
  }
}

interface Writing {
  readonly writing: typeof import('../archive/write-archive.ts')
  readonly readBack: ReadBack
  readonly format: ArchiveFormat
  readonly level: number
}

async function archiveOpened(
  copy: OpenCopy,
  request: ArchiveRequest,
  { writing, readBack, format, level }: Writing,
): Promise<ArchiveResult> {
  const { place, machine, options } = copy
  const startedMs = machine.clock.nowMs()
  const file = typeof request.to === 'string' ? await filePlace(machine.storage, copy, request.to) : undefined
  const snapshot = await openSnapshot(copy, { provedLater: true })
  try {
    judgeConsistency(snapshot, request, place.target)
    const write: WriteArchiveOptions = {
      snapshot,
      format,
      level,
      ownName: Buffer.from(fileName(place.target)).toString('latin1'),
      signal: options.signal,
      readBack,
      onProgress: options.onProgress,
    }
    const figures =
      typeof request.to === 'string'
        ? await writing.writeArchiveFile(machine.storage, file as string, write)
        : await writing.writeArchiveStream(request.to, write)
    return {
      driver: place.driver.name,
      target: place.target,
      ...(file === undefined ? {} : { file }),
      format,
      ...figures,
      commit: snapshot.commit,
      consistent: snapshot.consistent,
      elapsedMs: machine.clock.nowMs() - startedMs,
    }
  } finally {
    await snapshot.close()
  }
}

/** Compression and digests are not loaded by commands that do without. */
async function loadWriting() {
  const [compression, writing] = await Promise.all([
    import('../archive/compression.ts'),
    import('../archive/write-archive.ts'),
  ])
  return { compression, writing }
}

type Compression = typeof import('../archive/compression.ts')

function formatOf(
  { to, format }: ArchiveRequest,
  { archiveFormats, formatOfName }: Compression,
): ArchiveFormat {
  if (format !== undefined) {
    if (archiveFormats.includes(format)) return format
    throw new HotspareError('usage', `There is no format '${format}'. Formats: ${archiveFormats.join(', ')}.`)
  }
  if (typeof to !== 'string') {
    throw new HotspareError('usage', `Say the format of the archive: ${archiveFormats.join(', ')}.`)
  }
  const found = formatOfName(to)
  if (found !== undefined) return found
  throw new HotspareError(
    'usage',
    `The name ${to} does not say what kind of archive is wanted: end it in .tar, .tar.gz, .tgz or .tar.zst, or say --format.`,
  )
}

function levelOf({ level }: ArchiveRequest, format: ArchiveFormat, { levels }: Compression): number {
  const { min, max, usual } = levels[format]
  if (level === undefined) return usual
  if (Number.isInteger(level) && level >= min && level <= max) return level
  throw new HotspareError(
    'usage',
    max === 0
      ? 'A .tar is not compressed: it has no level.'
      : `The level of a .${format} is ${min} to ${max}.`,
  )
}

async function filePlace(storage: Storage, { place }: OpenCopy, wanted: string): Promise<string> {
  const path = await realPath(storage, absolutePath(wanted))
  const stat = await storage.stat(path)
  if (stat !== undefined && stat.kind !== 'file') {
    throw new HotspareError('usage', `${path} is no file: an archive cannot take its place.`)
  }
  if ((await storage.stat(parentDirectory(path)))?.kind !== 'directory') {
    throw new HotspareError('target-missing', `There is no directory ${parentDirectory(path)} to put it in.`)
  }
  if (isWithin(path, place.target) || isWithin(path, place.sidecar)) {
    throw new HotspareError(
      'target-inside-source',
      `${path} lies inside the copy ${place.target}. Choose a place outside of it.`,
    )
  }
  return path
}

async function openSnapshot(
  { place, options }: OpenCopy,
  how: { readonly provedLater?: boolean } = {},
): Promise<Snapshot> {
  if (place.driver.snapshot === undefined) {
    throw new HotspareError('unsupported', `Copies of the driver ${place.driver.name} cannot be archived.`)
  }
  return place.driver.snapshot({ ...options, ...how })
}

function judgeConsistency(snapshot: Snapshot, request: ArchiveRequest, target: string): void {
  if (snapshot.consistent) return
  const why = `${target} was never read inside a maintenance window: it is the last whole pass over a store that may have been written to meanwhile`
  if (request.consistent === true) {
    throw new HotspareError('target-incomplete', `${why}. Run 'hotspare mirror' first.`)
  }
  const notice: Notice = { code: 'not-consistent', message: `${why}.` }
  request.onNotice?.(notice)
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** What every act on an archive that is there takes. */
export interface ArchiveReading {
  readonly file: string
  readonly signal?: AbortSignal
  readonly onProgress?: (done: { readonly bytes: number; readonly totalBytes: number }) => void
  readonly machine?: Machine
}

/** One member of an archive. Paths are for people: what is not UTF-8, or would act on a terminal, is escaped. */
export interface ArchiveMember {
  readonly path: string
  readonly kind: TarMember['kind']
  readonly size: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly userName?: string
  readonly groupName?: string
  /** Milliseconds since 1970. */
  readonly timeMs: number
  /** Where a symbolic or hard link leads. */
  readonly link?: string
  readonly attributes: number
}

/** Lists an archive of any tar. Rejects with `source-missing`, or `archive-damaged` after what could be read. */
export async function* listArchive(request: ArchiveReading): AsyncGenerator<ArchiveMember> {
  const file = absolutePath(request.file)
  try {
    const { membersOf } = await import('../archive/list-archive.ts')
    const { storage } = request.machine ?? localMachine
    for await (const member of membersOf(storage, file, readingOptions(request))) yield toMember(member)
  } catch (error) {
    throw describeReadingError(error, file, 'Listing')
  }
}

export interface VerifyArchiveRequest extends ArchiveReading {
  /** A copy to compare it with. */
  readonly against?: string
  readonly onNotice?: (notice: Notice) => void
}

export interface VerifyArchiveResult extends ArchiveVerification {
  readonly file: string
  readonly against?: string
  readonly elapsedMs: number
}

/** An archive that does not hold is a result (`valid: false`); what keeps from looking is a rejection. */
export async function verifyArchive(request: VerifyArchiveRequest): Promise<VerifyArchiveResult> {
  const file = absolutePath(request.file)
  const { storage, clock } = request.machine ?? localMachine
  const startedMs = clock.nowMs()
  const { examineArchive } = await import('../archive/verify-archive.ts')
  const against =
    request.against === undefined ? undefined : await snapshotToCompare(request, request.against)
  try {
    const options = readingOptions(request)
    const verification = await examineArchive(storage, file, options, against?.snapshot)
    return {
      file,
      ...(against === undefined ? {} : { against: against.target }),
      ...verification,
      elapsedMs: clock.nowMs() - startedMs,
    }
  } catch (error) {
    throw describeReadingError(error, file, 'Verifying')
  } finally {
    await against?.snapshot.close()
  }
}

async function snapshotToCompare(
  request: VerifyArchiveRequest,
  target: string,
): Promise<{ readonly snapshot: Snapshot; readonly target: string }> {
  const { onNotice, signal, machine } = request
  try {
    const copy = await openCopy({
      target,
      ...(onNotice === undefined ? {} : { onNotice }),
      ...(signal === undefined ? {} : { signal }),
      ...(machine === undefined ? {} : { machine }),
    })
    return { snapshot: await openSnapshot(copy), target: copy.place.target }
  } catch (error) {
    throw describeSystemError(error, `Reading ${target}`)
  }
}

function readingOptions({ signal, onProgress }: ArchiveReading) {
  return { signal: signal ?? new AbortController().signal, onProgress: onProgress ?? (() => {}) }
}

function describeReadingError(error: unknown, file: string, doing: string): unknown {
  if (isSystemError(error, 'ENOENT', 'ENOTDIR')) {
    return new HotspareError('source-missing', `There is no archive ${file}.`, { cause: error })
  }
  if (isSystemError(error, 'EISDIR')) {
    return new HotspareError('usage', `${file} is a directory, not an archive.`, { cause: error })
  }
  return describeSystemError(error, `${doing} ${file}`)
}

function toMember(member: TarMember): ArchiveMember {
  const { kind, size, mode, uid, gid, userName, groupName } = member
  return {
    path: shown(member.path),
    kind,
    size: kind === 'file' ? size : 0,
    mode,
    uid,
    gid,
    ...(userName === '' ? {} : { userName: shown(userName) }),
    ...(groupName === '' ? {} : { groupName: shown(groupName) }),
    timeMs: member.mtimeSeconds * 1000 + Math.floor(member.mtimeNanoseconds / 1_000_000),
    ...(kind === 'symlink' || kind === 'hardlink' ? { link: shown(member.link) } : {}),
    attributes: member.attributes.length,
  }
}

/** A name from anywhere must not act on the terminal. */
function shown(latin1: string): string {
  return displayPath(latin1).replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    /[\x00-\x1f\x7f-\x9f]/g,
    c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
