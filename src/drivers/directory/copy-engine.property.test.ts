import { afterEach, beforeEach, test } from 'node:test'
import { Random } from '../../os/testing/random.ts'
import { seed as asked } from '../../os/testing/seed.ts'
import { CopyModel } from './testing/copy-model.ts'
import {
  assertShows,
  type CopyPlace,
  commit,
  makePlace,
  openEngine,
  withoutReaders,
  withReaders,
} from './testing/copy-place.ts'
import { randomChanges } from './testing/random-changes.ts'

let place: CopyPlace
beforeEach(() => {
  place = makePlace()
})
afterEach(() => place.remove())

const seeds = process.env.HOTSPARE_SEED === undefined ? [...Array(100).keys()] : [asked]

for (const seed of seeds) {
  test(`the copy shows just the pass that may be shown, whatever the changes (HOTSPARE_SEED=${seed})`, () => {
    const random = new Random(seed)
    const model = new CopyModel()
    let shown: Map<string, string> | undefined
    let held = false
    let engine = openEngine(place)
    for (let pass = 1; pass <= 12; pass++) {
      for (const change of randomChanges(random, model, random.below(15))) engine.write(change)
      const kind = random.pick(['part', 'part', 'complete', 'complete', 'complete', 'held'] as const)
      engine.write(commit(pass, kind))
      engine.flush(random.below(2) === 0 ? withoutReaders : withReaders)
      held ||= kind === 'held'
      if (kind === 'held' || (kind === 'complete' && !held)) shown = model.describe()
      assertShows(place.target, shown, `pass ${pass}`)
      if (random.below(3) > 0) continue
      engine.close()
      engine = openEngine(place)
      assertShows(place.target, shown, `pass ${pass}, opened again`)
    }
    engine.close()
  })
}
