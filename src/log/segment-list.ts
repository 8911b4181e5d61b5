/** A log's segments, oldest first: without gaps, never none; the newest is the one that is written to. */
import type { Segment } from './segment.ts'

export class SegmentList {
  #segments: readonly Segment[]
  #closedBytes = 0

  constructor(segments: readonly Segment[]) {
    this.#segments = segments
    this.#count()
  }

  get all(): readonly Segment[] {
    return this.#segments
  }

  get oldest(): Segment {
    return this.#segments[0] as Segment
  }

  get newest(): Segment {
    return this.#segments.at(-1) as Segment
  }

  /** Of all but the newest, which grows. */
  get closedBytes(): number {
    return this.#closedBytes
  }

  /** The one that has this transaction; the oldest or the newest when none has. */
  of(number: number): Segment {
    let low = 0
    let high = this.#segments.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#segments[middle] as Segment).first <= number) low = middle
      else high = middle - 1
    }
    return this.#segments[low] as Segment
  }

  push(segment: Segment): void {
    this.#segments = [...this.#segments, segment]
    this.#count()
  }

  /** Gives the oldest ones, which are in the list no more; never the newest. */
  takeOldest(count: number): readonly Segment[] {
    const taken = this.#segments.slice(0, count)
    this.#segments = this.#segments.slice(count)
    this.#count()
    return taken
  }

  putBack(taken: readonly Segment[]): void {
    this.#segments = [...taken, ...this.#segments]
    this.#count()
  }

  #count(): void {
    this.#closedBytes = this.#segments.slice(0, -1).reduce((sum, segment) => sum + segment.end, 0)
  }
}
