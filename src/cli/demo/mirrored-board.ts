/** The message board of the demo: what a plain copy of it is worth, and mirrors of it in maintenance windows. */
import { cp } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { clone } from '../../daemon/clone.ts'
import { runHotspare } from './command.ts'
import type { FollowedStore } from './followed-store.ts'
import { type MaintenanceFiles, maintenanceCommands } from './maintenance-flag.ts'
import { type BoardFinding, judgeBoard } from './message-board-judge.ts'

export interface MirroredWindow {
  readonly heldMs: number
  /** In the copy, as of this window. */
  readonly posts: number
}

export class MirroredBoard {
  readonly #store: FollowedStore
  readonly #files: MaintenanceFiles
  readonly #clones: string
  readonly #stateDirectory: string
  readonly #signal: AbortSignal
  readonly windows: MirroredWindow[] = []

  constructor(store: FollowedStore, files: MaintenanceFiles, clones: string, signal: AbortSignal) {
    this.#store = store
    this.#files = files
    this.#clones = clones
    this.#stateDirectory = join(dirname(files.flag), 'state')
    this.#signal = signal
  }

  /** Copies it as it is posted to, file after file. What is found is luck, and proves nothing but why windows are there. */
  async copyPlainly(): Promise<BoardFinding | undefined> {
    const destination = join(this.#clones, 'board-plain-copy')
    try {
      await cp(this.#store.source, destination, { recursive: true })
      return judgeBoard(destination)
    } catch {
      // a file went while it was copied: a plain copy does not even come to its end
      return undefined
    }
  }

  /** Mirrors it while it is posted to, and proves the copy. */
  async mirror(): Promise<MirroredWindow> {
    const before = this.#store.figures.committed
    const { enter, leave, verify } = maintenanceCommands(this.#files)
    const commands = ['--enter', enter, '--verify', verify, '--leave', leave]
    const heldMs = await this.#store.whileWriting(this.#signal, signal => this.#mirror(commands, signal))
    const { posts } = await this.prove(`board-window-${this.windows.length + 1}`)
    if (posts < before) {
      throw new Error(`the copy of the board has ${posts} posts, of ${before} before the window`)
    }
    const window = { heldMs, posts }
    this.windows.push(window)
    return window
  }

  /** When the application has ended: nobody has to be told. */
  async mirrorAtRest(): Promise<BoardFinding> {
    await this.#mirror(['--enter', 'true', '--leave', 'true'], this.#signal)
    return this.prove('board-at-rest')
  }

  async #mirror(commands: readonly string[], signal: AbortSignal): Promise<number> {
    const { source, target } = this.#store
    const result = await runHotspare(['mirror', source, target, ...commands], signal, {
      // leases of the demo's are the demo's: nothing is left in the user's own
      HOTSPARE_STATE_DIR: this.#stateDirectory,
    })
    const { heldMs, changedCount } = result as { heldMs: number; changedCount: number }
    if (changedCount > 0) throw new Error(`the board wrote ${changedCount} files in its maintenance mode`)
    return heldMs
  }

  /** Clones the copy, and proves that logs and pages agree in it. */
  async prove(name: string): Promise<BoardFinding> {
    const destination = join(this.#clones, name)
    await clone({ target: this.#store.target, destination, signal: this.#signal })
    return proveBoard(destination)
  }
}

/** Throws when logs and pages do not agree. */
export function proveBoard(directory: string): BoardFinding {
  const finding = judgeBoard(directory)
  const { tears } = finding
  if (tears.length === 0 && finding.posts > 0) return finding
  throw new Error(
    `${directory}: ${tears.length} things do not agree: ${tears.slice(0, 3).join('; ') || 'it has no posts'}`,
  )
}
