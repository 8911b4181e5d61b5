/** A sink behind a link that breaks at a chosen entry: the source is left there, and whoever has the copy closes it. */
import type { Sink } from '../sink.ts'

export class BrokenLink extends Error {}

/** Behind so many entries that follow on so many commits. */
export interface Break {
  readonly commits: number
  /** At least 1. */
  readonly entries: number
}

/** The entry at which it breaks has reached the sink; `write` rejects with a `BrokenLink`. */
export function breaking(sink: Sink, { commits, entries }: Break): Sink {
  let commitsLeft = commits
  let entriesLeft = entries
  return {
    position: name => sink.position(name),
    inventory: async (name, purpose) => sink.inventory?.(name, purpose),
    write: async entry => {
      await sink.write(entry)
      if (commitsLeft === 0 && --entriesLeft === 0) throw new BrokenLink()
      if (entry.type === 'commit' && commitsLeft > 0) commitsLeft--
    },
    sync: () => sink.sync(),
    close: () => sink.close(),
  }
}
