/**
 * Reads a segment from its beginning, believing nothing: what is whole and follows on is kept, and the first thing that
 * is not so is named, with what tells whether it had been durable (log-record.ts).
 */
import { HotspareError } from '../os/errors.ts'
import type { StorageFile } from '../os/storage.ts'
import { decodeEntry } from '../stream/codec.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch } from '../stream/epoch.ts'
import { frameHeaderBytes, readFrame } from '../stream/frame.ts'
import { FrameCursor } from './frame-cursor.ts'
import type { StoreMark } from './log.ts'
import { chainOf, foldFrame } from './log-chain.ts'
import {
  type BeginRecord,
  beginType,
  checkedMarks,
  decodeRecord,
  isRecord,
  type LogRecord,
} from './log-record.ts'
import { Segment } from './segment.ts'

const searchBytes = 1024 * 1024
/** A begin frame is not longer. */
const beginBytesMax = 1024

export interface Fault {
  readonly offset: number
  readonly what: string
}

export interface SegmentScan {
  /** Undefined when its beginning cannot be read. */
  readonly segment: Segment | undefined
  readonly size: number
  /** Where the stores stand at its end. */
  readonly marks: Map<StoreName, StoreMark>
  /** At its end. */
  readonly epoch: Epoch
  /** What stands behind the last whole transaction and should not; undefined when nothing does. */
  readonly fault: Fault | undefined
  /** So much had been made durable, by what is told in it. */
  readonly durableEnd: number
  /** The greatest number that was met, behind the fault as well; 0 when none was. */
  readonly seen: number
}

class Faulty extends Error {}

/** Reads the whole segment; with `upTo`, to the end of that transaction. */
export async function scanSegment(
  file: StorageFile,
  path: string,
  upTo = Number.MAX_SAFE_INTEGER,
): Promise<SegmentScan> {
  const { size } = await file.stat()
  const scanner = new Scanner(file, path, size)
  const fault = await scanner.run(upTo)
  const { segment, marks, epoch } = scanner
  const found = { durableEnd: scanner.durableEnd, seen: segment === undefined ? 0 : segment.last }
  if (fault !== undefined) {
    await searchBegins(file, fault.offset, size, begin => {
      if (segment !== undefined && !begin.salt.equals(segment.start.salt)) return
      found.durableEnd = Math.max(found.durableEnd, begin.durableEnd)
      found.seen = Math.max(found.seen, begin.number)
    })
  }
  return { segment, size, marks, epoch, fault, ...found }
}

class Scanner {
  segment: Segment | undefined
  readonly marks = new Map<StoreName, StoreMark>()
  epoch: Epoch = { number: 0, by: '' }
  durableEnd = 0
  readonly #path: string
  readonly #cursor: FrameCursor

  constructor(file: StorageFile, path: string, size: number) {
    this.#path = path
    this.#cursor = new FrameCursor(file, 0, size)
  }

  async run(upTo: number): Promise<Fault | undefined> {
    try {
      const segment = await this.#start()
      this.segment = segment
      while (segment.last < upTo && (await this.#transaction(segment))) {
        // until the end, or a fault
      }
      return undefined
    } catch (error) {
      const faulty =
        error instanceof Faulty || (error instanceof HotspareError && error.code === 'entry-invalid')
      if (!faulty) throw error
      return { offset: this.#cursor.offset, what: error.message }
    }
  }

  async #start(): Promise<Segment> {
    const header = this.#record(await this.#payload())
    if (header.type !== 'header') throw new Faulty('it does not begin with a header')
    for (let i = checkedMarks(header.marks); i > 0; i--) {
      const record = this.#record(await this.#payload())
      if (record.type !== 'mark') throw new Faulty('a mark is missing in its header')
      this.marks.set(record.store, record.mark)
    }
    this.epoch = header.epochBefore
    return new Segment(this.#path, header, this.#cursor.offset, this.marks)
  }

  /** False at the end. */
  async #transaction(segment: Segment): Promise<boolean> {
    const first = await this.#payload(true)
    if (first === undefined) return false
    const begin = this.#record(first)
    if (begin.type !== 'begin') throw new Faulty(`a transaction begins with '${begin.type}'`)
    if (begin.number !== segment.last + 1)
      throw new Faulty(`transaction ${begin.number} follows on ${segment.last}`)
    if (compareEpochs(begin.epoch, this.epoch) < 0)
      throw new Faulty(`transaction ${begin.number} has an older epoch than the one before it`)
    if (!begin.salt.equals(segment.start.salt)) throw new Faulty('a transaction of another segment')
    this.durableEnd = Math.max(this.durableEnd, begin.durableEnd)
    let content = 0n
    let commit: Buffer | undefined
    for (;;) {
      const { payload, frame } = await this.#next()
      if (!isRecord(payload)) {
        if (commit !== undefined) throw new Faulty('an entry follows the commit')
        content = foldFrame(content, frame)
        if (((payload[0] as number) & 15) === 0) commit = payload
        continue
      }
      const end = this.#record(payload)
      const decoded = commit === undefined ? undefined : decodeEntry(commit)
      if (end.type !== 'end' || end.number !== begin.number || decoded?.type !== 'commit')
        throw new Faulty(`transaction ${begin.number} does not end as it must`)
      const { number, epoch, store } = begin
      if (end.chain !== chainOf(segment.chain, { number, epoch, store, content }))
        throw new Faulty(`the chain of transaction ${number} does not fit`)
      segment.add(number, end.chain, end.timeMs, this.#cursor.offset)
      this.epoch = epoch
      const { position, timeMs, consistent } = decoded
      this.marks.set(store, { number, position, timeMs, consistent })
      return true
    }
  }

  #record(payload: Buffer): LogRecord {
    if (!isRecord(payload)) throw new Faulty('an entry stands outside a transaction')
    return decodeRecord(payload)
  }

  async #payload(): Promise<Buffer>
  async #payload(mayEnd: true): Promise<Buffer | undefined>
  async #payload(mayEnd = false): Promise<Buffer | undefined> {
    const next = await this.#next(mayEnd)
    return next?.payload
  }

  async #next(): Promise<{ payload: Buffer; frame: Buffer }>
  async #next(mayEnd: boolean): Promise<{ payload: Buffer; frame: Buffer } | undefined>
  async #next(mayEnd = false): Promise<{ payload: Buffer; frame: Buffer } | undefined> {
    for (;;) {
      const read = this.#cursor.frame()
      switch (read.kind) {
        case 'frame':
          return { payload: read.payload, frame: this.#cursor.pass(read) }
        case 'damaged':
          throw new Faulty(read.what)
        case 'end': {
          if (await this.#cursor.fill(read.missingBytes)) continue
          if (mayEnd && read.missingBytes === frameHeaderBytes) return undefined
          throw new Faulty('it ends within a transaction')
        }
      }
    }
  }
}

/** All whole begin frames from `offset` on, wherever they stand. */
async function searchBegins(
  file: StorageFile,
  offset: number,
  size: number,
  found: (begin: BeginRecord) => void,
): Promise<void> {
  for (let from = offset; from < size; from += searchBytes) {
    const window = Buffer.alloc(Math.min(searchBytes + beginBytesMax, size - from))
    const bytes = window.subarray(0, await file.read(window, from))
    // the type's byte is found fast; whether it is one is checked by the frame before it
    for (let at = bytes.indexOf(beginType); at >= 0; at = bytes.indexOf(beginType, at + 1)) {
      const begin = beginAt(bytes, at - frameHeaderBytes)
      if (begin !== undefined) found(begin)
    }
  }
}

function beginAt(bytes: Buffer, offset: number): BeginRecord | undefined {
  if (offset < 0 || offset + frameHeaderBytes > bytes.length) return undefined
  if (bytes.readUInt32LE(offset) > beginBytesMax - frameHeaderBytes) return undefined
  const read = readFrame(bytes, offset)
  if (read.kind !== 'frame') return undefined
  try {
    const record = decodeRecord(read.payload)
    return record.type === 'begin' ? record : undefined
  } catch {
    return undefined // not a begin: bytes that look like one
  }
}
