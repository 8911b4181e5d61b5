/**
 * The records of a segment beside entries: frames (stream/frame.ts) whose payload begins with one of the bytes below,
 * which no entry begins with.
 *
 *     header   format, stream, generation of the log, salt, number of the first transaction, the chain and epoch
 *              before it, how many marks follow
 *     mark     where a store stands before the first transaction
 *     begin    number, epoch, store; the segment's salt, and up to where the segment was durable when it was written
 *     end      number, chain, position, time, whether consistent, bytes of its entries
 *
 * What a begin says of durability tells a torn end from damage: bytes before that offset had been made durable, so
 * when they are wrong, something has happened to them.
 */
import { HotspareError } from '../os/errors.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import { type Position, position, positionBytesMax, type StoreName, storeName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import { frameHeaderBytes, writeFrameHeader } from '../stream/frame.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { StoreMark } from './log.ts'
import { chainBytes } from './log-chain.ts'

const formatVersion = 1
export const headerType = 0x61
const markType = 0x62
export const beginType = 0x63
const endType = 0x64
export const saltBytes = 8
const storesMax = 100_000
export const epochByBytesMax = 256
export const streamBytesMax = 256

export interface HeaderRecord {
  readonly type: 'header'
  readonly stream: string
  /** Rises when the log begins anew: segments of an earlier one are void. */
  readonly generation: number
  readonly salt: Buffer
  readonly first: number
  readonly chainBefore: Chain
  readonly epochBefore: Epoch
  readonly marks: number
}

export interface MarkRecord {
  readonly type: 'mark'
  readonly store: StoreName
  readonly mark: StoreMark
}

export interface BeginRecord {
  readonly type: 'begin'
  readonly number: number
  readonly epoch: Epoch
  readonly store: StoreName
  readonly salt: Buffer
  readonly durableEnd: number
}

export interface EndRecord {
  readonly type: 'end'
  readonly number: number
  readonly chain: Chain
  readonly position: Position
  readonly timeMs: number
  readonly consistent: boolean
  readonly entryBytes: number
}

export type LogRecord = HeaderRecord | MarkRecord | BeginRecord | EndRecord

/** The whole frame, header included. */
export function encodeRecord(record: LogRecord): Buffer {
  const writer = new ByteWriter().room(frameHeaderBytes)
  switch (record.type) {
    case 'header':
      writer.u8(headerType).u8(formatVersion).text(record.stream).integer(record.generation)
      writer.raw(record.salt).integer(record.first).raw(chainBytes(record.chainBefore))
      writeEpoch(writer, record.epochBefore).integer(record.marks)
      break
    case 'mark':
      writer.u8(markType)
      writeMark(writer, record.store, record.mark)
      break
    case 'begin':
      writer.u8(beginType).raw(record.salt).integer(record.durableEnd).integer(record.number)
      writeEpoch(writer, record.epoch).latin1(record.store)
      break
    case 'end':
      writer.u8(endType).integer(record.number).raw(chainBytes(record.chain)).float64(record.timeMs)
      writer
        .u8(record.consistent ? 1 : 0)
        .integer(record.entryBytes)
        .text(record.position)
      break
  }
  const frame = writer.finish()
  writeFrameHeader(frame)
  return frame
}

/** Whether the payload is one of these records, and not an entry. */
export function isRecord(payload: Uint8Array): boolean {
  const type = payload[0] as number
  return type >= headerType && type <= endType
}

/** Decodes a frame's payload; `entry-invalid` when it is none of these. */
export function decodeRecord(payload: Buffer): LogRecord {
  const reader = new ByteReader(payload)
  const record = readRecord(reader)
  reader.end(`a log's ${record.type}`)
  return record
}

function readRecord(reader: ByteReader): LogRecord {
  const type = reader.u8('the type')
  switch (type) {
    case headerType: {
      const version = reader.u8('the version')
      if (version !== formatVersion) {
        throw new HotspareError(
          'state-version',
          `The log was written in format ${version}, and this version knows ${formatVersion}.`,
        )
      }
      return {
        type: 'header',
        stream: reader.text('the stream', streamBytesMax),
        generation: reader.integer('the generation'),
        salt: Buffer.from(reader.raw('the salt', saltBytes)),
        first: reader.integer('the first number'),
        chainBefore: readChain(reader),
        epochBefore: readEpoch(reader),
        marks: reader.integer('the number of marks'),
      }
    }
    case markType:
      return { type: 'mark', ...readMark(reader) }
    case beginType: {
      const salt = reader.raw('the salt', saltBytes)
      const durableEnd = reader.integer('the durable end')
      const number = reader.integer('the number')
      return { type: 'begin', number, epoch: readEpoch(reader), store: readStore(reader), salt, durableEnd }
    }
    case endType: {
      const number = reader.integer('the number')
      const chain = readChain(reader)
      const timeMs = reader.float64('the time')
      const consistent = reader.u8('the flags') === 1
      const entryBytes = reader.integer('the bytes')
      return { type: 'end', number, chain, position: readPosition(reader), timeMs, consistent, entryBytes }
    }
    default:
      throw new HotspareError('entry-invalid', `A log's record begins with byte ${type}.`)
  }
}

export function writeEpoch(writer: ByteWriter, epoch: Epoch): ByteWriter {
  return writer.integer(epoch.number).text(epoch.by)
}

export function readEpoch(reader: ByteReader): Epoch {
  return { number: reader.integer('the epoch'), by: reader.text('who began the epoch', epochByBytesMax) }
}

export function readChain(reader: ByteReader): Chain {
  return reader.raw('the chain', 8).toString('hex')
}

export function readStore(reader: ByteReader): StoreName {
  return storeName(reader.latin1('the store', 64))
}

export function readPosition(reader: ByteReader): Position {
  return position(reader.text('the position', 3 * positionBytesMax))
}

function writeMark(writer: ByteWriter, store: StoreName, mark: StoreMark): void {
  writer
    .latin1(store)
    .integer(mark.number)
    .float64(mark.timeMs)
    .u8(mark.consistent ? 1 : 0)
  writer.text(mark.position)
}

function readMark(reader: ByteReader): { store: StoreName; mark: StoreMark } {
  const store = readStore(reader)
  const number = reader.integer('the number')
  const timeMs = reader.float64('the time')
  const consistent = reader.u8('the flags') === 1
  return { store, mark: { number, timeMs, consistent, position: readPosition(reader) } }
}

/** What a log's reader may be told of at most. */
export function checkedMarks(count: number): number {
  if (count > storesMax) throw new HotspareError('entry-invalid', `A segment has ${count} marks.`)
  return count
}
