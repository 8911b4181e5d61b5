/**
 * Transactions of a log that were taken one after another and are to be given as one, with the newest version of each
 * page: where an application writes the same pages over and over, that is a small part of what was taken.
 */
import { PageGroup } from './page-group.ts'

const bytesMax = 2 * 1024 * 1024
const ageMsMax = 8

export class TakenTransactions {
  readonly #group: PageGroup
  #sinceMs = 0
  #databasePages = 0
  #upToMs: number | undefined

  constructor(pageBytes: number) {
    this.#group = new PageGroup(pageBytes)
  }

  get isEmpty(): boolean {
    return this.#databasePages === 0
  }

  /** It is so much, or so old, that it is to be given. */
  isDue(nowMs: number): boolean {
    return this.#group.bytes >= bytesMax || nowMs - this.#sinceMs >= ageMsMax
  }

  /** Size of the database in pages after the last of them. */
  get databasePages(): number {
    return this.#databasePages
  }

  /** All that was committed at this moment is among them, or was given. */
  get upToMs(): number | undefined {
    return this.#upToMs
  }

  /** Takes a copy. */
  add(
    pages: ReadonlyMap<number, Uint8Array>,
    databasePages: number,
    upToMs: number | undefined,
    nowMs: number,
  ): void {
    if (this.isEmpty) this.#sinceMs = nowMs
    for (const [page, data] of pages) this.#group.put(page, data)
    this.#group.fold()
    this.#databasePages = databasePages
    this.#upToMs = upToMs ?? this.#upToMs
  }

  /** Those that the database has still, in ascending order. The data is valid until the next change. */
  pages(): ReadonlyMap<number, Uint8Array> {
    const left = [...this.#group.wholePages()].filter(([page]) => page <= this.#databasePages)
    return new Map(left.sort(([a], [b]) => a - b))
  }

  clear(): void {
    this.#group.clear()
    this.#databasePages = 0
    this.#upToMs = undefined
  }
}
