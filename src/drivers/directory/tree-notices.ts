/** What people are told of a tree: files that are not copied, or were never read as they stood. */
import { displayPath } from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'

const namedMax = 20
const restlessMax = 10_000

export interface TreeNoticesOptions {
  readonly path: string
  onNotice(notice: Notice): void
}

export class TreeNotices {
  readonly #options: TreeNoticesOptions
  readonly #namedRestless = new Set<string>()

  constructor(options: TreeNoticesOptions) {
    this.#options = options
  }

  special(paths: readonly string[]): void {
    if (paths.length === 0) return
    const named = paths.slice(0, namedMax).map(displayPath)
    this.#options.onNotice({
      code: 'special-skipped',
      message: `${paths.length} special files (pipes, sockets, devices) in ${this.#options.path} are not copied: ${list(named, paths.length)}`,
      details: { count: paths.length, paths: named },
    })
  }

  /** Each is named once, or each time when writers are held. */
  restless(paths: ReadonlySet<string>, held: boolean): void {
    const fresh = [...paths].filter(path => held || !this.#namedRestless.has(path))
    if (fresh.length === 0) return
    if (this.#namedRestless.size < restlessMax) for (const path of fresh) this.#namedRestless.add(path)
    const named = fresh.slice(0, namedMax).map(displayPath)
    this.#options.onNotice({
      code: 'never-still',
      message: `${fresh.length} files in ${this.#options.path} were changed each time while they were read: ${list(named, fresh.length)}`,
      details: { count: fresh.length, paths: named },
    })
  }
}

function list(named: readonly string[], count: number): string {
  return `${named.join(', ')}${count > namedMax ? ' ...' : ''}`
}
