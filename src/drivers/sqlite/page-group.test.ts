import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fc } from '../../os/testing/properties.ts'
import { PageGroup } from './page-group.ts'

const pageBytes = 512

type Act = { act: 'put'; page: number; byte: number } | { act: 'fold' | 'drop' | 'clear' }

const acts: fc.Arbitrary<Act[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        act: fc.constant('put' as const),
        page: fc.integer({ min: 1, max: 200 }),
        byte: fc.nat(255),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ act: fc.constantFrom('fold' as const, 'drop' as const, 'clear' as const) }),
    },
  ),
  { maxLength: 600 },
)

function found(pages: Iterable<[number, Uint8Array]>): Map<number, Set<number>> {
  return new Map([...pages].map(([page, data]) => [page, new Set(data)]))
}

function expected(pages: Map<number, number>): Map<number, Set<number>> {
  return new Map([...pages].map(([page, byte]) => [page, new Set([byte])]))
}

test('a group has the newest version of each page, of whole transactions and of the open one, whoever reuses what was put', () => {
  fc.assert(
    fc.property(acts, sequence => {
      const group = new PageGroup(pageBytes)
      const received = Buffer.alloc(pageBytes)
      const whole = new Map<number, number>()
      const open = new Map<number, number>()
      for (const step of sequence) {
        if (step.act === 'put') {
          group.put(step.page, received.fill(step.byte))
          open.set(step.page, step.byte)
          continue
        }
        group[step.act]()
        if (step.act === 'fold') for (const [page, byte] of open) whole.set(page, byte)
        if (step.act === 'clear') whole.clear()
        else open.clear()
      }
      received.fill(0)
      assert.deepEqual(found(group.openPages()), expected(open))
      assert.deepEqual(found(group.wholePages()), expected(whole))
      assert.equal(group.bytes, whole.size * pageBytes)
    }),
  )
})
