/** A segment: a file of whole transactions, one after another, and where in it they are found. */
import type { StorageFile } from '../os/storage.ts'
import type { StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { StoreMark } from './log.ts'
import { encodeRecord } from './log-record.ts'

/** So far apart, at least, are transactions whose place is kept in memory. */
const indexBytes = 32 * 1024

export interface SegmentStart {
  readonly stream: string
  readonly generation: number
  readonly salt: Buffer
  readonly first: number
  readonly chainBefore: Chain
  readonly epochBefore: Epoch
}

export interface Place {
  readonly number: number
  readonly offset: number
}

export class Segment {
  readonly path: string
  readonly start: SegmentStart
  /** Where the first transaction begins. */
  readonly begin: number
  /** The last transaction of each store before the first one here. */
  readonly numbersBefore: ReadonlyMap<StoreName, number>
  /** The last whole transaction; `start.first - 1` when there is none. */
  last: number
  /** After `last`. */
  chain: Chain
  /** Where `last` ends. */
  end: number
  /** Up to here the file is durable. */
  durableEnd: number
  /** Of all commits in it; 0 when there is none. */
  newestTimeMs = 0
  readonly #numbers: number[] = []
  readonly #offsets: number[] = []

  constructor(path: string, start: SegmentStart, begin: number, marks: ReadonlyMap<StoreName, StoreMark>) {
    this.path = path
    this.start = start
    this.begin = begin
    this.numbersBefore = new Map([...marks].map(([store, { number }]) => [store, number]))
    this.last = start.first - 1
    this.chain = start.chainBefore
    this.end = begin
    this.durableEnd = begin
  }

  get first(): number {
    return this.start.first
  }

  get isEmpty(): boolean {
    return this.last < this.first
  }

  /** A whole transaction, which begins where the segment ended, and ends at `end`. */
  add(number: number, chain: Chain, timeMs: number, end: number): void {
    if (this.end - (this.#offsets.at(-1) ?? -indexBytes) >= indexBytes) {
      this.#numbers.push(number)
      this.#offsets.push(this.end)
    }
    this.last = number
    this.chain = chain
    this.end = end
    if (timeMs > this.newestTimeMs) this.newestTimeMs = timeMs
  }

  /** The nearest transaction at or before this one whose place is known. */
  seek(number: number): Place {
    let low = 0
    let high = this.#numbers.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#numbers[middle] as number) <= number) low = middle
      else high = middle - 1
    }
    const found = this.#numbers[low]
    if (found === undefined || found > number) return { number: this.first, offset: this.begin }
    return { number: found, offset: this.#offsets[low] as number }
  }
}

export function segmentName(first: number): string {
  return `${String(first).padStart(20, '0')}.seg`
}

/** The number in a segment's name; undefined when the name is none. */
export function segmentNumber(name: string): number | undefined {
  return /^\d{20}\.seg$/.test(name) ? Number(name.slice(0, 20)) : undefined
}

/** What a segment begins with, as bytes. */
export function encodeStart(start: SegmentStart, marks: ReadonlyMap<StoreName, StoreMark>): Buffer {
  const frames = [encodeRecord({ type: 'header', ...start, marks: marks.size })]
  for (const [store, mark] of marks) frames.push(encodeRecord({ type: 'mark', store, mark }))
  return Buffer.concat(frames)
}

/** Writes the beginning of a new segment, durable but for its name. */
export async function writeStart(
  file: StorageFile,
  path: string,
  start: SegmentStart,
  marks: ReadonlyMap<StoreName, StoreMark>,
): Promise<Segment> {
  const bytes = encodeStart(start, marks)
  await file.writeDurably(bytes, 0)
  return new Segment(path, start, bytes.length, marks)
}
