/**
 * What one server of a pair gives to the other, as a line of text that people carry: over a channel that they trust, since
 * it holds the secret.
 *
 *     hotspare-pair-1.BASE64URL     fields, and the first 6 bytes of their SHA-256
 */
import { createHash } from 'node:crypto'
import { HotspareError } from '../os/errors.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import { secretBytes } from './trust.ts'

const prefix = 'hotspare-pair-'
const version = 1
const checkBytes = 6
const textMax = 4096
const fingerprintBytes = 32

export interface PairToken {
  readonly set: string
  /** Who made it. */
  readonly from: string
  /** Whom it is for: no other server takes it. */
  readonly to: string
  readonly secret: Buffer
  /** Of who made it: SHA-256, 64 hex digits. */
  readonly certificate: string
  /** Where to call who made it; undefined: that one calls. */
  readonly address?: string
}

export function pairTokenText(token: PairToken): string {
  const writer = new ByteWriter()
    .text(token.set)
    .text(token.from)
    .text(token.to)
    .raw(token.secret)
    .raw(Buffer.from(token.certificate, 'hex'))
    .text(token.address ?? '')
  const fields = writer.finish()
  return `${prefix}${version}.${Buffer.concat([fields, check(fields)]).toString('base64url')}`
}

/** Throws `usage`, saying what is wrong with it, and never what it holds. */
export function parsePairToken(given: string): PairToken {
  // a mail or a terminal may have broken the line
  const text = given.replace(/\s+/g, '')
  const match = /^hotspare-pair-(\d+)\.([A-Za-z0-9_-]+)$/.exec(text)
  if (text.length > textMax || match === null)
    throw unusable(`it does not look like one ('${prefix}${version}.' and letters)`)
  if (Number(match[1]) !== version)
    throw unusable(`it is of version ${match[1]}; this release knows version ${version}`)
  const bytes = Buffer.from(match[2] as string, 'base64url')
  const fields = bytes.subarray(0, -checkBytes)
  const isWhole =
    bytes.toString('base64url') === match[2] && check(fields).equals(bytes.subarray(-checkBytes))
  if (!isWhole) throw unusable('a letter is wrong or missing; copy it again')
  const reader = new ByteReader(fields)
  const set = reader.text('the set', 64)
  const from = reader.text('who made it', 64)
  const to = reader.text('whom it is for', 64)
  const secret = Buffer.from(reader.raw('the secret', secretBytes))
  const certificate = reader.raw('the fingerprint', fingerprintBytes).toString('hex')
  const address = reader.text('the address', 512)
  reader.end('a token')
  return { set, from, to, secret, certificate, ...(address !== '' && { address }) }
}

function check(fields: Uint8Array): Buffer {
  return createHash('sha256').update(`${prefix}${version}`).update(fields).digest().subarray(0, checkBytes)
}

function unusable(what: string): HotspareError {
  return new HotspareError('usage', `This is no token of 'hotspare pair': ${what}.`)
}
