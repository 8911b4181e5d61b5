/** Files that were found changed though no event had said so, as through a mapping of memory: looked at in each pass. */
import type { HintedNames, TreeHints } from './hints.ts'
import { type PassPlan, pathIn } from './pass-plan.ts'

/** With more than this, everything is looked at. */
const silentMax = 1000

export class SilentFiles {
  readonly #paths = new Set<string>()

  get areMany(): boolean {
    return this.#paths.size > silentMax
  }

  addTo(hinted: HintedNames): void {
    for (const path of this.#paths) {
      const cut = path.lastIndexOf('/')
      const directory = cut < 0 ? '' : path.slice(0, cut)
      const names = hinted.get(directory)
      if (names === undefined) hinted.set(directory, new Set([path.slice(cut + 1)]))
      else names.add(path.slice(cut + 1))
    }
  }

  /** After a look at everything, of a tree that had been watched since the look before. */
  note(plan: PassPlan, hints: TreeHints): void {
    for (const directory of plan.directories) {
      for (const [n, i] of directory.entries.entries()) {
        const old = directory.oldEntries[n] as number
        if (old < 0 || directory.old === undefined || this.areMany) continue
        const now = directory.block.signature(i)
        if (!now.isFile || now.equals(directory.old.signature(old))) continue
        if (!hints.wasHinted(directory.path, directory.block.name(i))) this.#paths.add(pathIn(directory, i))
      }
    }
  }
}
