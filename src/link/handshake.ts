/**
 * How two servers prove to each other that they are a pair, before anything else is said.
 *
 *     who calls        hello    who it is, what it speaks, a nonce
 *     who is called    hello
 *     who calls        proof    HMAC-SHA256 of the pair's secret over both hellos and the channel's binding
 *     who is called    proof
 *
 * Either may say `refused` instead, with a reason and a text. Who is called says nothing before the caller has named a
 * set and a server that it is paired with. The labels in the proofs differ, so that neither can be sent back; the
 * binding is of the encrypted channel, so that nobody can sit between two that each hold a channel with him.
 *
 * A stranger costs three frames of at most `frameBytesMax`, and ten seconds.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { Random } from '../os/random.ts'
import type { ByteStream } from '../os/transport.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import { encodeFrame } from '../stream/frame.ts'
import type { FrameInput } from './frame-input.ts'
import { isRefusalReason, linkBroken, linkRefused, printable, refusalOf } from './link-error.ts'
import { readEpoch, writeEpoch } from './message-codec.ts'
import type { Hello } from './session.ts'
import type { KnownPeer, PeerTrust } from './trust.ts'

/** Of the protocol; two sides have the same, or do not talk. */
export const linkVersion = 1
export const handshakeFrameBytesMax = 16 * 1024

/** What both sides must know to use it: bits. */
export const features = { zstd: 1 } as const
const featuresKnown = 0xffff

const magic = Buffer.from('hotspare link\n', 'latin1')
const nonceBytes = 32
const pathMax = 64
const nameBytesMax = 64
const streamBytesMax = 128
const lingerMs = 1000
const lingerBytesMax = 64 * 1024

const kinds = ['hello', 'proof', 'refused'] as const

export interface HandshakeOptions {
  readonly hello: Hello
  /** Bits of `features` that this side can do. */
  readonly features: number
  readonly trust: PeerTrust
  readonly dialled: boolean
  /** Whom this side has called. */
  readonly expected?: string
  readonly random: Random
}

export interface Handshake {
  readonly peer: Hello
  /** That both can do. */
  readonly features: number
}

/** Rejects with `link-refused`, or with whatever broke the stream. The refusal was said to the other side. */
export async function shakeHands(
  stream: ByteStream,
  input: FrameInput,
  options: HandshakeOptions,
  clock: Clock,
): Promise<Handshake> {
  try {
    return options.dialled
      ? await shakeAsCaller(stream, input, options)
      : await shakeAsCalled(stream, input, options)
  } catch (thrown) {
    const error = isMalformed(thrown) ? notOurs(thrown) : thrown
    await sayRefusal(stream, input, error, clock)
    throw error
  }
}

async function shakeAsCaller(
  stream: ByteStream,
  input: FrameInput,
  options: HandshakeOptions,
): Promise<Handshake> {
  const { expected } = options
  // whom we call we know by its certificate, before we say who we are
  if (expected !== undefined) await knownPeer(stream, expected, options)
  const own = encodeHello(options)
  await stream.write(encodeFrame(own))
  const bytes = await receive(input, 'hello')
  const other = decodeHello(bytes)
  const peer = checkHello(other.hello, options)
  if (expected !== undefined && peer.server !== expected)
    throw linkRefused('name', `'${expected}' was called, and '${peer.server}' answered: see its address.`)
  const known = await knownPeer(stream, peer.server, options)
  await stream.write(encodeFrame(encodeProof(proof('caller', known.secret, own, bytes, stream))))
  checkProof(await receive(input, 'proof'), proof('called', known.secret, own, bytes, stream), peer.server)
  await pin(stream, peer.server, known, options)
  return { peer, features: options.features & other.features }
}

async function shakeAsCalled(
  stream: ByteStream,
  input: FrameInput,
  options: HandshakeOptions,
): Promise<Handshake> {
  const bytes = await receive(input, 'hello')
  const other = decodeHello(bytes)
  const peer = checkHello(other.hello, options)
  const known = await knownPeer(stream, peer.server, options)
  const own = encodeHello(options)
  await stream.write(encodeFrame(own))
  checkProof(await receive(input, 'proof'), proof('caller', known.secret, bytes, own, stream), peer.server)
  await pin(stream, peer.server, known, options)
  await stream.write(encodeFrame(encodeProof(proof('called', known.secret, bytes, own, stream))))
  return { peer, features: options.features & other.features }
}

function proof(
  by: 'caller' | 'called',
  secret: Uint8Array,
  callerHello: Uint8Array,
  calledHello: Uint8Array,
  stream: ByteStream,
): Buffer {
  const covered = new ByteWriter(4096)
    .text(`hotspare link proof of the ${by}`)
    .bytes(callerHello)
    .bytes(calledHello)
    .bytes(stream.binding ?? Buffer.alloc(0))
  return createHmac('sha256', secret).update(covered.finish()).digest()
}

function checkProof(frame: Buffer, expected: Buffer, peer: string): void {
  const reader = new ByteReader(frame.subarray(1))
  const found = reader.raw('a proof', expected.length)
  reader.end('a proof')
  if (!timingSafeEqual(found, expected)) {
    throw linkRefused(
      'proof',
      `'${peer}' does not know the secret of the pair. Pair the two servers anew: 'hotspare pair'.`,
    )
  }
}

async function knownPeer(stream: ByteStream, name: string, { trust }: HandshakeOptions): Promise<KnownPeer> {
  const known = await trust.peer(name)
  if (known === undefined) {
    throw linkRefused(
      'stranger',
      `This server is not paired with '${name}'. 'hotspare pair' makes the two known to each other.`,
    )
  }
  if (known.certificate !== undefined && known.certificate !== stream.certificate) {
    // a stream without certificates (ssh) is secured, and its ends are known, by other means
    if (stream.certificate !== undefined) {
      throw linkRefused(
        'certificate',
        `The certificate of '${name}' (${stream.peer}) is not the one that it had when the servers were paired. If it was set up anew, pair them again.`,
      )
    }
  }
  return known
}

async function pin(
  stream: ByteStream,
  name: string,
  known: KnownPeer,
  { trust }: HandshakeOptions,
): Promise<void> {
  if (known.certificate === undefined && stream.certificate !== undefined)
    await trust.pin(name, stream.certificate)
}

function checkHello(peer: Hello, { hello }: HandshakeOptions): Hello {
  if (peer.set !== hello.set)
    throw linkRefused(
      'set',
      `'${peer.server}' belongs to the set '${peer.set}', this server to '${hello.set}'.`,
    )
  if (peer.server === hello.server)
    throw linkRefused('self', `Both sides are named '${hello.server}': a server's name must be its own.`)
  return peer
}

async function receive(input: FrameInput, wanted: 'hello' | 'proof'): Promise<Buffer> {
  const frame = await input.next()
  if (frame === undefined) throw linkBroken('The other side closed the connection before it said who it is.')
  const kind = kinds[frame[0] ?? -1]
  if (kind === 'refused') throw decodeRefusal(frame)
  if (kind !== wanted) throw notOurs(undefined)
  return frame
}

function isMalformed(error: unknown): boolean {
  return error instanceof HotspareError && error.code === 'entry-invalid'
}

function notOurs(cause: unknown): HotspareError {
  const message = 'What came is not the protocol of a link: something else than hotspare is at the other end.'
  return new HotspareError('link-refused', message, { cause, details: { reason: 'protocol', by: 'this' } })
}

/** Whoever is at the other end reads why, if it can; within bounds. */
async function sayRefusal(
  stream: ByteStream,
  input: FrameInput,
  error: unknown,
  clock: Clock,
): Promise<void> {
  const reason = refusalOf(error)
  if (reason === undefined || !(error instanceof HotspareError) || error.details.by === 'other') return
  const over = new AbortController()
  const said = (async () => {
    await stream.write(encodeFrame(encodeRefusal(reason, error.message)))
    // closing with bytes unread would take the answer back
    let bytes = 0
    for (;;) {
      const payload = await input.next()
      bytes += payload?.length ?? 0
      if (payload === undefined || bytes > lingerBytesMax) return
    }
  })().catch(() => {
    // it was a courtesy; that the connection is of no use is known already
  })
  await Promise.race([said.finally(() => over.abort()), clock.sleep(lingerMs, over.signal)])
}

/** Also what a listener that is full says at once. */
export function encodeRefusal(reason: string, message: string): Buffer {
  return new ByteWriter()
    .u8(kinds.indexOf('refused'))
    .raw(magic)
    .text(reason)
    .text(printable(message))
    .finish()
}

function decodeRefusal(frame: Buffer): HotspareError {
  const reader = new ByteReader(frame.subarray(1))
  if (!reader.raw('the name of the protocol', magic.length).equals(magic)) throw notOurs(undefined)
  const reason = reader.text('a reason', 64)
  const text = printable(reader.text('a refusal', 1024))
  return linkRefused(isRefusalReason(reason) ? reason : 'protocol', `The other side says: ${text}`, 'other')
}

function encodeProof(value: Buffer): Buffer {
  return new ByteWriter().u8(kinds.indexOf('proof')).raw(value).finish()
}

function encodeHello({ hello, features, random }: HandshakeOptions): Buffer {
  const writer = new ByteWriter(512)
    .u8(kinds.indexOf('hello'))
    .raw(magic)
    .integer(hello.version)
    .raw(random.bytes(nonceBytes))
    .integer(features)
    .text(hello.set)
    .text(hello.server)
    .text(hello.stream)
  writeEpoch(writer, hello.epoch)
  writer
    .u8(hello.role === 'primary' ? 1 : 0)
    .text(hello.upstream ?? '')
    .integer(hello.path.length)
  for (const name of hello.path) writer.text(name)
  return writer.finish()
}

/** The first fields are those of every version, so that another one can be named. */
function decodeHello(frame: Buffer): { hello: Hello; features: number } {
  const reader = new ByteReader(frame.subarray(1))
  if (!reader.raw('the name of the protocol', magic.length).equals(magic)) throw notOurs(undefined)
  const version = reader.integer('the version')
  if (version !== linkVersion) {
    throw linkRefused(
      'version',
      `The other server speaks version ${version} of the link's protocol, this one ${linkVersion}. Bring both to the same release.`,
    )
  }
  reader.raw('a nonce', nonceBytes)
  const offered = reader.integer('the features') & featuresKnown
  const set = readName(reader, 'the name of a set')
  const server = readName(reader, 'the name of a server')
  const stream = reader.text('the stream', streamBytesMax)
  const epoch = readEpoch(reader)
  const role = reader.u8('the role')
  if (role > 1) throw notOurs(undefined)
  const upstream = reader.text('the upstream', nameBytesMax)
  const count = reader.integer('the length of the path')
  if (count > pathMax) throw notOurs(undefined)
  const path: string[] = []
  for (let i = 0; i < count; i++) path.push(readName(reader, 'a name in the path'))
  reader.end('a hello')
  return {
    hello: {
      version,
      set,
      server,
      stream,
      epoch,
      role: role === 1 ? 'primary' : 'standby',
      ...(upstream !== '' && { upstream }),
      path,
    },
    features: offered,
  }
}

function readName(reader: ByteReader, what: string): string {
  const name = reader.text(what, nameBytesMax)
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name)) throw notOurs(undefined)
  return name
}
