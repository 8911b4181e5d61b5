/**
 * Gives a log's durable transactions, from whichever segments have them.
 *
 * Invariant: what is given is durable, without gaps, and of one opening of the log: once it is ended (`end`), a reading
 * that goes on gives nothing more. A segment that is removed while it is read is read to its end.
 */
import { assert, describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import type { Storage, StorageFile } from '../os/storage.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import type { Readable } from './frame-cursor.ts'
import type { Segment } from './segment.ts'
import type { SegmentList } from './segment-list.ts'
import { readSegment } from './segment-reader.ts'
import type { SegmentWriter } from './segment-writer.ts'

const readBytesMin = 4096
const readBytesMax = 512 * 1024

export class LogReader {
  readonly #storage: Storage
  readonly #segments: SegmentList
  readonly #writer: SegmentWriter
  #ended: ((number: number) => HotspareError) | undefined

  constructor(storage: Storage, segments: SegmentList, writer: SegmentWriter) {
    this.#storage = storage
    this.#segments = segments
    this.#writer = writer
  }

  /** Nothing is given any more; `why` says it to whoever reads at a number. */
  end(why: (number: number) => HotspareError): void {
    this.#ended = why
  }

  /** See `Log.read`. */
  async *read(from: number, signal: AbortSignal): AsyncGenerator<LogPiece> {
    this.#checkReadable(from)
    for (let number = from; number <= this.#writer.durable && !signal.aborted; ) {
      if (number < this.#first) throw this.removed(number)
      const segment = this.#segments.of(number)
      const to = Math.min(this.#writer.durable, segment.last)
      const end = segment.durableEnd
      const file = this.#toRead(segment, number)
      try {
        const place = segment.seek(number)
        const readBytes = Math.min(readBytesMax, Math.max(readBytesMin, end - place.offset))
        const range = { path: segment.path, place, from: number, to, end, readBytes }
        for await (const piece of readSegment(file, range)) {
          this.#check(number)
          yield piece
          if (piece.type === 'end') number = piece.number + 1
          if (signal.aborted) return
        }
        assert(number > to, `reading '${segment.path}' ended before transaction ${to}`)
      } finally {
        await file.close()
      }
    }
  }

  /** See `Log.chainAfter`. */
  async chainAfter(number: number): Promise<Chain | undefined> {
    const newest = this.#writer.segment
    if (number === newest.last) return newest.chain
    if (number < this.#first - 1 || number > newest.last) return undefined
    if (number === this.#first - 1) return this.#segments.oldest.start.chainBefore
    const segment = this.#segments.of(number)
    if (segment.last === number) return segment.chain
    this.#check(number)
    await this.#writer.sync()
    try {
      for await (const piece of this.read(number, new AbortController().signal))
        if (piece.type === 'end') return piece.chain
    } catch (error) {
      if (!(error instanceof HotspareError && error.code === 'log-removed')) throw error
    }
    return undefined
  }

  /** The fault of whoever wants a transaction that is not kept. */
  removed(number: number): HotspareError {
    const first = this.#first
    return new HotspareError(
      'log-removed',
      `Transaction ${number} is not kept any more: the log begins with ${first}.`,
      { details: { number, first } },
    )
  }

  get #first(): number {
    return this.#segments.oldest.first
  }

  #check(number: number): void {
    if (this.#ended !== undefined) throw this.#ended(number)
  }

  #checkReadable(number: number): void {
    this.#check(number)
    const { last } = this.#writer.segment
    if (number > last + 1) {
      throw new HotspareError(
        'log-gap',
        `Transaction ${number} was asked for, and the log has come to ${last}.`,
      )
    }
    if (number < this.#first) throw this.removed(number)
  }

  /** Opened only when what is asked for is not in memory any more. */
  #toRead(segment: Segment, number: number): Readable & { close(): Promise<void> } {
    let file: StorageFile | undefined
    return {
      read: async (buffer, offset) => {
        if (this.#writer.readRecent(segment, buffer, offset)) return buffer.length
        file ??= await this.#open(segment, number)
        return file.read(buffer, offset)
      },
      close: async () => file?.close(),
    }
  }

  async #open(segment: Segment, number: number): Promise<StorageFile> {
    try {
      return await this.#storage.open(segment.path, 'read')
    } catch (error) {
      if (isSystemError(error, 'ENOENT') && this.#first > number) throw this.removed(number)
      throw describeSystemError(error, `Cannot read the log's segment '${segment.path}'`)
    }
  }
}
