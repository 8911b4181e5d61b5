/**
 * The header blocks of an archive's members, in pax format: what fits a ustar header stands there, all else in records
 * before it. Nothing in them depends on when or where they are written: no names of users, no times of access, no
 * process's number. Each ends with a mark by which it is proved (archive-mark.ts).
 */
import type { SnapshotEntry, SnapshotExtent, SnapshotFile } from '../drivers/snapshot.ts'
import type { EntryPath } from '../stream/entry.ts'
import { xattrRecord } from './acl-text.ts'
import {
  beginMark,
  chainLength,
  chainOffset,
  chainStart,
  endMark,
  memberMark,
  nextChain,
} from './archive-mark.ts'
import { contentDigest } from './content-digest.ts'
import { MainHeader, putCommon, ustarSplit } from './main-header.ts'
import { encodeXattrName, paxRecord, paxTime } from './pax-records.ts'
import { sparseMap, sparseNamePrefix } from './sparse-map.ts'
import {
  blockBytes,
  field,
  idMax,
  nameBytesMax,
  paddedBytes,
  putChecksum,
  putOctal,
  sizeMax,
  typeflag,
} from './tar-format.ts'
import { UsualHeaderWriter } from './usual-header-writer.ts'

export interface MemberHeader {
  /** A view, void when the next header is made. */
  readonly bytes: Buffer
  /** What stands before the content: the map of a sparse file. */
  readonly map: Buffer | undefined
  /** Of map and content together, without padding. */
  readonly dataBytes: number
}

const paxName = 'PaxHeader'
/** Headers for records of up to so many bytes are kept. */
const paxHeadersMax = 1024

export class HeaderWriter {
  /** What the one file is called whose copy is no directory. */
  readonly #ownName: string
  #area = Buffer.alloc(64 * 1024)
  #chain = chainStart
  #members = 0
  readonly #paxHeaders = new Map<number, Buffer>()
  readonly #main = new MainHeader()
  readonly #usual = new UsualHeaderWriter(length => this.#paxHeader(length, typeflag.pax), this.#main)

  constructor(ownName: string) {
    this.#ownName = ownName
  }

  get members(): number {
    return this.#members
  }

  get chain(): string {
    return this.#chain
  }

  begin(): Buffer {
    return this.#global(beginMark)
  }

  end(): Buffer {
    return this.#global(endMark(this.#members))
  }

  #global(mark: string): Buffer {
    const records = paxRecord('comment', mark)
    const recordBytes = paddedBytes(records.length)
    const area = this.#reserve(blockBytes + recordBytes)
    this.#putPax(area, records, typeflag.paxGlobal)
    return this.#seal(area, records, mark)
  }

  member(entry: SnapshotEntry): MemberHeader {
    this.#members++
    const chainAt = entry.kind === 'file' ? this.#usual.put(entry) : undefined
    if (entry.kind !== 'file' || chainAt === undefined) return this.#anyMember(entry)
    return { bytes: this.#putChain(this.#usual.area, chainAt), map: undefined, dataBytes: entry.size }
  }

  #anyMember(entry: SnapshotEntry): MemberHeader {
    const path = this.#pathOf(entry)
    const file = entry.kind === 'file' ? entry : undefined
    const map = file?.extents === undefined ? undefined : sparseMap(file.extents, file.size)
    const contentBytes = file === undefined ? 0 : extentBytes(file)
    const dataBytes = contentBytes + (map?.length ?? 0)
    const name = map === undefined ? path : sparseNamePrefix + path.replace(/^\.\//, '')
    const link = linkOf(entry)
    const mark = memberMark(file === undefined ? undefined : contentDigest(file.digests))
    const records =
      textRecords(name, link) +
      numberRecords(entry, dataBytes) +
      xattrRecords(entry) +
      (map === undefined || file === undefined ? '' : sparseRecords(path, file.size)) +
      paxRecord('comment', mark)
    const recordBytes = paddedBytes(records.length)
    const area = this.#reserve(2 * blockBytes + recordBytes)
    this.#putPax(area, records, typeflag.pax)
    this.#main.put(area, blockBytes + recordBytes, entry, name, link, dataBytes)
    return { bytes: this.#seal(area, records, mark), map, dataBytes }
  }

  #pathOf(entry: SnapshotEntry): string {
    if (entry.path === '' && entry.kind !== 'directory') return this.#ownName
    if (entry.kind !== 'directory') return `./${entry.path}`
    return entry.path === '' ? './' : `./${entry.path}/`
  }

  #reserve(bytes: number): Buffer {
    if (this.#area.length < bytes) this.#area = Buffer.alloc(2 * bytes)
    return this.#area.subarray(0, bytes)
  }

  #putPax(area: Buffer, records: string, type: string): void {
    area.set(this.#paxHeader(records.length, type))
    area.write(records, blockBytes, 'latin1')
    area.fill(0, blockBytes + records.length, blockBytes + paddedBytes(records.length))
  }

  /** Most are the same: only the length of the records differs. */
  #paxHeader(length: number, type: string): Buffer {
    const known = this.#paxHeaders.get(length)
    if (known !== undefined && type === typeflag.pax) return known
    const header = Buffer.alloc(blockBytes)
    putCommon(header, type)
    header.write(paxName, 0, 'latin1')
    putOctal(header, 0, field.mode, 0o644)
    putOctal(header, 0, field.uid, 0)
    putOctal(header, 0, field.gid, 0)
    putOctal(header, 0, field.size, length)
    putOctal(header, 0, field.mtime, 0)
    putChecksum(header)
    if (type === typeflag.pax && length < paxHeadersMax) this.#paxHeaders.set(length, header)
    return header
  }

  #seal(area: Buffer, records: string, mark: string): Buffer {
    return this.#putChain(area, blockBytes + records.length - 1 - mark.length + chainOffset)
  }

  #putChain(area: Buffer, chainAt: number): Buffer {
    this.#chain = nextChain(area, chainAt, this.#chain)
    area.write(this.#chain, chainAt, chainLength, 'latin1')
    return area
  }
}

/** The path of the entry that is called so in an archive, when it is a file in a directory. */
export function entryOfMember(path: string): EntryPath {
  return path.replace(/^\.\//, '') as EntryPath
}

/** How many bytes of content stand in the archive: without holes. */
export function extentBytes(file: SnapshotFile): number {
  return file.extents === undefined
    ? file.size
    : file.extents.reduce((sum: number, { length }: SnapshotExtent) => sum + length, 0)
}

function linkOf(entry: SnapshotEntry): string {
  return entry.kind === 'symlink' ? entry.target : entry.kind === 'hardlink' ? `./${entry.to}` : ''
}

function isAscii(latin1: string): boolean {
  for (let i = 0; i < latin1.length; i++) if (latin1.charCodeAt(i) > 0x7e) return false
  return true
}

function isUtf8(latin1: string): boolean {
  const bytes = Buffer.from(latin1, 'latin1')
  return Buffer.from(bytes.toString('utf8'), 'utf8').equals(bytes)
}

/** Text beyond what a ustar header can say: longer, or not ASCII. What is not UTF-8 and fits stays in the header. */
function textRecords(name: string, link: string): string {
  const isPlain = name.length <= nameBytesMax && link.length <= nameBytesMax && isAscii(name) && isAscii(link)
  if (isPlain) return ''
  const records: string[] = []
  let isBinary = false
  for (const [keyword, text] of [
    ['path', name],
    ['linkpath', link],
  ] as const) {
    const fits = text.length <= nameBytesMax
    if (fits && isAscii(text)) continue
    const utf8 = isUtf8(text)
    if (!utf8 && (fits || (keyword === 'path' && ustarSplit(text) !== undefined))) continue
    if (!utf8) isBinary = true
    records.push(paxRecord(keyword, text))
  }
  return (isBinary ? paxRecord('hdrcharset', 'BINARY') : '') + records.join('')
}

function numberRecords(entry: SnapshotEntry, dataBytes: number): string {
  const { uid, gid, mtimeSeconds, mtimeNanoseconds } = entry
  let records = ''
  if (dataBytes > sizeMax) records += paxRecord('size', String(dataBytes))
  if (uid > idMax) records += paxRecord('uid', String(uid))
  if (gid > idMax) records += paxRecord('gid', String(gid))
  if (mtimeNanoseconds !== 0 || mtimeSeconds < 0 || mtimeSeconds > sizeMax)
    records += paxRecord('mtime', paxTime(mtimeSeconds, mtimeNanoseconds))
  return records
}

/** A hard link has its file's, which are set once. */
function xattrRecords(entry: SnapshotEntry): string {
  const { xattrs } = entry
  if (xattrs === undefined || entry.kind === 'hardlink') return ''
  return Object.keys(xattrs)
    .sort((a, b) => (encodeXattrName(a) < encodeXattrName(b) ? -1 : 1))
    .map(name => paxRecord(...xattrRecord(name, xattrs[name] as Uint8Array)))
    .join('')
}

/** GNU's sparse format 1.0. */
function sparseRecords(path: string, size: number): string {
  return (
    paxRecord('GNU.sparse.major', '1') +
    paxRecord('GNU.sparse.minor', '0') +
    paxRecord('GNU.sparse.name', path) +
    paxRecord('GNU.sparse.realsize', String(size))
  )
}
