/**
 * Reads a tar archive as its bytes come, digests every member's content, and says what is damaged and where.
 *
 * An archive of ours proves itself (archive-mark.ts): each header by its chain, each content by its digest, all else is
 * zeros, and the last header says how many members there are. Of another archive header checksums, sizes and the end
 * are proved. After a damaged header reading goes on where the next whole one stands.
 *
 * Invariant: while content is read nothing is carried over; memory is bounded by the largest header that is taken.
 */
import { displayPath } from '../stream/entry.ts'
import {
  chainOffset,
  chainStart,
  type Mark,
  markedContent,
  markedDigest,
  nextChain,
  parseMark,
} from './archive-mark.ts'
import { ContentDigest } from './content-digest.ts'
import { parsePaxRecords, paxBytesMax } from './pax-records.ts'
import { extentsMax, parseSparseMap, type SparseMapResult } from './sparse-map.ts'
import {
  blockBytes,
  field,
  isChecksumRight,
  isZero,
  paddedBytes,
  readNumber,
  typeflag,
  wholeBytes,
} from './tar-format.ts'
import { type PaxRecords, parseMember, type TarMember } from './tar-member.ts'
import { parseUsualHeader, usualHeaderBytes } from './usual-header.ts'

/** Header blocks of one member, all together. */
const areaBytesMax = 2 * paxBytesMax
const mapBytesMax = 40 * extentsMax
const smallBytesMax = 1024 * 1024
const paxByte = typeflag.pax.charCodeAt(0)

export interface TarFault {
  /** In the uncompressed archive. */
  readonly offset: number
  /** Which member it is of, when that can be told; for people. */
  readonly path?: string
  readonly what: string
  /** Of the member whose content is damaged: its path as it stands there. */
  readonly damaged?: string
}

export interface TarReaderOptions {
  /** Called when a member was read to its end. `digest` is as a mark has it; undefined for what has no content. */
  onMember(member: TarMember, digest: string | undefined): void
  onFault(fault: TarFault): void
  /** Content is passed over, and not proved. */
  readonly headersOnly?: boolean
}

type State = 'header' | 'extended' | 'map' | 'content' | 'padding' | 'lost' | 'after-end'

export class TarReader {
  readonly #options: TarReaderOptions
  #state: State = 'header'
  #chunk: Buffer = Buffer.alloc(0)
  #at = 0
  /** Bytes before the chunk that were not taken yet. */
  #carry: Buffer = Buffer.alloc(0)
  #carryLength = 0
  #offset = 0
  #globals: PaxRecords = []
  #member: TarMember | undefined
  #rest = 0
  #padding = 0
  #digest: ContentDigest | undefined
  /** Of content that came in one piece. */
  #small: string | undefined
  #extents: { readonly offset: number; readonly length: number }[] = []
  #fileAt = 0
  #mapBytes = blockBytes
  #zeroBlocks = 0
  #endOffset = 0
  readonly #lastExtension = Buffer.alloc(blockBytes)
  #chain: string | undefined = chainStart
  #isOwn = false
  #hasEndMark = false
  #hasRest = false
  members = 0
  faults = 0

  constructor(options: TarReaderOptions) {
    this.#options = options
  }

  /** Bytes of the uncompressed archive that were taken. */
  get offset(): number {
    return this.#offset
  }

  /** Of the last header, when the archive is one of ours. */
  get chain(): string | undefined {
    return this.#isOwn ? this.#chain : undefined
  }

  /** The archive proves itself. */
  get isOwn(): boolean {
    return this.#isOwn
  }

  /** Takes the next bytes; the reader may change them. */
  push(chunk: Buffer): void {
    this.#chunk = chunk
    this.#at = 0
    while (this.#step()) {}
  }

  /** No more bytes come. */
  end(): void {
    if (this.#state !== 'after-end' || this.#zeroBlocks < 2) {
      const where = this.#member === undefined ? '' : ` of '${displayPath(this.#member.path)}'`
      this.#fault(`it ends in the middle${where}: it is cut short`)
    } else if (this.#isOwn && this.#total !== wholeBytes(this.#endOffset)) {
      this.#fault(`it has ${this.#total} bytes, and had ${wholeBytes(this.#endOffset)}`)
    }
    if (this.#isOwn && !this.#hasEndMark) this.#fault('its last header is missing: members may be missing')
  }

  /** With what has come and was not taken. */
  get #total(): number {
    return this.#offset + this.#carryLength + this.#chunk.length - this.#at
  }

  #fault(what: string, at = this.#offset, path?: string, damaged?: string): void {
    this.faults++
    this.#options.onFault({
      offset: at,
      ...(path === undefined ? {} : { path: displayPath(path) }),
      what,
      ...(damaged === undefined ? {} : { damaged }),
    })
  }

  /** So many bytes in one piece; undefined when they have not come yet. Nothing is taken. */
  #peek(length: number): Buffer | undefined {
    const left = this.#chunk.length - this.#at
    if (this.#carryLength === 0 && left >= length) return this.#chunk.subarray(this.#at, this.#at + length)
    if (this.#carryLength < length) {
      const more = Math.min(length - this.#carryLength, left)
      this.#reserve(this.#carryLength + more)
      this.#chunk.copy(this.#carry, this.#carryLength, this.#at, this.#at + more)
      this.#carryLength += more
      this.#at += more
    }
    return this.#carryLength < length ? undefined : this.#carry.subarray(0, length)
  }

  #reserve(length: number): void {
    if (this.#carry.length >= length) return
    const grown = Buffer.allocUnsafe(Math.max(2 * this.#carry.length, length, 64 * 1024))
    this.#carry.copy(grown, 0, 0, this.#carryLength)
    this.#carry = grown
  }

  /** What was peeked is taken, all or a part of it. */
  #take(length: number): void {
    this.#offset += length
    if (this.#carryLength === 0) {
      this.#at += length
      return
    }
    this.#carry.copy(this.#carry, 0, length, this.#carryLength)
    this.#carryLength -= length
  }

  /** The next bytes, up to so many, of which at least one has come. */
  #some(length: number): Buffer | undefined {
    if (this.#carryLength > 0) {
      const bytes = Buffer.from(this.#carry.subarray(0, Math.min(length, this.#carryLength)))
      this.#take(bytes.length)
      return bytes
    }
    const bytes = this.#chunk.subarray(this.#at, Math.min(this.#at + length, this.#chunk.length))
    if (bytes.length === 0) return undefined
    this.#take(bytes.length)
    return bytes
  }

  /** False when there is nothing more to do with what has come. */
  #step(): boolean {
    switch (this.#state) {
      case 'header':
        return this.#header()
      case 'extended':
        return this.#extended()
      case 'map':
        return this.#map()
      case 'content':
        return this.#content()
      case 'padding':
        return this.#pad()
      case 'lost':
        return this.#search()
      case 'after-end':
        return this.#afterEnd()
    }
  }

  // ---- headers

  #header(): boolean {
    if (this.#usual()) return true
    for (let at = 0; ; ) {
      const area = this.#peek(at + blockBytes)
      if (area === undefined) return false
      const header = at === 0 ? area : area.subarray(at)
      if (header[0] === 0 && isZero(header)) return this.#zero(at)
      if (!this.#isKnown(header) && !isChecksumRight(header))
        return this.#lose(at, 'a header is damaged: its checksum is wrong')
      const type = String.fromCharCode(header[field.typeflag.at] as number)
      if (!isExtension(type)) return this.#begin(area, at)
      const size = readNumber(header, field.size)
      if (size === undefined || size < 0 || size > paxBytesMax || at + size > areaBytesMax)
        return this.#lose(at, 'the size of a header is not possible')
      if (type === typeflag.paxGlobal && at === 0) return this.#global(size)
      header.copy(this.#lastExtension)
      at += blockBytes + paddedBytes(size)
    }
  }

  /** True when the next member was of the usual kind, and was begun. */
  #usual(): boolean {
    if (this.#carryLength > 0 || this.#chunk.length - this.#at < usualHeaderBytes || this.#globals.length > 0)
      return false
    const area = this.#chunk.subarray(this.#at, this.#at + usualHeaderBytes)
    const known = this.#lastExtension
    if (known[field.typeflag.at] !== paxByte || area.compare(known, 0, blockBytes, 0, blockBytes) !== 0)
      return false
    const member = parseUsualHeader(area, readNumber(known, field.size) ?? 0, this.#offset)
    if (member === undefined) return false
    this.#enter(member, area, usualHeaderBytes - blockBytes)
    return true
  }

  /** Headers of records are the same again and again: the last whose checksum was right. */
  #isKnown(header: Buffer): boolean {
    return (
      header[field.typeflag.at] === this.#lastExtension[field.typeflag.at] &&
      header.equals(this.#lastExtension)
    )
  }

  #zero(at: number): boolean {
    if (at > 0) return this.#lose(at, 'a header is followed by no member')
    this.#endOffset = this.#offset
    this.#take(blockBytes)
    this.#zeroBlocks = 1
    this.#state = 'after-end'
    return true
  }

  #lose(at: number, what: string): boolean {
    this.#fault(what, this.#offset + at)
    this.#chain = undefined
    this.#take(blockBytes)
    this.#state = 'lost'
    return true
  }

  /** Looks for the next whole header, as GNU tar does. */
  #search(): boolean {
    const block = this.#peek(blockBytes)
    if (block === undefined) return false
    const isHeader = block.toString('latin1', 257, 262) === 'ustar' && isChecksumRight(block)
    if (isHeader || isZero(block)) this.#state = 'header'
    else this.#take(blockBytes)
    return true
  }

  #global(size: number): boolean {
    const area = this.#peek(blockBytes + paddedBytes(size))
    if (area === undefined) return false
    const text = area.toString('latin1', blockBytes, blockBytes + size)
    const records = parsePaxRecords(text)
    if (records === undefined) return this.#lose(0, 'the records of a global header are no records')
    const { mark, chainAt } = markOf(records, text.length)
    if (mark === undefined) this.#globals = records.filter(([keyword]) => keyword !== 'comment')
    else {
      this.#isOwn = true
      this.#checkChain(area, mark, chainAt)
      if (mark.tail.kind === 'end') {
        this.#hasEndMark = true
        if (mark.tail.members !== this.members)
          this.#fault(`it had ${mark.tail.members} members, and has ${this.members}`)
      }
    }
    this.#take(area.length)
    return true
  }

  /** A chain that was lost is taken up again with the next header, which is not proved itself. */
  #checkChain(area: Buffer, mark: Mark, chainAt: number, path?: string): void {
    if (this.#chain !== undefined && nextChain(area, chainAt, this.#chain) !== mark.chain)
      this.#fault(
        'its metadata is damaged, or a member before it is missing or was added',
        this.#offset,
        path,
      )
    this.#chain = mark.chain
  }

  #begin(area: Buffer, mainAt: number): boolean {
    const result = parseMember(area, mainAt, this.#offset, this.#globals)
    if ('invalid' in result) return this.#lose(0, `a header is damaged: ${result.invalid}`)
    this.#enter(result.member, area, mainAt)
    return true
  }

  #enter(member: TarMember, area: Buffer, mainAt: number): void {
    this.members++
    if (this.#hasEndMark) this.#fault('it stands behind the last header', this.#offset, member.path)
    if (member.mark !== undefined && member.chainAt > 0) {
      this.#isOwn = true
      this.#checkChain(area, member.mark, member.chainAt + chainOffset, member.path)
    } else if (this.#isOwn) {
      this.#fault('nothing proves it: it was not put there by hotspare', this.#offset, member.path)
    }
    if (leadsOutside(member.path)) this.#fault('its path leads outside', this.#offset, member.path)
    this.#state = this.#stateOf(member, area, mainAt)
    this.#take(area.length)
    this.#member = member
    this.#rest = member.dataBytes
    this.#padding = paddedBytes(member.dataBytes) - member.dataBytes
    this.#digest = undefined
    this.#small = undefined
    this.#extents = []
    this.#fileAt = 0
    this.#mapBytes = blockBytes
  }

  #stateOf(member: TarMember, area: Buffer, mainAt: number): State {
    if (member.sparse === 'gnu' && area[mainAt + 482] === 1) return 'extended'
    if (member.sparse === 'pax-1.0' && this.#options.headersOnly !== true) return 'map'
    return 'content'
  }

  /** More of the map in GNU's old format, which is passed over. */
  #extended(): boolean {
    const block = this.#peek(blockBytes)
    if (block === undefined) return false
    if (block[504] !== 1) this.#state = 'content'
    this.#take(blockBytes)
    return true
  }

  // ---- content

  #map(): boolean {
    const member = this.#member as TarMember
    const wanted = Math.min(this.#mapBytes, paddedBytes(this.#rest), mapBytesMax)
    const data = this.#peek(wanted)
    if (data === undefined) return false
    const result: SparseMapResult = parseSparseMap(data, member.size)
    if (result.kind === 'more' && wanted === this.#mapBytes) {
      this.#mapBytes = result.bytes
      return true
    }
    this.#state = 'content'
    const contentBytes = result.kind === 'map' ? this.#rest - result.bytes : 0
    const isRight =
      result.kind === 'map' && contentBytes === result.extents.reduce((sum, { length }) => sum + length, 0)
    if (result.kind !== 'map' || !isRight) {
      this.#fault('the map of the sparse file is damaged', this.#offset, member.path)
      // what was peeked beyond the map is content, passed over
      this.#member = { ...member, sparse: 'other', mark: undefined }
      return true
    }
    this.#take(result.bytes)
    this.#rest = contentBytes
    this.#extents = result.extents.filter(({ length }) => length > 0).reverse()
    this.#digest = new ContentDigest()
    return true
  }

  get #isDigested(): boolean {
    const member = this.#member as TarMember
    return member.kind === 'file' && (member.sparse === 'no' || this.#digest !== undefined)
  }

  #content(): boolean {
    if (this.#rest === 0) {
      this.#state = 'padding'
      return true
    }
    const bytes = this.#some(this.#rest)
    if (bytes === undefined) return false
    const isWhole = this.#digest === undefined && bytes.length === this.#rest
    this.#rest -= bytes.length
    if (this.#options.headersOnly !== true && this.#isDigested) {
      if (this.#extents.length > 0) this.#digestExtents(bytes)
      else if (isWhole && bytes.length <= smallBytesMax) this.#small = markedContent(bytes)
      else {
        this.#digest ??= new ContentDigest()
        this.#digest.update(bytes)
      }
    }
    return true
  }

  #digestExtents(bytes: Buffer): void {
    const digest = this.#digest as ContentDigest
    for (let done = 0; done < bytes.length; ) {
      const extent = this.#extents.at(-1)
      if (extent === undefined) return
      if (this.#fileAt < extent.offset) {
        digest.updateZeros(extent.offset - this.#fileAt)
        this.#fileAt = extent.offset
      }
      const length = Math.min(bytes.length - done, extent.offset + extent.length - this.#fileAt)
      digest.update(bytes.subarray(done, done + length))
      done += length
      this.#fileAt += length
      if (this.#fileAt === extent.offset + extent.length) this.#extents.pop()
    }
  }

  #pad(): boolean {
    if (this.#padding > 0) {
      const bytes = this.#some(this.#padding)
      if (bytes === undefined) return false
      this.#padding -= bytes.length
      if (this.#isOwn && !isZero(bytes))
        this.#fault('what follows its content is not zeros', this.#offset - bytes.length, this.#member?.path)
      return true
    }
    this.#finish()
    return true
  }

  #finish(): void {
    const member = this.#member as TarMember
    let digest: string | undefined
    if (this.#options.headersOnly !== true && this.#isDigested) {
      if (member.sparse === 'pax-1.0') this.#digest?.updateZeros(member.size - this.#fileAt)
      digest = this.#small ?? markedDigest((this.#digest ?? new ContentDigest()).digest())
    }
    const wanted = member.mark?.tail.kind === 'member' ? member.mark.tail.content : undefined
    if (digest !== undefined && this.#isOwn && member.mark !== undefined && digest !== wanted)
      this.#fault('its content is damaged', member.offset, member.path, member.path)
    this.#member = undefined
    this.#state = 'header'
    this.#options.onMember(member, digest)
  }

  // ---- the end

  #afterEnd(): boolean {
    const block = this.#zeroBlocks < 2 ? this.#peek(blockBytes) : this.#some(Number.MAX_SAFE_INTEGER)
    if (block === undefined) return false
    if (isZero(block)) {
      if (this.#zeroBlocks < 2) this.#take(blockBytes)
      this.#zeroBlocks++
      return true
    }
    if (this.#zeroBlocks < 2) {
      this.#fault('a block of zeros stands among the members')
      this.#zeroBlocks = 0
      this.#state = 'header'
      return true
    }
    if (!this.#hasRest) this.#fault('something follows the end', this.#offset - block.length)
    this.#hasRest = true
    return true
  }
}

function isExtension(type: string): boolean {
  return (
    type === typeflag.pax ||
    type === typeflag.paxGlobal ||
    type === typeflag.gnuLongName ||
    type === typeflag.gnuLongLink
  )
}

function markOf(
  records: PaxRecords,
  length: number,
): { readonly mark: Mark | undefined; readonly chainAt: number } {
  const last = records.at(-1)
  const mark = last?.[0] === 'comment' ? parseMark(last[1]) : undefined
  return { mark, chainAt: blockBytes + length - 1 - (last?.[1].length ?? 0) + chainOffset }
}

export function leadsOutside(path: string): boolean {
  return path.startsWith('/') || (path.includes('..') && path.split('/').includes('..'))
}
