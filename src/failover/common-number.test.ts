import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fc } from '../os/testing/properties.ts'
import { commonNumber, type LogView } from './common-number.ts'

/** Two logs with `shared` transactions of one history, each then with its own, and with what came before `first` removed. */
function log(name: string, shared: number, own: number, first: number): LogView {
  const next = shared + own + 1
  return {
    first,
    next,
    async chainAfter(number) {
      if (number < first - 1 || number >= next) return undefined
      return number <= shared ? `shared ${number}` : `${name} ${number}`
    },
  }
}

test('the last common transaction is found wherever both still know it, and nothing is said where they do not', async () => {
  const count = fc.integer({ min: 0, max: 300 })
  await fc.assert(
    fc.asyncProperty(count, count, count, count, count, async (shared, a, b, dropA, dropB) => {
      const firstA = Math.min(dropA, shared + a) + 1
      const firstB = Math.min(dropB, shared + b) + 1
      const found = await commonNumber(log('a', shared, a, firstA), log('b', shared, b, firstB))
      const known = Math.max(firstA, firstB) - 1 <= shared
      assert.equal(found, known ? shared : undefined)
    }),
    { numRuns: 500 },
  )
})

test('each question halves what is left', async () => {
  let asked = 0
  const other = log('b', 700_000, 1_000_000, 1)
  await commonNumber(log('a', 700_000, 1_000_000, 1), {
    ...other,
    chainAfter(number) {
      asked++
      return other.chainAfter(number)
    },
  })
  assert.ok(asked <= 24, `${asked} questions`)
})
