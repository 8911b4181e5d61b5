import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { NaiveSink, rsyncDifference } from './testing/naive-sink.ts'
import { RandomTree } from './testing/random-tree.ts'
import { openTree, scratch } from './testing/source-fixture.ts'
import { treeState } from './testing/tree-state.ts'

/** How the index is there at the next pass. */
const between = fc.constantFrom('same process', 'restarted', 'index lost', 'watched')
const seed = Number(process.env.HOTSPARE_SEED ?? Math.floor(Math.random() * 2 ** 31))
const runs = Number(process.env.HOTSPARE_RUNS ?? 8)

test('after each pass the copy is the tree, whatever was done to it in between', {
  timeout: 300_000,
}, async t => {
  t.diagnostic(`HOTSPARE_SEED=${seed}`)
  const passes = fc.array(fc.tuple(between, fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 12 })), {
    minLength: 1,
    maxLength: 6,
  })
  const directory = scratch(t)
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.nat(2 ** 31), passes, async (edits, script) => {
      const base = join(directory, `${++run}`)
      const live = join(base, 'live')
      const index = join(base, 'index')
      fs.mkdirSync(live, { recursive: true })
      let state = edits | 1
      const tree = new RandomTree(live, below => {
        state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) ^ Math.imul(state ^ (state >>> 12), 0x297a2d39)
        state = (state + 0x6d2b79f5) | 0
        return ((state >>> 0) % 65_521) % below
      })
      for (let i = 0; i < 20; i++) tree.edit()
      const sink = new NaiveSink(join(base, 'copy'))
      let opened = await openTree(t, live, index)
      try {
        await opened.pass(sink)
        judge(live, sink, tree)
        for (const [how, acts] of script) {
          for (const act of acts) {
            state ^= act
            tree.edit()
          }
          tree.log.push(`-- ${how}`)
          if (how === 'restarted' || how === 'index lost') {
            await opened.source.close()
            if (how === 'index lost') {
              fs.rmSync(index, { recursive: true })
              sink.forgetful = true
            }
            opened = await openTree(t, live, index)
          }
          if (how === 'watched') {
            opened.source.watch()
            await opened.pass(sink)
            const only = acts.length % 2 === 0 ? 'links-made' : 'links-broken'
            for (let i = 0; i < acts.length * 2; i++) tree.edit(only)
          }
          await opened.pass(sink)
          sink.forgetful = false
          judge(live, sink, tree)
        }
      } finally {
        await opened.source.close()
      }
      fs.rmSync(base, { recursive: true, force: true })
    }),
    { numRuns: runs, seed, endOnFailure: true },
  )
})

function judge(live: string, sink: NaiveSink, tree: RandomTree): void {
  const [copy, expected] = [treeState(sink.root), treeState(live)]
  const wrong = {
    missing: expected.filter(line => !copy.includes(line)),
    toomuch: copy.filter(line => !expected.includes(line)),
  }
  const none = { missing: [], toomuch: [] }
  assert.deepEqual(wrong, none, `${JSON.stringify(wrong, undefined, 1)}\n${tree.log.slice(-40).join(' ')}`)
  const difference = rsyncDifference(live, sink.root)
    .split('\n')
    // special files are named, not copied
    .filter(line => line !== '' && !/^[hc][SD]\+/.test(line) && !/^cS/.test(line))
  assert.deepEqual(difference, [], tree.log.join('\n'))
}
