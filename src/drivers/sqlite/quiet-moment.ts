/**
 * Finds a moment in which a connection of ours may begin to read a live database's index without disturbing anybody.
 *
 * A connection that meets the index while its header is written takes the engine's write lock for microseconds, to see
 * whether the writer has died (walIndexReadHdr in wal.c). An application whose transaction has read, and now writes,
 * meets that lock and gets SQLITE_BUSY at once. Under full write load one of a hundred reads of the index took it.
 *
 * So reading begins right after a commit: the next one is a whole transaction away, which is some 20 microseconds.
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { WalIndex } from './wal-index.ts'

/** Where commits are farther apart, meeting one is rare, and waiting for the next would take long. */
const intervalMsMax = 0.3
/** The writer may have been put off its processor, or wait for the disk. */
const waitMsMax = 1
const looksPerClock = 64
/** A header is written in less time than so many looks take. */
const looksMax = 200
/** Then with a twentieth of a millisecond between them; a writer that has died there is the engine's to see to. */
const pausesMax = 200

export class QuietMoment {
  readonly #index: WalIndex
  /** Its run has the processor ready for the next one: what is read and run for the first time in a while takes long. */
  readonly #warmUp: StatementSync
  /** At the last time that a moment was wanted. */
  #change: number
  #atMs = performance.now()

  constructor(index: WalIndex) {
    this.#index = index
    this.#warmUp = new DatabaseSync(':memory:').prepare('PRAGMA schema_version')
    this.#change = index.change
  }

  /** Returns right after a commit; where they are rare, or there are no more, at any moment in which none is written. */
  await(): void {
    const change = this.#index.change
    const nowMs = performance.now()
    const intervalMs = (nowMs - this.#atMs) / ((change - this.#change) >>> 0)
    this.#change = change
    this.#atMs = nowMs
    if (intervalMs <= intervalMsMax) {
      this.#warmUp.get()
      if (this.#commits(nowMs + waitMsMax)) return
    }
    for (let looks = 0; !this.#index.isWhole && looks < looksMax + pausesMax; looks++)
      if (looks >= looksMax) pauseShortly()
  }

  /** True right after a commit, false when none came. */
  #commits(deadlineMs: number): boolean {
    const index = this.#index
    const { change } = index
    while (performance.now() < deadlineMs)
      for (let looks = 0; looks < looksPerClock; looks++) if (index.change !== change) return true
    return false
  }
}

const never = new Int32Array(new SharedArrayBuffer(4))

/** Leaves the processor to others for a twentieth of a millisecond. */
export function pauseShortly(): void {
  Atomics.wait(never, 0, 0, 0.05)
}
