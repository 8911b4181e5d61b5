import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { Random } from '../../os/testing/random.ts'
import { seed as asked } from '../../os/testing/seed.ts'
import { EIO, ENOSPC, systemError } from '../../os/tree-calls.ts'
import type { Entry } from '../../stream/entry.ts'
import { type CopyCalls, systemCalls } from './copy-calls.ts'
import type { CopyEngine } from './copy-engine.ts'
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

/** Every call that changes something, counted; from the `failAt`th on all fail, or only that one. */
class Faults {
  calls = 0
  failAt = Number.POSITIVE_INFINITY
  kind: 'crash' | 'ENOSPC' | 'EIO' | 'short' = 'crash'
  crashed = false

  readonly wrapped: CopyCalls = new Proxy(systemCalls, {
    get: (target, name: keyof CopyCalls) => {
      const call = target[name] as (...given: never[]) => unknown
      if (reading.has(name)) return call
      return (...given: never[]) => {
        if (this.crashed) throw new Crash()
        if (++this.calls !== this.failAt) return call(...given)
        if (this.kind === 'crash') {
          this.crashed = true
          throw new Crash()
        }
        if (this.kind === 'short') {
          if (name !== 'writeAt') return call(...given)
          const [fd, data, offset] = given as unknown as [number, Uint8Array, number]
          systemCalls.writeAt(fd, data.subarray(0, data.length >> 1), offset)
        }
        const number = (this.kind === 'EIO' ? EIO : ENOSPC) as number
        if (name.startsWith('try')) return -number
        throw systemError(name, number)
      }
    },
  })
}

class Crash extends Error {}

const reading = new Set<keyof CopyCalls>([
  'openRoot',
  'tryOpenBeneath',
  'closeFd',
  'tryStatAt',
  'statFd',
  'tryReadLinkAt',
  'readAt',
  'nextData',
  'nextHole',
  'readXattrs',
])

let place: CopyPlace
beforeEach(() => {
  place = makePlace()
})
afterEach(() => place.remove())

interface Pass {
  readonly entries: readonly Entry[]
  readonly shows: Map<string, string> | undefined
  readonly readers: boolean
}

/** Some passes, with what the copy has to show after each of them. */
function passesOf(seed: number): Pass[] {
  const random = new Random(seed)
  const model = new CopyModel()
  const passes: Pass[] = []
  let shows: Map<string, string> | undefined
  let held = false
  for (let pass = 1; pass <= 5; pass++) {
    const kind = random.pick(['part', 'complete', 'complete', 'held'] as const)
    const entries: Entry[] = [...randomChanges(random, model, 6), commit(pass, kind)]
    held ||= kind === 'held'
    if (kind === 'held' || (kind === 'complete' && !held)) shows = model.describe()
    passes.push({ entries, shows, readers: random.below(2) === 0 })
  }
  return passes
}

/** Plays passes from the engine's own position on. */
function play(passes: readonly Pass[], calls: CopyCalls, each: (pass: number) => void): void {
  const engine = openEngine(place, { calls })
  try {
    for (let pass = passOf(engine) + 1; pass <= passes.length; pass++) {
      const { entries, readers } = passes[pass - 1] as Pass
      for (const entry of entries) engine.write(entry)
      engine.flush(readers ? withReaders : withoutReaders)
      each(pass)
    }
  } finally {
    engine.close()
  }
}

function passOf(engine: CopyEngine): number {
  const position = engine.status.commit?.position
  return position === undefined ? 0 : JSON.parse(position).pass
}

/** Each step of each kind; else some of them, others for each seed. */
const thorough = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
const seeds = process.env.HOTSPARE_SEED === undefined ? [1, 2, 3] : [asked]

for (const seed of seeds) {
  for (const kind of ['crash', 'ENOSPC', 'EIO', 'short'] as const) {
    test(`${kind} at any step: the copy is the pass before or after, and goes on (HOTSPARE_SEED=${seed})`, () => {
      const passes = passesOf(seed)
      const steps = new Faults()
      play(passes, steps.wrapped, () => {})
      assertShows(place.target, passes.at(-1)?.shows)
      const stride = thorough ? 1 : kind === 'crash' ? 7 : 23
      for (let step = 1 + (seed % stride); step <= steps.calls; step += stride) {
        place.remove()
        place = makePlace()
        const faults = new Faults()
        faults.failAt = step
        faults.kind = kind
        let durable = 0
        assertFails(() => play(passes, faults.wrapped, pass => (durable = pass)), kind)
        const engine = openEngine(place)
        const now = passOf(engine)
        engine.close()
        assert.ok(now === durable || now === durable + 1, `step ${step}: pass ${now}, durable ${durable}`)
        assertShows(place.target, passes[now - 1]?.shows, `step ${step}, opened again at pass ${now}`)
        play(passes, systemCalls, pass => assertShows(place.target, passes[pass - 1]?.shows, `step ${step}`))
        assertShows(place.target, passes.at(-1)?.shows, `step ${step}, at the end`)
      }
    })
  }
}

/** A step whose failure is of no account is none; every other failure is thrown. */
function assertFails(work: () => void, kind: string): void {
  try {
    work()
  } catch (error) {
    if (error instanceof Crash) return
    const code = (error as { code?: string }).code
    assert.equal(code, kind === 'EIO' ? 'io-error' : 'disk-full', String(error))
  }
}
