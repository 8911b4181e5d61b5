/** Passes at random, the same for the same seed, with what the copy has to show after each. */
import { Random } from '../../../os/testing/random.ts'
import type { Entry } from '../../../stream/entry.ts'
import { CopyModel } from './copy-model.ts'
import { commit } from './copy-place.ts'
import { randomChanges } from './random-changes.ts'

export interface ScriptedPass {
  readonly pass: number
  readonly entries: readonly Entry[]
  /** Undefined: there is no copy yet. */
  readonly shows: ReadonlyMap<string, string> | undefined
}

export function* scriptOf(seed: number, count: number, changesMax = 12): Generator<ScriptedPass> {
  const random = new Random(seed)
  const model = new CopyModel()
  let shows: ReadonlyMap<string, string> | undefined
  let held = false
  for (let pass = 1; pass <= count; pass++) {
    const kind = random.pick(['part', 'complete', 'complete', 'held'] as const)
    const entries: Entry[] = [...randomChanges(random, model, random.below(changesMax)), commit(pass, kind)]
    held ||= kind === 'held'
    if (kind === 'held' || (kind === 'complete' && !held)) shows = model.describe()
    yield { pass, entries, shows }
  }
}
