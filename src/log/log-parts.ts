/**
 * The parts of a log, put together over one opening of its segments: a log that is begun anew, or cut, opens them again
 * and gets new ones. What a part needs of the others, and of the log, it is told here.
 */
import type { HotspareError } from '../os/errors.ts'
import type { LogLimits, LogOptions } from './log.ts'
import { LogIntake } from './log-intake.ts'
import type { OpenedSegments } from './log-opening.ts'
import { LogReader } from './log-reader.ts'
import { LogReceiver } from './log-receiver.ts'
import { LogSpace, type SpacedLog } from './log-space.ts'
import type { LogWaiters } from './log-waiters.ts'
import type { Segment } from './segment.ts'
import { SegmentList } from './segment-list.ts'
import { SegmentTrimmer, type TrimmedLog } from './segment-trimmer.ts'
import { SegmentWriter } from './segment-writer.ts'
import { StateKeeper } from './state-keeper.ts'
import { TransactionAppender } from './transaction-appender.ts'
import type { Turns } from './turns.ts'

const segmentBytesDefault = 16 * 1024 * 1024
const segmentBytesMin = 4 * 1024
const bufferBytesDefault = 4 * 1024 * 1024

/** What stays of a log over all its openings. */
export interface LastingLog {
  readonly options: LogOptions
  readonly limits: LogLimits
  readonly waiters: LogWaiters
  /** Who appends holds it, and who needs the log's end to stand still. */
  readonly appending: Turns
  /** Throws when the log takes no more work. */
  check(): void
}

export class LogParts implements SpacedLog, TrimmedLog {
  readonly segments: SegmentList
  readonly writer: SegmentWriter
  readonly state: StateKeeper
  readonly appender: TransactionAppender
  readonly receiver: LogReceiver
  readonly space: LogSpace
  readonly intake: LogIntake
  readonly trimmer: SegmentTrimmer
  readonly reader: LogReader
  readonly #log: LastingLog

  constructor(log: LastingLog, opened: OpenedSegments) {
    const { options, appending } = log
    const { storage, clock, directory, random } = options
    this.#log = log
    this.segments = new SegmentList(opened.segments)
    this.writer = new SegmentWriter(
      storage,
      { file: opened.file, segment: opened.segments.at(-1) as Segment },
      bufferBytesOf(options),
      number => log.waiters.wake(number),
    )
    this.state = new StateKeeper(options, opened.state, opened.epoch, () => this.durable)
    this.appender = new TransactionAppender(
      {
        directory,
        random,
        segmentBytes: () => segmentBytesOf(options, log.limits),
        rolled: () => this.trimmer.soon(),
      },
      this,
      opened,
    )
    this.receiver = new LogReceiver(this.appender, this.state)
    this.space = new LogSpace(this, clock, this.state.subscribers, options)
    this.intake = new LogIntake({
      appender: this.appender,
      receiver: this.receiver,
      space: this.space,
      appending,
      check: () => log.check(),
    })
    this.trimmer = new SegmentTrimmer(this, options, this.segments, this.state)
    this.reader = new LogReader(storage, this.segments, this.writer)
  }

  /** They do nothing more; `why` is told to whoever reads, or waits for a sync. What was not synced may be lost. */
  retire(why: (number: number) => HotspareError): Promise<void> {
    this.reader.end(why)
    void this.trimmer.end() // what it would do waits for who calls this, and then does nothing
    return this.writer.close(why(this.last + 1))
  }

  get bytes(): number {
    return this.segments.closedBytes + this.writer.end
  }

  get last(): number {
    return this.writer.segment.last
  }

  get durable(): number {
    return this.writer.durable
  }

  get limits(): LogLimits {
    return this.#log.limits
  }

  get isInside(): boolean {
    return this.appender.isInside
  }

  makeRoom(): Promise<void> {
    return this.#log.appending.run(() => this.trimmer.makeRoom())
  }

  roll(): Promise<void> {
    return this.appender.roll()
  }

  removed(): void {
    this.space.changed()
  }

  sync(): Promise<void> {
    return this.writer.sync()
  }

  subscribersChanged(): void {
    this.state.soon()
  }
}

export function bufferBytesOf({ bufferBytes }: LogOptions): number {
  return bufferBytes ?? bufferBytesDefault
}

/** Small where the limit is, so that there are segments to be removed. */
function segmentBytesOf({ segmentBytes }: LogOptions, { bytesMax }: LogLimits): number {
  return Math.min(segmentBytes ?? segmentBytesDefault, Math.max(segmentBytesMin, Math.floor(bytesMax / 8)))
}
