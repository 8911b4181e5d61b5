/** Gives a segment's transactions as pieces; what does not read as it was written is named and never given. */
import { HotspareError } from '../os/errors.ts'
import { frameHeaderBytes } from '../stream/frame.ts'
import { type LogPiece, pieceBytesMax } from '../stream/log-piece.ts'
import { FrameCursor, type Readable } from './frame-cursor.ts'
import { decodeRecord, isRecord } from './log-record.ts'
import type { Place } from './segment.ts'

export interface SegmentRange {
  readonly path: string
  /** A transaction at or before `from`. */
  readonly place: Place
  readonly from: number
  /** The last one to be given, which ends at or before `end`. */
  readonly to: number
  readonly end: number
  readonly readBytes?: number
}

export async function* readSegment(file: Readable, range: SegmentRange): AsyncGenerator<LogPiece> {
  const { path, place, from, to, end } = range
  const cursor = new FrameCursor(file, place.offset, end, range.readBytes)
  let number = place.number
  /** Entries since here were passed and not given yet. */
  let entriesFrom = -1

  const take = (): LogPiece | undefined => {
    const begin = entriesFrom
    entriesFrom = -1
    if (begin < 0 || number < from || begin === cursor.offset) return undefined
    return { type: 'entries', data: cursor.passed(begin, cursor.offset) }
  }

  while (number <= to) {
    const frame = cursor.frame()
    if (frame.kind === 'damaged') throw damaged(path, cursor.offset, number, frame.what)
    if (frame.kind === 'end') {
      const inside = entriesFrom >= 0
      const entries = take()
      if (entries !== undefined) yield entries
      if (!(await cursor.fill(frame.missingBytes)))
        throw damaged(path, cursor.offset, number, 'it ends too soon')
      if (inside) entriesFrom = cursor.offset
      continue
    }
    if (!isRecord(frame.payload)) {
      if (entriesFrom < 0) throw damaged(path, cursor.offset, number, 'an entry stands outside a transaction')
      const length = frame.payload.length + frameHeaderBytes
      if (cursor.offset > entriesFrom && cursor.offset + length - entriesFrom > pieceBytesMax) {
        const entries = take()
        if (entries !== undefined) yield entries
        entriesFrom = cursor.offset
      }
      cursor.pass(frame)
      continue
    }
    const record = decodeNamed(frame.payload, path, cursor.offset, number)
    if (record.type === 'begin') {
      if (record.number !== number || entriesFrom >= 0)
        throw damaged(path, cursor.offset, number, `transaction ${record.number} begins`)
      cursor.pass(frame)
      entriesFrom = cursor.offset
      if (number >= from) yield { type: 'begin', number, epoch: record.epoch, store: record.store }
    } else if (record.type === 'end' && record.number === number && entriesFrom >= 0) {
      const entries = take()
      if (entries !== undefined) yield entries
      cursor.pass(frame)
      const { chain, position, timeMs, consistent } = record
      if (number >= from) yield { type: 'end', number, chain, position, timeMs, consistent }
      number++
    } else throw damaged(path, cursor.offset, number, `a record '${record.type}' stands in a wrong place`)
  }
}

function decodeNamed(payload: Buffer, path: string, offset: number, number: number) {
  try {
    return decodeRecord(payload)
  } catch (error) {
    if (error instanceof HotspareError && error.code === 'entry-invalid')
      throw damaged(path, offset, number, error.message)
    throw error
  }
}

function damaged(path: string, offset: number, number: number, what: string): HotspareError {
  return new HotspareError(
    'log-damaged',
    `The log is damaged in '${path}' at offset ${offset}, in transaction ${number}: ${what}. It is put right when the log is opened anew.`,
    { details: { path, offset, number } },
  )
}
