/** All that is known of a copy, in memory, and how it goes to the log and comes from it. */
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StateDigest } from '../../stream/entry.ts'
import type { ConsistentCommit } from '../driver.ts'
import { damagedLog, type LoadedLog } from './copy-log.ts'
import { PendingChanges } from './copy-pending.ts'
import { CopyRecord, readSections, SectionWriter } from './copy-record.ts'
import { CopyView } from './copy-view.ts'
import { decodePosition } from './position.ts'

export interface CopyCommit {
  readonly position: string
  readonly consistent: boolean
  /** The end of a pass. */
  readonly complete: boolean
  readonly timeMs: number
  readonly state?: string
}

export interface CopyStatus {
  /** first: being made in the sidecar; publishing: whole, and about to take its name; live: it has its name. */
  phase: 'first' | 'publishing' | 'live'
  /** What is pending is being carried out in the copy, which may be torn meanwhile. */
  applying: boolean
  /** The last commit. */
  commit: CopyCommit | undefined
  /** The last commit of which the copy shows all. */
  shown: CopyCommit | undefined
  /** The last consistent commit that was shown. */
  consistent: CopyCommit | undefined
  /** A consistent commit was made: from then on only such are shown. */
  everHeld: boolean
}

const statusSection = 64
const format = 1

export class CopyState {
  readonly record = new CopyRecord()
  readonly pending = new PendingChanges()
  readonly view = new CopyView(this.record, this.pending)
  status: CopyStatus = {
    phase: 'first',
    applying: false,
    commit: undefined,
    shown: undefined,
    consistent: undefined,
    everHeld: false,
  }

  /** Throws `state-damaged` and `state-version`. */
  static load(log: LoadedLog): CopyState {
    const state = new CopyState()
    try {
      for (const group of log.groups) {
        for (const { type, body } of readSections(group)) {
          if (type === statusSection) state.status = parseStatus(body)
          else if (!state.record.load(type, body) && !state.pending.load(type, body))
            throw damagedLog(log.lastStart, `a section of type ${type}`)
        }
      }
      state.pending.loaded()
    } catch (error) {
      // whole groups whose content makes no sense
      if (error instanceof HotspareError && error.code === 'entry-invalid')
        throw damagedLog(log.lastStart, error.message)
      throw error
    }
    return state
  }

  get isShowable(): boolean {
    const { commit, everHeld, shown } = this.status
    if (commit === undefined || commit === shown) return false
    return commit.consistent || (commit.complete && !everHeld)
  }

  writeStatus(sections: SectionWriter): void {
    const text = JSON.stringify({
      format,
      ...this.status,
      sameShown: this.status.shown === this.status.commit,
    })
    sections.add(statusSection, writer => writer.raw(Buffer.from(text, 'utf8')))
  }

  /** All there is, for a log that is written anew. */
  writeAll(): SectionWriter {
    const sections = new SectionWriter()
    this.writeStatus(sections)
    this.record.writeAll(sections)
    this.pending.writeAll(sections)
    return sections
  }
}

function parseStatus(body: Buffer): CopyStatus {
  const raw = JSON.parse(body.toString('utf8')) as CopyStatus & { format: number; sameShown: boolean }
  if (raw.format !== format) {
    throw new HotspareError(
      'state-version',
      `The copy's state has format ${raw.format}, and this version knows ${format}. Use the version that wrote it, or --resync.`,
    )
  }
  return {
    phase: raw.phase,
    applying: raw.applying,
    commit: raw.commit,
    // one object, so that 'the last commit is shown' is a comparison
    shown: raw.sameShown ? raw.commit : raw.shown,
    consistent: raw.consistent,
    everHeld: raw.everHeld,
  }
}

export function toCopyCommit(commit: Commit): CopyCommit {
  return {
    position: commit.position,
    consistent: commit.consistent,
    complete: commit.consistent || isComplete(commit.position),
    timeMs: commit.timeMs,
    ...(commit.state === undefined ? {} : { state: commit.state }),
  }
}

function isComplete(position: Position): boolean {
  return decodePosition(position).complete
}

export function toConsistent(commit: CopyCommit): ConsistentCommit {
  return {
    position: commit.position as Position,
    timeMs: commit.timeMs,
    ...(commit.state === undefined ? {} : { state: commit.state as StateDigest }),
  }
}
