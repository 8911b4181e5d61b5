/**
 * Reads the committed transactions of a write-ahead log in order, from its bytes alone.
 *
 * Invariant: what it gives is a chain: each frame carries the salts of the log's header and the checksum over all
 * frames before it. Which frame is the last committed one tells the engine's index of the log (`wal-index.ts`); whether
 * the log was restarted in between is the caller's to prove.
 */
import { readSync } from 'node:fs'
import {
  frameChecksum,
  frameHeaderBytes,
  frameOffset,
  parseFrameHeader,
  parseWalHeader,
  sameChecksum,
  type WalChecksum,
  type WalHeader,
  walHeaderBytes,
} from './wal-format.ts'
import { type FrameIndex, pickPages } from './wal-pick.ts'

/** A large window has few versions of the same page to hand on, and a small one stays in the processor's cache. */
const windowBytesMax = 2 * 1024 * 1024
const lookBytes = 64 * 1024

/** A place right after a commit frame (frame 0: right after the header). */
export interface WalPlace {
  readonly frame: number
  readonly checksum: WalChecksum
}

/** Consecutive page versions of one or more whole transactions, or a part of a large one. */
export interface WalWindow {
  /** The newest version of each page in the window, in ascending order. The data is valid until the next call. */
  readonly pages: ReadonlyMap<number, Buffer>
  /** Set when the window ends at a commit: the size of the database after it, and the place. */
  readonly commit?: { readonly pages: number; readonly place: WalPlace }
}

/** What frames are read into, of one log after the other: new memory for each would wait for the garbage collector. */
export class FrameBuffer {
  #bytes = Buffer.alloc(0)

  /** At least so many bytes, of unknown content: what was taken before is void. */
  take(bytes: number): Buffer {
    if (this.#bytes.length < bytes) this.#bytes = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)))
    return this.#bytes
  }
}

interface Scan {
  /** Frames whose chain is whole, and their pages. */
  readonly frames: number
  readonly pages: readonly number[]
  readonly end: WalPlace
  /** The last commit among them, and the frames up to it. */
  readonly commit:
    | {
        readonly pages: number
        readonly place: WalPlace
        readonly frames: number
      }
    | undefined
}

export class WalTail {
  readonly #fd: number
  readonly header: WalHeader
  readonly #headerBytes: Buffer
  readonly #buffer: FrameBuffer
  #place: WalPlace

  /** At the log's start, or right after a place that the caller has proved. */
  constructor(fd: number, header: WalHeader, headerBytes: Buffer, buffer: FrameBuffer, place?: WalPlace) {
    this.#fd = fd
    this.header = header
    this.#headerBytes = headerBytes
    this.#buffer = buffer
    this.#place = place ?? { frame: 0, checksum: header.checksum }
  }

  /** Undefined when the file has no whole header. Windows of tails with the same buffer are taken one at a time. */
  static open(fd: number, buffer: FrameBuffer, place?: WalPlace): WalTail | undefined {
    const bytes = Buffer.alloc(walHeaderBytes)
    if (readSync(fd, bytes, 0, walHeaderBytes, 0) < walHeaderBytes) return undefined
    const header = parseWalHeader(bytes)
    return header === undefined ? undefined : new WalTail(fd, header, bytes, buffer, place)
  }

  /** After the last commit that was given. */
  get place(): WalPlace {
    return this.#place
  }

  /** Bytes of the log up to the place. */
  get bytes(): number {
    return frameOffset(this.#place.frame + 1, this.header.pageBytes)
  }

  /** True while the file still begins with the header that this tail reads under. */
  isCurrent(): boolean {
    const bytes = Buffer.allocUnsafe(walHeaderBytes)
    return (
      readSync(this.#fd, bytes, 0, walHeaderBytes, 0) === walHeaderBytes && bytes.equals(this.#headerBytes)
    )
  }

  /** The frame header in the slot after the place, whatever it is; undefined at the end of the file. */
  peek(): { salt1: number; salt2: number } | undefined {
    const bytes = Buffer.allocUnsafe(frameHeaderBytes)
    const offset = frameOffset(this.#place.frame + 1, this.header.pageBytes)
    if (readSync(this.#fd, bytes, 0, frameHeaderBytes, offset) < frameHeaderBytes) return undefined
    return parseFrameHeader(bytes, 0)
  }

  /** True when the frame that ends at `place` is in the log as it was: same salts, same checksum. */
  holds(place: WalPlace): boolean {
    if (place.frame === 0) return sameChecksum(place.checksum, this.header.checksum)
    const bytes = Buffer.allocUnsafe(frameHeaderBytes)
    const offset = frameOffset(place.frame, this.header.pageBytes)
    if (readSync(this.#fd, bytes, 0, frameHeaderBytes, offset) < frameHeaderBytes) return false
    const frame = parseFrameHeader(bytes, 0)
    return this.#isOurs(frame) && frame.commitPages > 0 && sameChecksum(frame.checksum, place.checksum)
  }

  /**
   * The transactions from the place up to frame `lastFrame`, which is known to be committed; moves the place with each
   * window that ends a transaction. Ends early where the chain ends, which in a log that is held it does not.
   *
   * That a frame's chain is whole is not enough to know it committed: within a transaction the engine writes frames
   * again, and mends the checksums behind them only when it commits.
   *
   * With the log's index, of which `lastFrame` is, only what is needed of a long stretch is read.
   */
  *windows(lastFrame: number, index?: FrameIndex): Generator<WalWindow, void, undefined> {
    let at = this.#place
    while (at.frame < lastFrame) {
      // within a transaction what was given of it goes on
      const picked = at === this.#place && index !== undefined ? this.#pick(lastFrame, index) : undefined
      if (picked !== undefined) {
        at = picked.commit.place
        this.#place = at
        yield picked
        continue
      }
      const frames = Math.min(this.#framesIn(windowBytesMax), lastFrame - at.frame)
      const buffer = this.#buffer.take(frames * (frameHeaderBytes + this.header.pageBytes))
      const scan = this.#scan(buffer, at, frames)
      if (scan.frames === 0) return
      if (scan.commit === undefined) {
        at = scan.end
        yield { pages: this.#newest(buffer, scan.pages, scan.frames) }
        continue
      }
      at = scan.commit.place
      this.#place = at
      yield { pages: this.#newest(buffer, scan.pages, scan.commit.frames), commit: scan.commit }
    }
  }

  /**
   * The last commit frame in the chain after the place: of a log that nobody writes to any more, the last of all. May
   * be asked at any time: the memory of a window that is being taken is left alone.
   */
  lastCommitFrame(): number {
    const frames = this.#framesIn(lookBytes)
    const buffer = Buffer.allocUnsafeSlow(frames * (frameHeaderBytes + this.header.pageBytes))
    let at = this.#place
    let last = at.frame
    for (;;) {
      const scan = this.#scan(buffer, at, frames)
      if (scan.commit !== undefined) last = scan.commit.place.frame
      if (scan.frames < frames) return last
      at = scan.end
    }
  }

  #pick(last: number, index: FrameIndex): Required<WalWindow> | undefined {
    const stretch = { fd: this.#fd, header: this.header, after: this.#place.frame, last }
    const picked = pickPages(stretch, index, bytes => this.#buffer.take(bytes))
    if (picked === undefined) return undefined
    const { pages, frame, checksum, databasePages } = picked
    return { pages, commit: { pages: databasePages, place: { frame, checksum } } }
  }

  #scan(buffer: Buffer, from: WalPlace, wanted: number): Scan {
    const frameBytes = frameHeaderBytes + this.header.pageBytes
    const offset = frameOffset(from.frame + 1, this.header.pageBytes)
    const bytes = readSync(this.#fd, buffer, 0, wanted * frameBytes, offset)
    const present = Math.floor(bytes / frameBytes)
    const pages: number[] = []
    let checksum = from.checksum
    let frames = 0
    let commit: Scan['commit']
    for (; frames < present; frames++) {
      const at = frames * frameBytes
      const frame = parseFrameHeader(buffer, at)
      if (!this.#isOurs(frame)) break
      const next = frameChecksum(buffer, at, this.header, checksum)
      if (!sameChecksum(next, frame.checksum)) break
      checksum = next
      pages.push(frame.page)
      if (frame.commitPages > 0) {
        const place = { frame: from.frame + frames + 1, checksum }
        commit = { pages: frame.commitPages, place, frames: frames + 1 }
      }
    }
    return { frames, pages, commit, end: { frame: from.frame + frames, checksum } }
  }

  /** The newest version of each page in the first `count` frames of the buffer. */
  #newest(buffer: Buffer, framePages: readonly number[], count: number): Map<number, Buffer> {
    const newest = new Map<number, number>()
    for (let i = 0; i < count; i++) newest.set(framePages[i] as number, i)
    const pages = new Map<number, Buffer>()
    for (const page of [...newest.keys()].sort((a, b) => a - b)) {
      const at = (newest.get(page) as number) * (frameHeaderBytes + this.header.pageBytes) + frameHeaderBytes
      pages.set(page, buffer.subarray(at, at + this.header.pageBytes))
    }
    return pages
  }

  #isOurs(frame: { salt1: number; salt2: number }): boolean {
    return frame.salt1 === this.header.salt1 && frame.salt2 === this.header.salt2
  }

  #framesIn(bytes: number): number {
    return Math.max(1, Math.floor(bytes / (frameHeaderBytes + this.header.pageBytes)))
  }
}
