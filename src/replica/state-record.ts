/**
 * The bytes of a copy's state: groups of records, each group one or more frames of the state log.
 *
 *     payload   u8 format, u8 flags (1 last frame of its group, 2 of a snapshot), group number, records
 *     record    u8 kind, fields
 *
 * A group counts as a whole or not at all. Within it, names come before the content of files.
 */
import type { ConsistentCommit } from '../drivers/driver.ts'
import { HotspareError, unreachable } from '../os/errors.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import {
  type Commit,
  type EntryPath,
  entryPath,
  position,
  positionBytesMax,
  type StateDigest,
} from '../stream/entry.ts'
import { encodeFrame } from '../stream/frame.ts'
import { digestBytes } from './block-digests.ts'
import type { CopyFile, FileMark, NameOp } from './copy-tree.ts'

const formatVersion = 1
const frameBytesWanted = 256 * 1024

/** What a commit left: its position, and whether a copy that stops there opens. */
export type RecordedCommit = Pick<Commit, 'position' | 'consistent' | 'timeMs' | 'state'>

/** Without what a caller need not know. */
export function toRecorded({ position, consistent, timeMs, state }: Commit): RecordedCommit {
  return { position, consistent, timeMs, ...(state !== undefined && { state }) }
}

export function toConsistent({ position, timeMs, state }: RecordedCommit): ConsistentCommit {
  return { position, timeMs, ...(state !== undefined && { state }) }
}

export interface FileDelta {
  readonly file: number
  readonly size: number
  readonly mark: FileMark | undefined
  readonly firstBlock: number
  readonly digests: Uint8Array
}

/** Where the application of a journal stands: all before `offset` is durable in the copy; `end` is its last commit. */
export interface JournalProgress {
  readonly generation: number
  readonly offset: number
  readonly end: number
}

export type StateRecord =
  | { readonly kind: 'header'; readonly blockBytes: number }
  | { readonly kind: 'name'; readonly op: NameOp }
  | { readonly kind: 'delta'; readonly delta: FileDelta }
  | { readonly kind: 'commit'; readonly commit: RecordedCommit }
  | { readonly kind: 'applying'; readonly progress: JournalProgress }
  | { readonly kind: 'applied'; readonly generation: number }
  /** The names of this group are to be changed now that they are written down. */
  | { readonly kind: 'intent' }
  /** The names that were announced before are changed. */
  | { readonly kind: 'done' }
  /** Nothing was written to the copy after this group. */
  | { readonly kind: 'closed' }

const recordKinds: readonly StateRecord['kind'][] = [
  'header',
  'name',
  'delta',
  'commit',
  'applying',
  'applied',
  'intent',
  'closed',
  'done',
]
const opKinds: readonly NameOp['kind'][] = [
  'file',
  'directory',
  'symlink',
  'other',
  'link',
  'rename',
  'remove',
  'take',
]

/** The deltas that tell of a file's changed blocks, or of all; none of these may be stale. */
export function* fileDeltas(file: CopyFile, all: boolean): Generator<FileDelta> {
  const fixed = { file: file.id, size: file.size, mark: file.mark }
  const blocksMax = frameBytesWanted / digestBytes
  let given = false
  const runs = all ? [{ first: 0, end: file.blocks.count }] : file.blocks.changed.runs()
  for (const { first, end } of runs) {
    for (let at = first; at < end; at += blocksMax) {
      given = true
      yield { ...fixed, firstBlock: at, digests: file.blocks.slice(at, Math.min(end, at + blocksMax)) }
    }
  }
  if (!given) yield { ...fixed, firstBlock: 0, digests: new Uint8Array(0) }
}

/** A group as frames, ready to be appended. */
export function* encodeGroup(
  number: number,
  records: Iterable<StateRecord>,
  snapshot = false,
): Generator<Buffer> {
  const begin = (flags: number) =>
    new ByteWriter(1024)
      .u8(formatVersion)
      .u8(flags | (snapshot ? 2 : 0))
      .integer(number)
  let writer = begin(0)
  for (const record of records) {
    if (writer.length >= frameBytesWanted) {
      yield encodeFrame(writer.finish())
      writer = begin(0)
    }
    writeRecord(writer, record)
  }
  const payload = writer.finish()
  payload[1] = (payload[1] as number) | 1
  yield encodeFrame(payload)
}

function writeRecord(writer: ByteWriter, record: StateRecord): void {
  writer.u8(recordKinds.indexOf(record.kind))
  switch (record.kind) {
    case 'header':
      writer.integer(record.blockBytes)
      return
    case 'name':
      writeOp(writer, record.op)
      return
    case 'delta': {
      const { file, size, mark, firstBlock, digests } = record.delta
      writer
        .integer(file)
        .integer(size)
        .u8(mark === undefined ? 0 : 1)
      if (mark !== undefined)
        writer.int64(mark.mtimeNs).int64(mark.ctimeNs).int64(BigInt.asIntN(64, mark.inode))
      writer.integer(firstBlock).bytes(digests)
      return
    }
    case 'commit': {
      const { consistent, timeMs, state } = record.commit
      writer.u8((consistent ? 1 : 0) | (state === undefined ? 0 : 2))
      writer.float64(timeMs).text(record.commit.position)
      if (state !== undefined) writer.text(state)
      return
    }
    case 'applying':
      writer.integer(record.progress.generation).integer(record.progress.offset).integer(record.progress.end)
      return
    case 'applied':
      writer.integer(record.generation)
      return
    case 'intent':
    case 'done':
    case 'closed':
      return
    default:
      unreachable(record)
  }
}

function writeOp(writer: ByteWriter, op: NameOp): void {
  writer.u8(opKinds.indexOf(op.kind)).latin1(op.path)
  if (op.kind === 'file' || op.kind === 'take') writer.integer(op.file)
  if (op.kind === 'take') writer.integer(op.stage)
  if (op.kind === 'symlink') writer.latin1(op.target)
  if (op.kind === 'link' || op.kind === 'rename') writer.latin1(op.to)
}

export interface GroupFrame {
  readonly number: number
  readonly last: boolean
  readonly snapshot: boolean
  readonly records: () => StateRecord[]
}

export function decodeGroupFrame(payload: Uint8Array): GroupFrame {
  const reader = new ByteReader(payload)
  const version = reader.u8('the format')
  if (version !== formatVersion) {
    throw new HotspareError(
      'state-version',
      `The copy's state has format ${version}; this version knows ${formatVersion}. Use the version that wrote it, or --resync.`,
    )
  }
  const flags = reader.u8('the flags')
  const number = reader.integer('the number of a group')
  return {
    number,
    last: (flags & 1) !== 0,
    snapshot: (flags & 2) !== 0,
    records: () => {
      const records: StateRecord[] = []
      while (reader.remaining > 0) records.push(readRecord(reader))
      return records
    },
  }
}

function readRecord(reader: ByteReader): StateRecord {
  const kind = recordKinds[reader.u8('the kind of a record')]
  switch (kind) {
    case 'header':
      return { kind, blockBytes: reader.integer('the size of blocks') }
    case 'name':
      return { kind, op: readOp(reader) }
    case 'delta': {
      const file = reader.integer('a file')
      const size = reader.integer('its size')
      const mark =
        reader.u8('the mark') === 0
          ? undefined
          : {
              mtimeNs: reader.int64('the time'),
              ctimeNs: reader.int64('the time'),
              inode: BigInt.asUintN(64, reader.int64('the inode')),
            }
      const firstBlock = reader.integer('the first block')
      const digests = Uint8Array.from(reader.bytes('the digests', 2 * frameBytesWanted))
      if (digests.length % digestBytes !== 0) throw damaged('digests of an odd length')
      return { kind, delta: { file, size, mark, firstBlock, digests } }
    }
    case 'commit': {
      const flags = reader.u8('the flags')
      const timeMs = reader.float64('the time')
      const at = position(reader.text('the position', 3 * positionBytesMax))
      const commit = { position: at, consistent: (flags & 1) !== 0, timeMs }
      if ((flags & 2) === 0) return { kind, commit }
      return { kind, commit: { ...commit, state: reader.text('the state digest', 1024) as StateDigest } }
    }
    case 'applying':
      return {
        kind,
        progress: {
          generation: reader.integer('the generation'),
          offset: reader.integer('the offset'),
          end: reader.integer('the end'),
        },
      }
    case 'applied':
      return { kind, generation: reader.integer('the generation') }
    case 'intent':
    case 'done':
    case 'closed':
      return { kind }
    default:
      throw damaged('a record of an unknown kind')
  }
}

function readOp(reader: ByteReader): NameOp {
  const kind = opKinds[reader.u8('the kind of a change')]
  const path = readPath(reader)
  switch (kind) {
    case 'file':
      return { kind, path, file: reader.integer('a file') }
    case 'take':
      return { kind, path, file: reader.integer('a file'), stage: reader.integer('a new version') }
    case 'symlink':
      return { kind, path, target: reader.latin1('a link', 4096) }
    case 'link':
    case 'rename':
      return { kind, path, to: readPath(reader) }
    case 'directory':
    case 'other':
    case 'remove':
      return { kind, path }
    default:
      throw damaged('a change of an unknown kind')
  }
}

function readPath(reader: ByteReader): EntryPath {
  return entryPath(reader.latin1('a path', 4096))
}

function damaged(what: string): HotspareError {
  return new HotspareError(
    'state-damaged',
    `The copy's state is damaged: ${what}. Use --resync to compare anew.`,
  )
}
