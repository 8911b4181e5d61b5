import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fc } from '../../os/testing/properties.ts'
import { type ChangeBytes, ChangeMemory } from './change-memory.ts'

test('what was taken stays as it was filled until it is given back, in whatever order that is, and however often', () => {
  const steps = fc.array(
    fc.record({
      bytes: fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 200_000, max: 300_000 })),
      give: fc.array(fc.nat(50), { maxLength: 3 }),
      twice: fc.boolean(),
    }),
    { maxLength: 200 },
  )
  fc.assert(
    fc.property(steps, sequence => {
      const memory = new ChangeMemory()
      const held: { taken: ChangeBytes; byte: number; bytes: number }[] = []
      for (const [i, { bytes, give, twice }] of sequence.entries()) {
        const taken = memory.take(bytes)
        taken.data.fill(i % 256)
        held.push({ taken, byte: i % 256, bytes })
        for (const at of give) {
          const [given] = held.splice(at, 1)
          given?.taken.recycle?.()
          if (twice) given?.taken.recycle?.()
        }
      }
      for (const { taken, byte, bytes } of held) {
        assert.ok(taken.data.equals(Buffer.alloc(bytes, byte)))
      }
    }),
    { numRuns: 50 },
  )
})

test('memory that was given back is used again', () => {
  const memory = new ChangeMemory()
  const buffers = new Set<ArrayBufferLike>()
  for (let round = 0; round < 20; round++) {
    const taken = Array.from({ length: 200 }, () => memory.take(4096))
    for (const { data, recycle } of taken) {
      buffers.add(data.buffer)
      recycle?.()
    }
  }
  assert.equal(buffers.size, Math.ceil(200 / 64))
})
