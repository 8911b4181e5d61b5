import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { fc } from '../../os/testing/properties.ts'
import { seed } from '../../os/testing/seed.ts'
import type { Sink } from '../../stream/sink.ts'
import { BrokenLink, breaking } from '../../stream/testing/broken-link.ts'
import { directoryDriver } from './driver.ts'
import { NaiveSink, rsyncDifference } from './testing/naive-sink.ts'
import { RandomTree } from './testing/random-tree.ts'
import { openTree, scratch, store } from './testing/source-fixture.ts'
import { treeState } from './testing/tree-state.ts'

const runs = Number(process.env.HOTSPARE_RUNS ?? 6)

for (const kind of ['a plain sink', 'the replica'] as const) {
  const title = `after each pass the copy that ${kind} keeps is the tree, whatever was done to it in between`
  test(title, { timeout: 300_000 }, t => property(t, kind === 'the replica' ? replicaCopy : plainCopy))
}

interface Copy {
  readonly root: string
  sink(): Promise<Sink>
  /** The source's index is lost. */
  forget(): void
  close(): Promise<void>
  /** A pass in which the link to it breaks; not every copy forgets what no commit followed. */
  readonly mayBreak: boolean
}

function plainCopy(base: string): Copy {
  const sink = new NaiveSink(join(base, 'copy'))
  return {
    root: sink.root,
    sink: async () => sink,
    forget: () => {
      sink.forgetful = true
    },
    close: async () => {},
    mayBreak: false,
  }
}

function replicaCopy(base: string): Copy {
  const root = join(base, 'copy')
  const sidecar = `${root}.hotspare`
  fs.mkdirSync(sidecar)
  let open: Sink | undefined
  return {
    root,
    sink: async () => {
      open ??= await directoryDriver.openReplica({
        storage: nodeStorage,
        clock: systemClock,
        store,
        path: root,
        sidecar,
        resync: false,
        noDelete: false,
        onNotice: notice => assert.fail(notice.message),
      })
      return open
    },
    // it says what it has
    forget: () => {},
    close: async () => {
      await open?.close()
      open = undefined
    },
    mayBreak: true,
  }
}

async function property(t: TestContext, makeCopy: (base: string) => Copy): Promise<void> {
  t.diagnostic(`HOTSPARE_SEED=${seed}`)
  /** How the index is there at the next pass. */
  const between = fc.constantFrom('same process', 'restarted', 'index lost', 'watched', 'link broken')
  const breaks = fc.record({ commits: fc.nat(1), entries: fc.integer({ min: 1, max: 30 }) })
  const acts = fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 12 })
  const passes = fc.array(fc.tuple(between, acts, breaks), { minLength: 1, maxLength: 6 })
  const directory = scratch(t)
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.nat(2 ** 31), passes, async (edits, script) => {
      const base = join(directory, `${++run}`)
      const live = join(base, 'live')
      const index = join(base, 'index')
      fs.mkdirSync(live, { recursive: true })
      const random = new Mixer(edits)
      const tree = new RandomTree(live, below => random.below(below))
      for (let i = 0; i < 20; i++) tree.edit()
      const copy = makeCopy(base)
      let opened = await openTree(t, live, index)
      try {
        await opened.pass(await copy.sink())
        judge(live, copy.root, tree)
        for (const [how, mixed, at] of script) {
          for (const number of mixed) {
            random.mix(number)
            tree.edit()
          }
          tree.log.push(`-- ${how}`)
          if (how === 'restarted' || how === 'index lost') {
            await opened.source.close()
            if (how === 'index lost') {
              fs.rmSync(index, { recursive: true })
              copy.forget()
            } else await copy.close()
            opened = await openTree(t, live, index)
          }
          if (how === 'link broken' && copy.mayBreak) {
            await opened.pass(breaking(await copy.sink(), at)).catch(error => {
              if (!(error instanceof BrokenLink)) throw error
              return copy.close()
            })
            random.mix(at.entries)
            tree.edit()
          }
          if (how === 'watched') {
            opened.source.watch()
            await opened.pass(await copy.sink())
            const only = mixed.length % 2 === 0 ? 'links-made' : 'links-broken'
            for (let i = 0; i < mixed.length * 2; i++) tree.edit(only)
          }
          await opened.pass(await copy.sink())
          judge(live, copy.root, tree)
        }
      } finally {
        await opened.source.close()
        await copy.close()
      }
      fs.rmSync(base, { recursive: true, force: true })
    }),
    { numRuns: runs, endOnFailure: true },
  )
}

/** Numbers that follow from those that were given. */
class Mixer {
  #state: number

  constructor(start: number) {
    this.#state = start | 1
  }

  mix(number: number): void {
    this.#state ^= number
  }

  below(bound: number): number {
    const state = this.#state
    const mixed =
      Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) ^ Math.imul(state ^ (state >>> 12), 0x297a2d39)
    this.#state = (mixed + 0x6d2b79f5) | 0
    return ((this.#state >>> 0) % 65_521) % bound
  }
}

function judge(live: string, root: string, tree: RandomTree): void {
  const [copy, expected] = [treeState(root), treeState(live)]
  const wrong = {
    missing: expected.filter(line => !copy.includes(line)),
    toomuch: copy.filter(line => !expected.includes(line)),
  }
  const none = { missing: [], toomuch: [] }
  assert.deepEqual(wrong, none, `${JSON.stringify(wrong, undefined, 1)}\n${tree.log.slice(-40).join(' ')}`)
  const difference = rsyncDifference(live, root)
    .split('\n')
    // special files are named, not copied
    .filter(line => line !== '' && !/^[hc][SD]\+/.test(line) && !/^cS/.test(line))
  assert.deepEqual(difference, [], tree.log.join('\n'))
}
