import assert from 'node:assert/strict'
import test from 'node:test'
import { fc } from '../os/testing/properties.ts'
import { RecentBytes } from './recent-bytes.ts'

test('what is given is what the file has at that place, whatever was written, cut back and written again', () => {
  const writes = fc.array(
    fc.record({ bytes: fc.integer({ min: 1, max: 300_000 }), back: fc.integer({ min: 0, max: 4 }) }),
    { minLength: 1, maxLength: 20 },
  )
  fc.assert(
    fc.property(writes, fc.infiniteStream(fc.nat()), (all, numbers) => {
      const recent = new RecentBytes()
      const file = Buffer.alloc(8 * 1024 * 1024)
      let end = 0
      for (const [i, { bytes, back }] of all.entries()) {
        if (back === 4) end = Math.floor(end / 2)
        const data = Buffer.alloc(bytes, i + 1)
        data.copy(file, end)
        recent.add(data, end)
        end += bytes
        const offset = numbers.next().value % end
        const part = Buffer.alloc(1 + (numbers.next().value % (end - offset)))
        if (recent.read(part, offset)) assert.ok(part.equals(file.subarray(offset, offset + part.length)))
        const last = Buffer.alloc(Math.min(bytes, 1024 * 1024))
        assert.ok(recent.read(last, end - last.length))
      }
    }),
  )
})

test('what is beyond the bound, or was never here, is not given', () => {
  const recent = new RecentBytes()
  assert.equal(recent.read(Buffer.alloc(1), 0), false)
  for (let i = 0; i < 5; i++) recent.add(Buffer.alloc(300_000, i), i * 300_000)
  assert.equal(recent.read(Buffer.alloc(1), 0), false)
  assert.equal(recent.read(Buffer.alloc(1), 5 * 300_000), false)
  assert.equal(recent.read(Buffer.alloc(2), 5 * 300_000 - 1), false)
  const rest = Buffer.alloc(2)
  assert.ok(recent.read(rest, 4 * 300_000 - 1))
  assert.deepEqual([...rest], [3, 4])
  // a piece that is larger than the bound by itself
  recent.add(Buffer.alloc(1024 * 1024 + 1), 5 * 300_000)
  assert.equal(recent.read(Buffer.alloc(1), 5 * 300_000), false)
})
