import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PageGroup } from './page-group.ts'

const pageBytes = 512

test('a group has the newest version of each page that was put since it was cleared, whoever reuses what was put', () => {
  const puts = fc.array(fc.record({ page: fc.integer({ min: 1, max: 300 }), byte: fc.nat(255) }))
  fc.assert(
    fc.property(fc.array(puts, { maxLength: 4 }), rounds => {
      const group = new PageGroup(pageBytes)
      const received = Buffer.alloc(pageBytes)
      for (const round of rounds) {
        group.clear()
        for (const { page, byte } of round) group.put(page, received.fill(byte))
        received.fill(0)
        const newest = new Map(round.map(({ page, byte }) => [page, byte]))
        const found = new Map([...group.pages()].map(([page, data]) => [page, new Set(data)]))
        assert.deepEqual(found, new Map([...newest].map(([page, byte]) => [page, new Set([byte])])))
        assert.equal(group.bytes, newest.size * pageBytes)
      }
    }),
  )
})
