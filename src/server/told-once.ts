/** What is found again at each session with a peer is told once, until it is something else, or has passed. */
import type { HotspareError } from '../os/errors.ts'
import type { Level } from './messages.ts'

export class ToldOnce {
  readonly #tell: (level: Level, code: string, text: string) => void
  readonly #last = new Map<string, string>()

  constructor(tell: (level: Level, code: string, text: string) => void) {
    this.#tell = tell
  }

  tell(peer: string, level: Level, { code, message }: Pick<HotspareError, 'code' | 'message'>): void {
    if (this.#last.get(peer) === message) return
    this.#last.set(peer, message)
    this.#tell(level, code, message)
  }

  /** What comes next is news. */
  passed(peer: string): void {
    this.#last.delete(peer)
  }
}
