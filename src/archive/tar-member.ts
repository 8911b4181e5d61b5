/**
 * One member of a tar archive, from its header blocks: a ustar header and what may stand before it (pax records, GNU's
 * long names). What is read may come from anywhere: nothing is believed that does not hold.
 */
import { isXattrKeyword } from './acl-text.ts'
import { type Mark, parseMark } from './archive-mark.ts'
import { type PaxTime, parsePaxNumber, parsePaxRecords, parsePaxTime } from './pax-records.ts'
import { sparseBytesMax } from './sparse-map.ts'
import { blockBytes, field, paddedBytes, readNumber, readText, typeflag } from './tar-format.ts'

export type MemberKind = 'file' | 'directory' | 'symlink' | 'hardlink' | 'other'

export interface TarMember {
  /** Where its first header block stands in the uncompressed archive. */
  readonly offset: number
  /** As it stands there, in latin1: it may lead anywhere. */
  readonly path: string
  readonly kind: MemberKind
  readonly type: string
  /** Of the content, holes included. */
  readonly size: number
  /** Of what follows the headers, without padding. */
  readonly dataBytes: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  /** Where a link leads, in latin1. */
  readonly link: string
  readonly userName: string
  readonly groupName: string
  /** Extended attributes and ACLs as their records have them. */
  readonly attributes: readonly (readonly [keyword: string, value: string])[]
  readonly sparse: 'no' | 'pax-1.0' | 'gnu' | 'other'
  readonly mark: Mark | undefined
  /** Where the mark's chain stands in the header blocks. */
  readonly chainAt: number
}

export type MemberResult = { readonly member: TarMember } | { readonly invalid: string }

/** What pax records, GNU's long names and global headers said. */
interface Overrides {
  path?: string
  link?: string
  size?: number
  uid?: number
  gid?: number
  mtime?: PaxTime
  sparseName?: string
  sparseSize?: number
  sparseMajor?: string
  isSparse?: boolean
  mark?: Mark
  chainAt?: number
  readonly attributes: [string, string][]
}

export type PaxRecords = readonly (readonly [keyword: string, value: string])[]

/** `area` ends with the main header, which begins at `mainAt`; before it stand whole headers with their data. */
export function parseMember(area: Buffer, mainAt: number, offset: number, globals: PaxRecords): MemberResult {
  const said: Overrides = { attributes: [] }
  const wrong = take(said, globals)
  if (wrong !== undefined) return { invalid: wrong }
  for (let at = 0; at < mainAt; ) {
    const size = readNumber(area.subarray(at, at + blockBytes), field.size) ?? 0
    const data = area.subarray(at + blockBytes, at + blockBytes + size)
    const wrong = takeExtension(said, String.fromCharCode(area[at + field.typeflag.at] as number), data, at)
    if (wrong !== undefined) return { invalid: wrong }
    at += blockBytes + paddedBytes(size)
  }
  return build(area.subarray(mainAt, mainAt + blockBytes), offset, said)
}

function takeExtension(said: Overrides, type: string, data: Buffer, at: number): string | undefined {
  const text = data.toString('latin1')
  switch (type) {
    case typeflag.gnuLongName:
      said.path = untilZero(text)
      return undefined
    case typeflag.gnuLongLink:
      said.link = untilZero(text)
      return undefined
    default: {
      const records = parsePaxRecords(text)
      if (records === undefined) return 'its pax records are no records'
      const wrong = take(said, records)
      const last = records.at(-1)
      if (said.mark !== undefined && last?.[0] === 'comment')
        said.chainAt = at + blockBytes + text.length - 1 - last[1].length
      return wrong
    }
  }
}

function untilZero(text: string): string {
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** What is wrong with them; undefined when nothing is. */
function take(said: Overrides, records: PaxRecords): string | undefined {
  for (const [keyword, value] of records) {
    switch (keyword) {
      case 'comment': {
        const mark = parseMark(value)
        if (mark !== undefined) said.mark = mark
        break
      }
      case 'mtime': {
        const time = parsePaxTime(value)
        if (time === undefined) return 'its time is no time'
        said.mtime = time
        break
      }
      case 'path':
        said.path = value
        break
      case 'linkpath':
        said.link = value
        break
      case 'size':
      case 'uid':
      case 'gid': {
        const number = parsePaxNumber(value)
        if (number === undefined) return `its ${keyword} is no number`
        said[keyword] = number
        break
      }
      case 'GNU.sparse.name':
        said.sparseName = value
        break
      case 'GNU.sparse.major':
        said.sparseMajor = value
        break
      case 'GNU.sparse.realsize':
      case 'GNU.sparse.size': {
        const number = parsePaxNumber(value)
        if (number === undefined || number > sparseBytesMax)
          return 'the size of the sparse file is not possible'
        said.sparseSize = number
        break
      }
      default:
        if (keyword.startsWith('GNU.sparse.')) said.isSparse = true
        else if (isXattrKeyword(keyword)) said.attributes.push([keyword, value])
    }
  }
  return undefined
}

function build(main: Buffer, offset: number, said: Overrides): MemberResult {
  const type = String.fromCharCode(main[field.typeflag.at] as number)
  const isUstar = main.toString('latin1', field.magic.at, field.magic.at + 5) === 'ustar'
  const size = said.size ?? readNumber(main, field.size)
  const mode = readNumber(main, field.mode)
  const uid = said.uid ?? readNumber(main, field.uid)
  const gid = said.gid ?? readNumber(main, field.gid)
  const mtime = said.mtime ?? toTime(readNumber(main, field.mtime))
  if (size === undefined || size < 0) return { invalid: 'its size is no number' }
  if (mode === undefined || uid === undefined || gid === undefined || mtime === undefined)
    return { invalid: 'its mode, owner or time is no number' }
  const path = said.sparseName ?? said.path ?? ustarPath(main, isUstar)
  if (path === '' || path.includes('\0')) return { invalid: 'it has no name' }
  const sparse = sparseKind(type, said)
  // a hard link has its file's content, whatever size it names
  const dataBytes = type === typeflag.hardlink ? 0 : size
  const oldSparseSize = type === typeflag.gnuSparse ? readNumber(main, { at: 483, length: 12 }) : undefined
  const realSize = oldSparseSize ?? said.sparseSize ?? dataBytes
  if (sparse !== 'no' && realSize > sparseBytesMax)
    return { invalid: 'the size of the sparse file is not possible' }
  return {
    member: {
      offset,
      path,
      kind: kindOf(type, path),
      type,
      size: realSize,
      dataBytes,
      mode: mode & 0o7777,
      uid,
      gid,
      mtimeSeconds: mtime.seconds,
      mtimeNanoseconds: mtime.nanoseconds,
      link: said.link ?? readText(main, field.linkname),
      userName: isUstar ? readText(main, { at: 265, length: 32 }) : '',
      groupName: isUstar ? readText(main, { at: 297, length: 32 }) : '',
      attributes: said.attributes,
      sparse,
      mark: said.mark,
      chainAt: said.chainAt ?? 0,
    },
  }
}

function toTime(seconds: number | undefined): PaxTime | undefined {
  return seconds === undefined ? undefined : { seconds, nanoseconds: 0 }
}

function ustarPath(main: Buffer, isUstar: boolean): string {
  const name = readText(main, field.name)
  // GNU's own format has other things there
  const isPosix = isUstar && main[field.magic.at + 5] === 0
  const prefix = isPosix ? readText(main, field.prefix) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function sparseKind(type: string, said: Overrides): TarMember['sparse'] {
  if (type === typeflag.gnuSparse) return 'gnu'
  if (said.sparseMajor === '1' && said.sparseSize !== undefined) return 'pax-1.0'
  return said.isSparse || said.sparseSize !== undefined || said.sparseMajor !== undefined ? 'other' : 'no'
}

function kindOf(type: string, path: string): MemberKind {
  switch (type) {
    case typeflag.file:
    case typeflag.contiguous:
    case typeflag.gnuSparse:
      return 'file'
    case typeflag.oldFile:
      return path.endsWith('/') ? 'directory' : 'file'
    case typeflag.directory:
      return 'directory'
    case typeflag.symlink:
      return 'symlink'
    case typeflag.hardlink:
      return 'hardlink'
    default:
      return 'other'
  }
}
