import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fc } from '../../os/testing/properties.ts'
import { TakenTransactions } from './taken-transactions.ts'

const pageBytes = 512

test('the newest version of each page that is left is given, in ascending order, whatever becomes of the memory it came in', () => {
  const window = fc.record({
    pages: fc.dictionary(fc.integer({ min: 1, max: 40 }).map(String), fc.nat(255), { minKeys: 1 }),
    databasePages: fc.integer({ min: 1, max: 40 }),
    upToMs: fc.option(fc.nat(1000), { nil: undefined }),
  })
  fc.assert(
    fc.property(fc.array(fc.array(window, { minLength: 1 }), { minLength: 1, maxLength: 5 }), gifts => {
      const taken = new TakenTransactions(pageBytes)
      const memory = Buffer.alloc(41 * pageBytes)
      for (const windows of gifts) {
        assert(taken.isEmpty)
        const expected = new Map<number, number>()
        let upToMs: number | undefined
        for (const { pages, ...window } of windows) {
          const given = new Map<number, Uint8Array>()
          for (const [name, byte] of Object.entries(pages)) {
            const page = Number(name)
            expected.set(page, byte)
            given.set(page, memory.subarray(page * pageBytes, (page + 1) * pageBytes).fill(byte))
          }
          upToMs = window.upToMs ?? upToMs
          taken.add(given, window.databasePages, window.upToMs, 0)
          memory.fill('!')
        }
        assert.equal(taken.databasePages, windows.at(-1)?.databasePages)
        assert.equal(taken.upToMs, upToMs)
        const found = [...taken.pages()]
        for (const [, data] of found)
          assert(data.length === pageBytes && data.every(byte => byte === data[0]))
        assert.deepEqual(
          found.map(([page, data]) => [page, data[0]]),
          [...expected].filter(([page]) => page <= taken.databasePages).sort(([a], [b]) => a - b),
        )
        taken.clear()
      }
    }),
  )
})

test('what is old or much is to be given', () => {
  const taken = new TakenTransactions(65536)
  const page = Buffer.alloc(65536)
  taken.add(new Map([[1, page]]), 100, undefined, 50)
  taken.add(new Map([[1, page]]), 100, undefined, 55)
  assert.equal(taken.isDue(57), false)
  assert.equal(taken.isDue(58), true)
  taken.clear()
  for (let number = 1; number <= 31; number++) taken.add(new Map([[number, page]]), 100, undefined, 60)
  assert.equal(taken.isDue(60), false)
  taken.add(new Map([[32, page]]), 100, undefined, 60)
  assert.equal(taken.isDue(60), true)
})
