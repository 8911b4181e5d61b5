/**
 * Writes the log's last segment: gathers what is appended, writes it in large pieces, and syncs in groups.
 *
 * Invariant: all segments but the last are durable as a whole; of the last, what is before `durableEnd`. A write that
 * failed (no space) is tried again by the next sync, in the same place. A sync that failed is not believed later: the
 * writer does nothing any more, and the next opening writes again what was not known to be durable, or cuts it.
 */
import { describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import { parentDirectory, type Storage, type StorageFile } from '../os/storage.ts'
import type { StoreName } from '../stream/entry.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { StoreMark } from './log.ts'
import { RecentBytes } from './recent-bytes.ts'
import { type Segment, type SegmentStart, writeStart } from './segment.ts'
import { type SyncGroup, SyncGroups } from './sync-groups.ts'
import { Turns } from './turns.ts'

const writeBytes = 1024 * 1024
/** Creates a segment, durable with its name. */
export async function createSegment(
  storage: Storage,
  path: string,
  start: SegmentStart,
  marks: ReadonlyMap<StoreName, StoreMark>,
): Promise<{ segment: Segment; file: StorageFile }> {
  const file = await storage.open(path, 'create-new')
  try {
    const segment = await writeStart(file, path, start, marks)
    await storage.syncDirectory(parentDirectory(path))
    return { segment, file }
  } catch (error) {
    await file.close()
    throw error
  }
}

export class SegmentWriter {
  readonly #storage: Storage
  readonly #onDurable: (number: number) => void
  /** Who appends waits for the disk when so many bytes are not written. */
  readonly #pendingBytesMax: number
  readonly #turns = new Turns()
  #file: StorageFile
  #segment: Segment
  #pending: Buffer[] = []
  #pendingBytes = 0
  /** Where the next byte is appended, and where the next pending one is written. */
  #end: number
  #writtenEnd: number
  /** Bytes were written without being made durable. */
  #isLoose = false
  #recent = new RecentBytes()
  /** Bytes may stand in the file behind what was written. */
  #mayBeLonger = false
  #durable: number
  #failed: unknown
  #closedBy: HotspareError | undefined
  #closed: Promise<void> | undefined
  readonly #groups = new SyncGroups(group => this.#turns.runAtOnce(() => this.#sync(group)))

  constructor(
    storage: Storage,
    { file, segment }: { readonly file: StorageFile; readonly segment: Segment },
    pendingBytesMax: number,
    onDurable: (number: number) => void,
  ) {
    this.#pendingBytesMax = pendingBytesMax
    this.#storage = storage
    this.#file = file
    this.#segment = segment
    this.#onDurable = onDurable
    this.#end = segment.end
    this.#writtenEnd = segment.end
    this.#durable = segment.last
  }

  get segment(): Segment {
    return this.#segment
  }

  /** Where the next byte goes. */
  get end(): number {
    return this.#end
  }

  get durable(): number {
    return this.#durable
  }

  /** A segment's bytes, when they are in memory still; filled is the whole buffer or nothing. */
  readRecent(segment: Segment, buffer: Uint8Array, offset: number): boolean {
    return segment === this.#segment && this.#recent.read(buffer, offset)
  }

  get mustFlush(): boolean {
    return this.#pendingBytes >= this.#pendingBytesMax
  }

  check(): void {
    if (this.#closedBy !== undefined) throw this.#closedBy
    if (this.#failed === undefined) return
    throw new HotspareError(
      'log-closed',
      `The log takes no more work: a sync of '${this.#segment.path}' failed, so it is not known what is on the disk. Open it anew.`,
      { cause: this.#failed },
    )
  }

  /** Takes the bytes; nothing is written before `flush` or `sync`. */
  append(data: Buffer): void {
    this.#pending.push(data)
    this.#pendingBytes += data.length
    this.#end += data.length
  }

  /** What was appended up to here is a whole transaction. */
  finish(number: number, chain: Chain, timeMs: number): void {
    this.#segment.add(number, chain, timeMs, this.#end)
    this.#groups.appended()
  }

  /** Takes back what was appended behind the last whole transaction. */
  async cutBack(): Promise<void> {
    if (this.#end === this.#segment.end) return
    await this.#turns.run(async () => {
      this.check()
      const end = this.#segment.end
      if (end < this.#writtenEnd) {
        this.#pending = []
        this.#pendingBytes = 0
        this.#mayBeLonger = true
        this.#writtenEnd = end
      } else {
        let keep = end - this.#writtenEnd
        const kept: Buffer[] = []
        for (const data of this.#pending) {
          if (keep <= 0) break
          kept.push(data.subarray(0, keep))
          keep -= data.length
        }
        this.#pending = kept
        this.#pendingBytes = end - this.#writtenEnd
      }
      this.#end = end
    })
  }

  /** Writes what is pending, without a sync. */
  flush(): Promise<void> {
    return this.#turns.run(() => this.#write())
  }

  /** Makes all whole transactions durable. */
  sync(): Promise<void> {
    if (this.#failed !== undefined || this.#closedBy !== undefined) return rejected(() => this.check())
    const { last } = this.#segment
    return this.#durable >= last ? Promise.resolve() : this.#groups.wait(last)
  }

  async #sync(group: SyncGroup): Promise<void> {
    this.check()
    const segment = this.#segment
    const { end, last } = segment
    group.to = last
    const isOnePiece = this.#pendingBytes > 0 && this.#pendingBytes <= writeBytes
    if (isOnePiece && !this.#isLoose) await this.#writeDurably()
    else {
      await this.#write()
      await this.#syncFile()
    }
    segment.durableEnd = end
    this.#setDurable(last)
  }

  #setDurable(number: number): void {
    if (number <= this.#durable) return
    this.#durable = number
    this.#onDurable(number)
  }

  async #syncFile(): Promise<void> {
    try {
      await this.#file.sync()
    } catch (error) {
      throw this.#fail(error)
    }
    this.#isLoose = false
  }

  #fail(error: unknown): unknown {
    this.#failed ??= error
    return describeSystemError(error, `Cannot make the log '${this.#segment.path}' durable`)
  }

  async #write(): Promise<void> {
    this.check()
    while (this.#pending.length > 0) {
      const { data, count } = this.#nextPiece()
      this.#isLoose = true
      try {
        await this.#file.write(data, this.#writtenEnd)
      } catch (error) {
        throw this.#unwritten(error)
      }
      this.#written(data, count)
    }
  }

  /** What is pending, when all before it is durable: one step where a write and a sync are two. */
  async #writeDurably(): Promise<void> {
    const { data, count } = this.#nextPiece()
    try {
      await this.#file.writeDurably(data, this.#writtenEnd)
    } catch (error) {
      // without space all of it is written again; after any other fault nothing is believed
      if (isSystemError(error, 'ENOSPC', 'EDQUOT')) throw this.#unwritten(error)
      throw this.#fail(error)
    }
    this.#written(data, count)
  }

  #nextPiece(): { readonly data: Buffer; readonly count: number } {
    let bytes = 0
    let count = 0
    do {
      bytes += (this.#pending[count] as Buffer).length
      count++
    } while (count < this.#pending.length && bytes + (this.#pending[count] as Buffer).length <= writeBytes)
    const data =
      count === 1 ? (this.#pending[0] as Buffer) : Buffer.concat(this.#pending.slice(0, count), bytes)
    return { data, count }
  }

  #written(data: Buffer, count: number): void {
    this.#recent.add(data, this.#writtenEnd)
    this.#pending.splice(0, count)
    this.#pendingBytes -= data.length
    this.#writtenEnd += data.length
  }

  #unwritten(error: unknown): unknown {
    this.#mayBeLonger = true
    return describeSystemError(error, `Cannot write to the log '${this.#segment.path}'`)
  }

  /** Ends the segment, durable as a whole, and begins the next one. No transaction may be open. */
  roll(
    path: string,
    start: (before: Segment) => SegmentStart,
    marks: ReadonlyMap<StoreName, StoreMark>,
  ): Promise<Segment> {
    return this.#turns.run(async () => {
      await this.#write()
      await this.#trimFile()
      await this.#syncFile()
      const before = this.#segment
      before.durableEnd = before.end
      this.#setDurable(before.last)
      const { segment, file } = await this.#create(path, start(before), marks)
      const old = this.#file
      this.#file = file
      this.#segment = segment
      this.#end = segment.end
      this.#writtenEnd = segment.end
      this.#recent = new RecentBytes()
      await old.close().catch(() => undefined) // it is durable as a whole
      return segment
    })
  }

  async #create(path: string, start: SegmentStart, marks: ReadonlyMap<StoreName, StoreMark>) {
    try {
      return await createSegment(this.#storage, path, start, marks)
    } catch (error) {
      // without it the log goes on in the segment that it has; with it, it would not be known what the disk has
      try {
        await this.#storage.remove(path)
        await this.#storage.syncDirectory(parentDirectory(path))
      } catch (removing) {
        throw this.#fail(removing)
      }
      throw describeSystemError(error, `Cannot begin the log's segment '${path}'`)
    }
  }

  async #trimFile(): Promise<void> {
    if (!this.#mayBeLonger) return
    await this.#file.truncate(this.#end)
    this.#mayBeLonger = false
  }

  /** What was not synced may be lost; `why` is told to whoever waits for that, or comes. */
  close(why: HotspareError): Promise<void> {
    this.#closed ??= this.#turns.run(async () => {
      this.#closedBy = why
      await this.#file.close()
    })
    return this.#closed
  }
}

async function rejected(check: () => void): Promise<void> {
  check()
}
