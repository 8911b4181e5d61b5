/** All that is known of a copy, in memory, and how it goes to the log and comes from it. */
import { HotspareError } from '../../os/errors.ts'
import { damagedLog, type LoadedLog } from './copy-log.ts'
import { PendingChanges } from './copy-pending.ts'
import { CopyRecord, readSections, SectionWriter } from './copy-record.ts'
import { type CopyStatus, encodeStatus, parseStatus } from './copy-status.ts'
import { CopyView } from './copy-view.ts'

const statusSection = 64

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
    sections.add(statusSection, writer => writer.raw(encodeStatus(this.status)))
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
