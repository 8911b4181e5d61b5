import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fc } from '../os/testing/properties.ts'
import { BlockSet } from './block-set.ts'

const block = fc.nat({ max: 1600 })
const act = fc.oneof(
  fc.record({ do: fc.constant('add' as const), block }),
  fc.record({ do: fc.constant('delete' as const), block }),
  fc.record({ do: fc.constant('cut' as const), block }),
  fc.record({ do: fc.constant('addRange' as const), block, end: block }),
)

test('it has what a set of numbers would have, ascending', () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 40 }), acts => {
      const blocks = new BlockSet()
      const model = new Set<number>()
      for (const one of acts) {
        if (one.do === 'addRange') {
          blocks.addRange(one.block, one.end)
          for (let at = one.block; at < one.end; at++) model.add(at)
        } else if (one.do === 'cut') {
          blocks.cut(one.block)
          for (const at of [...model]) if (at >= one.block) model.delete(at)
        } else {
          blocks[one.do](one.block)
          model[one.do](one.block)
        }
        assert.equal(blocks.isEmpty, model.size === 0)
      }
      assert.deepEqual(
        [...blocks],
        [...model].sort((a, b) => a - b),
      )
      for (const at of [0, 511, 512, 1599]) assert.equal(blocks.has(at), model.has(at))
    }),
  )
})
