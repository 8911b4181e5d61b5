/** What is known of a copy as a whole: how far it has got, and what it shows. */
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StateDigest } from '../../stream/entry.ts'
import type { ConsistentCommit } from '../driver.ts'
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

const format = 1

export function encodeStatus(status: CopyStatus): Buffer {
  const sameShown = status.shown === status.commit
  return Buffer.from(JSON.stringify({ format, ...status, sameShown }), 'utf8')
}

/** Throws `state-version`. */
export function parseStatus(body: Buffer): CopyStatus {
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

/** Nothing has to be done at the copy. */
export function isAtRest(status: CopyStatus): boolean {
  return status.phase === 'live' && !status.applying
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
