/**
 * Messages as bytes: a byte for the type, then its fields (stream/bytes.ts). Whoever decodes believes nothing: each
 * field has a bound, names and paths are checked, nothing may be left over. Bytes in a decoded message are views.
 */
import { HotspareError, unreachable } from '../os/errors.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import {
  type EntryPath,
  entryPath,
  type Position,
  position,
  positionBytesMax,
  type StoreName,
  storeName,
} from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import { frameHeaderBytes, framePayloadBytesMax } from '../stream/frame.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import type { LinkMessage, StoreDescription, StoreStand } from './messages.ts'

/** A `log` message closes with the piece that takes it to this many bytes of entries, or beyond. */
export const logMessageBytesWanted = 1024 * 1024
/** One entry that is as large as an entry can be, and what stands around it. */
export const messageBytesMax = frameHeaderBytes + framePayloadBytesMax + 512 * 1024
/** Bytes of a probe, of digests, of entries in a `sync-entries` message that is not one large entry. */
export const payloadBytesMax = 1024 * 1024

const dataBytesMax = frameHeaderBytes + framePayloadBytesMax
const piecesMax = 64 * 1024
const storesMax = 4096
const inventoryMax = 64 * 1024
const codeBytesMax = 64
const textBytesMax = 4096
const streamBytesMax = 128
const digestBytesMax = 64 * 1024 * 1024

/** The order is the format: new ones go to the end. */
const types: readonly LinkMessage['type'][] = [
  'subscribe',
  'subscribed',
  'refused',
  'epoch',
  'probe',
  'probed',
  'log',
  'mark',
  'acknowledge',
  'sync-begin',
  'inventory-ask',
  'digests-ask',
  'sync-entries',
  'sync-flush',
  'sync-end',
  'sync-ready',
  'inventory-page',
  'digests',
  'sync-durable',
  'sync-ended',
  'chain-ask',
  'chain-told',
  'hand-over',
  'handed-over',
  'not-handed-over',
]
const pieceTypes: readonly LogPiece['type'][] = ['begin', 'entries', 'end']
const digestKinds = ['blake3-256', 'xxh64'] as const
const nodeKinds = ['directory', 'symlink', 'hardlink', 'other'] as const

/** How many bytes the message will have, roughly and not less: so that its buffer need not grow. */
export function messageBytesExpected(message: LinkMessage): number {
  switch (message.type) {
    case 'log':
      return message.pieces.reduce(
        (sum, piece) => sum + (piece.type === 'entries' ? piece.data.length + 16 : 256),
        64,
      )
    case 'sync-entries':
      return message.data.length + 64
    case 'probe':
      return message.payload.length + 64
    case 'digests':
      return message.digests.length + message.path.length + 64
    default:
      return 512
  }
}

export function writeMessage(writer: ByteWriter, message: LinkMessage): void {
  writer.u8(types.indexOf(message.type))
  switch (message.type) {
    case 'subscribe':
      writer.integer(message.next)
      writeChain(writer, message.chain)
      writer.integer(message.stores.length)
      for (const { store, number, quarantined } of message.stores) {
        writer.latin1(store)
        writeMaybe(writer, number)
        writer.u8(quarantined ? 1 : 0)
      }
      return
    case 'subscribed':
      writer.integer(message.next)
      writeChain(writer, message.chain)
      writer.u8(message.restart ? 1 : 0).text(message.stream)
      writeEpoch(writer, message.epoch)
      writer.integer(message.stores.length)
      for (const description of message.stores) writeDescription(writer, description)
      writer.integer(message.sync.length)
      for (const store of message.sync) writer.latin1(store)
      return
    case 'refused':
      writer.text(message.code).text(bounded(message.message))
      return
    case 'epoch':
    case 'hand-over':
      writeEpoch(writer, message.epoch)
      return
    case 'probe':
      writer.integer(message.id).bytes(message.payload)
      return
    case 'probed':
      writer.integer(message.id).float64(message.durableMs)
      return
    case 'chain-ask':
      writer.integer(message.number)
      return
    case 'chain-told':
      writer.integer(message.number).u8(message.chain === undefined ? 0 : 1)
      if (message.chain !== undefined) writeChain(writer, message.chain)
      writer.integer(message.first).integer(message.next)
      return
    case 'handed-over':
      writeEpoch(writer, message.epoch)
      writer.integer(message.number)
      writeChain(writer, message.chain)
      writer.float64(message.withoutWriterMs)
      return
    case 'not-handed-over':
      writeEpoch(writer, message.epoch)
      writer.text(message.code).text(bounded(message.message))
      return
    case 'log':
      writer.integer(message.pieces.length)
      for (const piece of message.pieces) writePiece(writer, piece)
      return
    case 'mark':
      writer.integer(message.number).float64(message.timeMs)
      return
    case 'acknowledge':
      writer.integer(message.received).integer(message.applied).integer(message.released)
      return
    case 'sync-begin':
      writeDescription(writer, message.description)
      return
    case 'inventory-ask':
      writer.u8(message.after === undefined ? 0 : 1)
      if (message.after !== undefined) writer.latin1(message.after)
      return
    case 'digests-ask':
      writer.latin1(message.path).integer(message.firstBlock).integer(message.count)
      return
    case 'sync-entries':
      writer.bytes(message.data)
      return
    case 'sync-flush':
    case 'sync-durable':
      writer.integer(message.id)
      return
    case 'sync-end':
      writer.integer(message.number).text(message.position)
      return
    case 'sync-ready':
      writer.u8((message.position === undefined ? 0 : 1) | (message.hasInventory ? 2 : 0))
      if (message.position !== undefined) writer.text(message.position)
      return
    case 'inventory-page':
      writer.integer(message.files.length)
      for (const file of message.files)
        writer
          .latin1(file.path)
          .integer(file.size)
          .integer(file.blockBytes)
          .u8(digestKinds.indexOf(file.digest))
      writer.integer(message.others.length)
      for (const other of message.others) writer.latin1(other.path).u8(nodeKinds.indexOf(other.kind))
      writer.u8(message.last ? 1 : 0)
      return
    case 'digests':
      writer.latin1(message.path).integer(message.firstBlock).bytes(message.digests)
      return
    case 'sync-ended':
      return
    default:
      unreachable(message)
  }
}

export function encodeMessage(message: LinkMessage): Buffer {
  const writer = new ByteWriter(messageBytesExpected(message))
  writeMessage(writer, message)
  return writer.finish()
}

/** Throws `entry-invalid`, naming the field. */
export function decodeMessage(bytes: Uint8Array): LinkMessage {
  const reader = new ByteReader(bytes)
  const type = oneOf(types, reader.u8('the type of a message'), 'the type of a message')
  const message = readMessage(reader, type)
  reader.end(`a ${type} message`)
  return message
}

function readMessage(reader: ByteReader, type: LinkMessage['type']): LinkMessage {
  switch (type) {
    case 'subscribe':
      return {
        type,
        next: reader.integer('the next number'),
        chain: readChain(reader),
        stores: readList(reader, 'stores', storesMax, readStand),
      }
    case 'subscribed':
      return {
        type,
        next: reader.integer('the next number'),
        chain: readChain(reader),
        restart: readFlag(reader, 'restart'),
        stream: reader.text('the stream', streamBytesMax),
        epoch: readEpoch(reader),
        stores: readList(reader, 'stores', storesMax, readDescription),
        sync: readList(reader, 'stores to synchronise', storesMax, readStore),
      }
    case 'refused':
      return { type, ...readReason(reader) }
    case 'epoch':
    case 'hand-over':
      return { type, epoch: readEpoch(reader) }
    case 'probe':
      return {
        type,
        id: reader.integer('the id of a probe'),
        payload: reader.bytes('a probe', payloadBytesMax),
      }
    case 'probed':
      return { type, id: reader.integer('the id of a probe'), durableMs: readFinite(reader, 'a time') }
    case 'chain-ask':
      return { type, number: reader.integer('a number') }
    case 'chain-told':
      return {
        type,
        number: reader.integer('a number'),
        chain: readFlag(reader, 'a chain') ? readChain(reader) : undefined,
        first: reader.integer('the first number'),
        next: reader.integer('the next number'),
      }
    case 'handed-over':
      return {
        type,
        epoch: readEpoch(reader),
        number: reader.integer('a number'),
        chain: readChain(reader),
        withoutWriterMs: readFinite(reader, 'a time'),
      }
    case 'not-handed-over':
      return { type, epoch: readEpoch(reader), ...readReason(reader) }
    case 'log':
      return { type, pieces: readList(reader, 'pieces', piecesMax, readPiece) }
    case 'mark':
      return { type, number: reader.integer('a number'), timeMs: readFinite(reader, 'a time') }
    case 'acknowledge':
      return {
        type,
        received: reader.integer('the number received'),
        applied: reader.integer('the number applied'),
        released: reader.integer('the number released'),
      }
    case 'sync-begin':
      return { type, description: readDescription(reader) }
    case 'inventory-ask':
      return { type, after: readFlag(reader, 'a path') ? readPath(reader) : undefined }
    case 'digests-ask':
      return {
        type,
        path: readPath(reader),
        firstBlock: reader.integer('a block'),
        count: atMost(reader.integer('a number of blocks'), digestBytesMax, 'a number of blocks'),
      }
    case 'sync-entries':
      return { type, data: reader.bytes('entries', dataBytesMax) }
    case 'sync-flush':
    case 'sync-durable':
      return { type, id: reader.integer('the id of a flush') }
    case 'sync-end':
      return { type, number: reader.integer('a number'), position: readPosition(reader) }
    case 'sync-ready': {
      const flags = atMost(reader.u8('flags'), 3, 'flags')
      return {
        type,
        position: (flags & 1) === 0 ? undefined : readPosition(reader),
        hasInventory: (flags & 2) !== 0,
      }
    }
    case 'inventory-page':
      return {
        type,
        files: readList(reader, 'files', inventoryMax, readFile),
        others: readList(reader, 'other names', inventoryMax, readOther),
        last: readFlag(reader, 'the last page'),
      }
    case 'digests':
      return {
        type,
        path: readPath(reader),
        firstBlock: reader.integer('a block'),
        digests: reader.bytes('digests', payloadBytesMax),
      }
    case 'sync-ended':
      return { type }
    default:
      return unreachable(type)
  }
}

function writePiece(writer: ByteWriter, piece: LogPiece): void {
  writer.u8(pieceTypes.indexOf(piece.type))
  switch (piece.type) {
    case 'begin':
      writer.integer(piece.number)
      writeEpoch(writer, piece.epoch)
      writer.latin1(piece.store)
      return
    case 'entries':
      writer.bytes(piece.data)
      return
    case 'end':
      writer.integer(piece.number)
      writeChain(writer, piece.chain)
      writer
        .text(piece.position)
        .float64(piece.timeMs)
        .u8(piece.consistent ? 1 : 0)
      return
    default:
      unreachable(piece)
  }
}

function readPiece(reader: ByteReader): LogPiece {
  const type = oneOf(pieceTypes, reader.u8('the type of a piece'), 'the type of a piece')
  switch (type) {
    case 'begin':
      return { type, number: reader.integer('a number'), epoch: readEpoch(reader), store: readStore(reader) }
    case 'entries':
      return { type, data: reader.bytes('entries', dataBytesMax) }
    case 'end':
      return {
        type,
        number: reader.integer('a number'),
        chain: readChain(reader),
        position: readPosition(reader),
        timeMs: readFinite(reader, 'a time'),
        consistent: readFlag(reader, 'consistent'),
      }
    default:
      return unreachable(type)
  }
}

function readStand(reader: ByteReader): StoreStand {
  return {
    store: readStore(reader),
    number: readMaybe(reader, 'a number'),
    quarantined: readFlag(reader, 'quarantined'),
  }
}

function writeDescription(writer: ByteWriter, { store, driver, profile }: StoreDescription): void {
  writer
    .latin1(store)
    .text(driver)
    .u8(profile === undefined ? 0 : 1)
  if (profile !== undefined) writer.text(profile)
}

function readDescription(reader: ByteReader): StoreDescription {
  const store = readStore(reader)
  const driver = reader.text('the name of a driver', codeBytesMax)
  if (!readFlag(reader, 'a profile')) return { store, driver }
  return { store, driver, profile: reader.text('a profile', codeBytesMax) }
}

function readFile(reader: ByteReader) {
  return {
    path: readPath(reader),
    size: reader.integer('a size'),
    blockBytes: reader.integer('the size of a block'),
    digest: oneOf(digestKinds, reader.u8('a kind of digest'), 'a kind of digest'),
  }
}

function readOther(reader: ByteReader) {
  return {
    path: readPath(reader),
    kind: oneOf(nodeKinds, reader.u8('a kind of node'), 'a kind of node'),
  }
}

/** `code` and `message` as the other side gave them: for people, and never to be matched on but for the code. */
function readReason(reader: ByteReader): { code: string; message: string } {
  return { code: reader.text('a code', codeBytesMax), message: reader.text('a message', textBytesMax) }
}

/** What is said for people is cut, rather than refused. */
function bounded(message: string): string {
  let text = message.toWellFormed().slice(0, textBytesMax)
  while (Buffer.byteLength(text) > textBytesMax) text = text.slice(0, -1).toWellFormed()
  return text
}

export function writeEpoch(writer: ByteWriter, { number, by }: Epoch): void {
  writer.integer(number).latin1(by)
}

export function readEpoch(reader: ByteReader): Epoch {
  const number = reader.integer('an epoch')
  const by = reader.latin1('the name in an epoch', 64)
  if (!/^[A-Za-z0-9._-]{0,64}$/.test(by)) throw invalid(`the name in an epoch is '${by}'`)
  return { number, by }
}

function writeChain(writer: ByteWriter, chain: Chain): void {
  if (!/^[0-9a-f]{16}$/.test(chain)) throw invalid(`a chain is '${chain}', not 16 hex digits`)
  writer.raw(Buffer.from(chain, 'hex'))
}

function readChain(reader: ByteReader): Chain {
  return reader.raw('a chain', 8).toString('hex')
}

function readPath(reader: ByteReader): EntryPath {
  return entryPath(reader.latin1('a path', 4096))
}

function readPosition(reader: ByteReader): Position {
  return position(reader.text('a position', 3 * positionBytesMax))
}

function readStore(reader: ByteReader): StoreName {
  const text = reader.latin1('the name of a store', 64)
  try {
    return storeName(text)
  } catch (cause) {
    throw invalid("a store's name is not one", cause)
  }
}

function writeMaybe(writer: ByteWriter, number: number | undefined): void {
  writer.u8(number === undefined ? 0 : 1)
  if (number !== undefined) writer.integer(number)
}

function readMaybe(reader: ByteReader, what: string): number | undefined {
  return readFlag(reader, what) ? reader.integer(what) : undefined
}

function readList<T>(reader: ByteReader, what: string, max: number, read: (reader: ByteReader) => T): T[] {
  const count = reader.integer(`the number of ${what}`)
  // each has a byte at least: nobody makes us prepare for more than was sent
  if (count > max || count > reader.remaining) throw invalid(`there are said to be ${count} ${what}`)
  const list: T[] = []
  for (let i = 0; i < count; i++) list.push(read(reader))
  return list
}

function readFlag(reader: ByteReader, what: string): boolean {
  return atMost(reader.u8(what), 1, what) === 1
}

function readFinite(reader: ByteReader, what: string): number {
  const value = reader.float64(what)
  if (!Number.isFinite(value)) throw invalid(`${what} is ${value}`)
  return value
}

function atMost(value: number, max: number, what: string): number {
  if (value > max) throw invalid(`${what} is ${value}, more than ${max}`)
  return value
}

function oneOf<T>(known: readonly T[], index: number, what: string): T {
  const value = known[index]
  if (value === undefined) throw invalid(`${what} is ${index}, which this version does not know`)
  return value
}

function invalid(what: string, cause?: unknown): HotspareError {
  return new HotspareError('entry-invalid', `Malformed message: ${what}.`, { cause })
}
