/**
 * What proves an archive by itself: a `comment` record (which every tar knows to ignore) that ends each pax header.
 *
 *     first     global header   comment=hotspare1 CHAIN begin
 *     member    pax header      comment=hotspare1 CHAIN CONTENT
 *     last      global header   comment=hotspare1 CHAIN end MEMBERS
 *
 * CONTENT is the first 22 characters (132 bits) of the content's digest in base64url (see content-digest.ts), '-' for
 * what has none. CHAIN is the xxh64, in hex, of
 * the member's header blocks and records, in which its own place is held by the CHAIN of the header before (zeros for
 * the first). So every byte of metadata is proved, and that no member is missing, added or moved: against faults, not
 * against forgery. Content is proved by its digest, and what is left, padding, is zeros.
 */
import { blake3UrlSafeBase64 } from '@napi-rs/blake-hash'
import { xxh64 } from '@node-rs/xxhash'

const intro = 'hotspare1 '
const contentLength = 22
/** Enough for so many characters, and whole groups of them. */
const digestBytesShown = 18
export const chainStart = '0'.repeat(16)

export type MarkTail =
  | { readonly kind: 'begin' }
  | { readonly kind: 'end'; readonly members: number }
  | { readonly kind: 'member'; readonly content: string | undefined }

export interface Mark {
  readonly chain: string
  readonly tail: MarkTail
}

export const beginMark = `${intro}${chainStart} begin`

export function endMark(members: number): string {
  return `${intro}${chainStart} end ${members}`
}

/** What a mark says of a content's digest. */
export function markedDigest(digest: Uint8Array): string {
  const bytes = Buffer.isBuffer(digest)
    ? digest
    : Buffer.from(digest.buffer, digest.byteOffset, digest.length)
  return bytes.toString('base64url', 0, digestBytesShown).slice(0, contentLength)
}

/** What a mark says of a content that is at hand, and at most 1 MiB. */
export function markedContent(content: Buffer): string {
  return blake3UrlSafeBase64(content).slice(0, contentLength)
}

/** With a place for the chain. */
export function memberMark(content: Uint8Array | undefined): string {
  const digest = content === undefined ? '-' : markedDigest(content)
  return `${intro}${chainStart} ${digest}`
}

/** From where the value of a comment of ours begins to where its chain does. */
export const chainOffset = intro.length
export const chainLength = chainStart.length

/** Undefined when the comment is none of ours. */
export function parseMark(comment: string): Mark | undefined {
  if (!comment.startsWith(intro)) return undefined
  const chain = comment.slice(chainOffset, chainOffset + chainLength)
  if (chain.length < chainLength || comment[chainOffset + chainLength] !== ' ') return undefined
  const tail = comment.slice(chainOffset + chainLength + 1)
  if (tail.length === contentLength) return { chain, tail: { kind: 'member', content: tail } }
  if (tail === '-') return { chain, tail: { kind: 'member', content: undefined } }
  if (tail === 'begin') return { chain, tail: { kind: 'begin' } }
  if (/^end [0-9]{1,15}$/.test(tail)) return { chain, tail: { kind: 'end', members: Number(tail.slice(4)) } }
  return undefined
}

/** Puts `previous` in the place of the chain, and gives the digest over all. */
export function nextChain(area: Buffer, chainAt: number, previous: string): string {
  area.write(previous, chainAt, chainLength, 'latin1')
  return xxh64(area).toString(16).padStart(chainLength, '0')
}
