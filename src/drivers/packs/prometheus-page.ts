/**
 * Pages of a Prometheus write-ahead log (tsdb/wlog): 32 KiB, each holding record fragments of a 7-byte header (type and
 * compression flags, length u16, CRC-32C u32, big-endian) and data. Type 0 ends the page with zeros.
 */
import { crc32c } from './crc32c.ts'
import { isZero } from './zero-tail.ts'

export const pageBytes = 32 * 1024
const headerBytes = 7
const typeMask = 0x07
const fragmentType = { full: 1, first: 2, middle: 3, last: 4 } as const

export interface PageCheck {
  /** Whole, valid fragments from the page's start. */
  readonly records: number
  /** Where the first fragment that is not whole begins; equals the page's length when all are. */
  readonly validBytes: number
  /** A record goes on in the next page. */
  readonly isOpen: boolean
  /** Set when what follows is wrong, not only incomplete. */
  readonly damage?: string
}

/** Checks one page; a shorter one is the growing tail. `isOpen`: a record came over from the page before. */
export function checkPage(page: Buffer, isOpen = false): PageCheck {
  let records = 0
  let at = 0
  const damaged = (damage: string): PageCheck => ({ records, validBytes: at, isOpen, damage })
  while (at < page.length) {
    const type = page[at]! & typeMask
    if (type === 0) {
      if (!isZero(page.subarray(at))) return damaged('bytes after the end of the page')
      return { records, validBytes: page.length, isOpen }
    }
    if (type > fragmentType.last) return damaged(`fragment type ${type}`)
    const goesOn = type === fragmentType.middle || type === fragmentType.last
    if (goesOn !== isOpen)
      return damaged(goesOn ? 'a record without its beginning' : 'a record without its end')
    if (at + headerBytes > page.length) break
    const end = at + headerBytes + page.readUInt16BE(at + 1)
    if (end > pageBytes) return damaged('a fragment longer than its page')
    if (end > page.length) break
    if (crc32c(page.subarray(at + headerBytes, end)) !== page.readUInt32BE(at + 3))
      return damaged('a wrong checksum')
    records++
    at = end
    isOpen = type === fragmentType.first || type === fragmentType.middle
  }
  return { records, validBytes: at, isOpen }
}
