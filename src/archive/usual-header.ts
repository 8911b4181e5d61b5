/**
 * The header blocks of nearly every member of an archive of ours, read from their bytes at a fraction of the cost: a
 * file whose records are a time, if any, and a mark. What is in the least different is left to `parseMember`, which
 * would give the same member.
 */
import { chainLength, type Mark } from './archive-mark.ts'
import { blockBytes, field, isChecksumRight, readNumber, readText, typeflag } from './tar-format.ts'
import type { TarMember } from './tar-member.ts'

/** Of records, a block, and the member's own header. */
export const usualHeaderBytes = 3 * blockBytes

const timeRecord = Buffer.from(' mtime=')
const markRecord = Buffer.from('61 comment=hotspare1 ')
const markRecordBytes = 61
const contentLength = 22
const ustarMagic = Buffer.from('ustar\x0000')
const digitsMax = 15

/**
 * `area` is `usualHeaderBytes` long and begins with a header for so many bytes of records, whose checksum is right;
 * `offset` is where it stands in the archive. Undefined when it is not the usual.
 */
export function parseUsualHeader(area: Buffer, recordBytes: number, offset: number): TarMember | undefined {
  const markAt = blockBytes + recordBytes - markRecordBytes
  if (recordBytes > blockBytes || markAt < blockBytes) return undefined
  if (!holds(area, markAt, markRecord) || area[blockBytes + recordBytes - 1] !== newline) return undefined
  if (area[main + field.typeflag.at] !== typeflag.file.charCodeAt(0)) return undefined
  if (!holds(area, main + field.magic.at, ustarMagic) || area[main + userNameAt] !== 0) return undefined
  if (area[main + groupNameAt] !== 0 || area[main] === 0) return undefined
  const time = parseTime(area, markAt)
  const header = area.subarray(main)
  if (time === undefined || !isChecksumRight(header)) return undefined
  const size = readNumber(header, field.size)
  const mode = readNumber(header, field.mode)
  const uid = readNumber(header, field.uid)
  const gid = readNumber(header, field.gid)
  const mtimeSeconds = time.seconds ?? readNumber(header, field.mtime)
  if (size === undefined || size < 0 || mode === undefined) return undefined
  if (uid === undefined || gid === undefined || mtimeSeconds === undefined) return undefined
  const mark = markOf(area, markAt + markRecord.length)
  if (mark === undefined) return undefined
  const name = readText(header, field.name)
  const prefix = header[field.prefix.at] === 0 ? '' : readText(header, field.prefix)
  return {
    offset,
    path: prefix === '' ? name : `${prefix}/${name}`,
    kind: 'file',
    type: typeflag.file,
    size,
    dataBytes: size,
    mode: mode & 0o7777,
    uid,
    gid,
    mtimeSeconds,
    mtimeNanoseconds: time.nanoseconds,
    link: header[field.linkname.at] === 0 ? '' : readText(header, field.linkname),
    userName: '',
    groupName: '',
    attributes: [],
    sparse: 'no',
    mark,
    chainAt: markAt + commentValueAt,
  }
}

const newline = 0x0a
const space = 0x20
const dot = 0x2e
const main = 2 * blockBytes
const userNameAt = 265
const groupNameAt = 297
/** In the mark's record. */
const commentValueAt = '61 comment='.length

function holds(area: Buffer, at: number, bytes: Buffer): boolean {
  for (let i = 0; i < bytes.length; i++) if (area[at + i] !== bytes[i]) return false
  return true
}

function markOf(area: Buffer, at: number): Mark | undefined {
  const contentAt = at + chainLength + 1
  if (area[contentAt - 1] !== space) return undefined
  const chain = area.toString('latin1', at, at + chainLength)
  const content = area.toString('latin1', contentAt, contentAt + contentLength)
  return { chain, tail: { kind: 'member', content } }
}

interface UsualTime {
  /** Undefined when no record says it. */
  readonly seconds: number | undefined
  readonly nanoseconds: number
}

const noTime: UsualTime = { seconds: undefined, nanoseconds: 0 }

/** Of a record that begins the records and ends at `end`: since 1970, a fraction of at most 9 digits. */
function parseTime(area: Buffer, end: number): UsualTime | undefined {
  if (end === blockBytes) return noTime
  const length = digit(area, blockBytes) * 10 + digit(area, blockBytes + 1)
  if (length !== end - blockBytes || !holds(area, blockBytes + 2, timeRecord) || area[end - 1] !== newline)
    return undefined
  const start = blockBytes + 2 + timeRecord.length
  let at = start
  let seconds = 0
  for (; at < end - 1 && area[at] !== dot; at++) seconds = seconds * 10 + digit(area, at)
  if (at === start || at - start > digitsMax) return undefined
  if (at === end - 1) return Number.isNaN(seconds) ? undefined : { seconds, nanoseconds: 0 }
  let nanoseconds = 0
  let digits = 0
  for (at++; at < end - 1; at++, digits++) nanoseconds = nanoseconds * 10 + digit(area, at)
  if (digits > 9) return undefined
  for (; digits < 9; digits++) nanoseconds *= 10
  return Number.isNaN(seconds + nanoseconds) ? undefined : { seconds, nanoseconds }
}

/** NaN when it is none. */
function digit(area: Buffer, at: number): number {
  const value = (area[at] as number) - 0x30
  return value >= 0 && value <= 9 ? value : Number.NaN
}
