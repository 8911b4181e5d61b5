/**
 * What a session's frames carry once the two sides have proved who they are. A payload's first byte:
 *
 *     data     channel, the bytes of a message (its last ones)
 *     part     channel, bytes of a message of which more follow
 *     open     channel, its name: the sender's number for it from now on
 *     credit   channel, so many more bytes may be sent on it
 *     close    channel: nothing more comes on it
 *     ping, pong   an id
 *     bye      why the sender closes the session
 *     packed   so many bytes, and then whole frames of the above, compressed
 */
import { HotspareError } from '../os/errors.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import { frameHeaderBytes, writeFrameHeader } from '../stream/frame.ts'
import { messageBytesExpected, messageBytesMax, writeMessage } from './message-codec.ts'
import type { LinkMessage } from './messages.ts'

/** A message that has more goes in parts. */
export const partBytesMax = 1024 * 1024 + 256 * 1024
export const wirePayloadBytesMax = partBytesMax + 64
/** That each side has open. A number is given once in a session: what comes late for one is never taken for another. */
export const channelsMax = 128
export const channelNameMax = 80

export type WireFrame =
  | { readonly kind: 'data' | 'part'; readonly channel: number; readonly bytes: Buffer }
  | { readonly kind: 'open'; readonly channel: number; readonly name: string }
  | { readonly kind: 'credit'; readonly channel: number; readonly bytes: number }
  | { readonly kind: 'close'; readonly channel: number }
  | { readonly kind: 'ping' | 'pong'; readonly id: number }
  | { readonly kind: 'bye'; readonly reason: string }
  | { readonly kind: 'packed'; readonly rawBytes: number; readonly bytes: Buffer }

const kinds: readonly WireFrame['kind'][] = [
  'data',
  'part',
  'open',
  'credit',
  'close',
  'ping',
  'pong',
  'bye',
  'packed',
]
const dataKind = kinds.indexOf('data')
const partKind = kinds.indexOf('part')
/** Of a data frame before the message: the frame's header, the kind, and the channel. */
const dataHeadBytes = frameHeaderBytes + 5
export const channelNumberMax = 2 ** 32 - 1

/** Whole frames. A message is copied once, into its frame. */
export function encodeData(channel: number, message: LinkMessage): Buffer[] {
  const writer = new ByteWriter(dataHeadBytes + messageBytesExpected(message))
  writer.room(frameHeaderBytes).u8(dataKind)
  writeChannel(writer, channel)
  writeMessage(writer, message)
  const whole = writer.finish()
  const bytes = whole.length - dataHeadBytes
  if (bytes > messageBytesMax) {
    throw new HotspareError(
      'entry-invalid',
      `A message of type ${message.type} has ${bytes} bytes; at most ${messageBytesMax} are allowed.`,
    )
  }
  if (bytes <= partBytesMax) {
    writeFrameHeader(whole)
    return [whole]
  }
  const frames: Buffer[] = []
  for (let at = dataHeadBytes; at < whole.length; at += partBytesMax) {
    const part = whole.subarray(at, at + partBytesMax)
    const frame = Buffer.allocUnsafe(dataHeadBytes + part.length)
    frame[frameHeaderBytes] = at + partBytesMax < whole.length ? partKind : dataKind
    whole.copy(frame, frameHeaderBytes + 1, frameHeaderBytes + 1, dataHeadBytes)
    part.copy(frame, dataHeadBytes)
    writeFrameHeader(frame)
    frames.push(frame)
  }
  return frames
}

/** Of the message bytes in a data frame: what counts against a channel's window. */
export function dataBytes(frame: Buffer): number {
  return frame.length - dataHeadBytes
}

export function encodeWire(frame: Exclude<WireFrame, { kind: 'data' | 'part' }>): Buffer {
  const writer = new ByteWriter(frame.kind === 'packed' ? frame.bytes.length + 64 : 128)
  writer.room(frameHeaderBytes).u8(kinds.indexOf(frame.kind))
  switch (frame.kind) {
    case 'open':
      writeChannel(writer, frame.channel).text(frame.name)
      break
    case 'credit':
      writeChannel(writer, frame.channel).integer(frame.bytes)
      break
    case 'close':
      writeChannel(writer, frame.channel)
      break
    case 'ping':
    case 'pong':
      writer.integer(frame.id)
      break
    case 'bye':
      writer.text(frame.reason.toWellFormed().slice(0, 300))
      break
    case 'packed':
      writer.integer(frame.rawBytes).raw(frame.bytes)
      break
    default:
      frame satisfies never
  }
  const whole = writer.finish()
  writeFrameHeader(whole)
  return whole
}

/** Throws `entry-invalid`. Bytes are views. */
export function decodeWire(payload: Buffer): WireFrame {
  const reader = new ByteReader(payload)
  const kind = kinds[reader.u8('the kind of a frame')]
  switch (kind) {
    case 'data':
    case 'part': {
      const channel = readChannel(reader)
      const bytes = reader.raw('a message', reader.remaining)
      if (bytes.length === 0) throw invalid('a message has no bytes')
      return { kind, channel, bytes }
    }
    case 'open':
      return whole(reader, {
        kind,
        channel: readChannel(reader),
        name: reader.text('the name of a channel', channelNameMax),
      })
    case 'credit':
      return whole(reader, { kind, channel: readChannel(reader), bytes: reader.integer('a credit') })
    case 'close':
      return whole(reader, { kind, channel: readChannel(reader) })
    case 'ping':
    case 'pong':
      return whole(reader, { kind, id: reader.integer('the id of a heartbeat') })
    case 'bye':
      return whole(reader, { kind, reason: reader.text('a reason', 1024) })
    case 'packed': {
      const rawBytes = reader.integer('the size of a packed frame')
      return { kind, rawBytes, bytes: reader.raw('a packed frame', reader.remaining) }
    }
    case undefined:
      throw invalid('a frame is of a kind that this version does not know')
    default:
      return kind satisfies never
  }
}

function writeChannel(writer: ByteWriter, channel: number): ByteWriter {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32LE(channel)
  return writer.raw(bytes)
}

function readChannel(reader: ByteReader): number {
  return reader.raw('the number of a channel', 4).readUInt32LE()
}

function whole(reader: ByteReader, frame: WireFrame): WireFrame {
  reader.end(`a ${frame.kind} frame`)
  return frame
}

function invalid(what: string): HotspareError {
  return new HotspareError('entry-invalid', `Malformed frame: ${what}.`)
}
