import assert from 'node:assert/strict'
import { test } from 'node:test'
import { blake3 } from '@napi-rs/blake-hash'
import { fc } from '../os/testing/properties.ts'
import { BlockDigests } from './block-digests.ts'
import { BlockSet } from './block-set.ts'

const blockBytes = 64
const step = fc.oneof(
  fc.record({ do: fc.constant('append' as const), bytes: fc.uint8Array({ maxLength: 200 }) }),
  fc.record({ do: fc.constant('zeros' as const), length: fc.nat({ max: 200 }) }),
  fc.record({
    do: fc.constant('write' as const),
    offset: fc.nat({ max: 500 }),
    bytes: fc.uint8Array({ maxLength: 150 }),
  }),
  fc.record({ do: fc.constant('resize' as const), size: fc.nat({ max: 500 }) }),
  fc.record({ do: fc.constant('refresh' as const) }),
  fc.record({ do: fc.constant('dropTail' as const) }),
)

function refresh(blocks: BlockDigests, file: Buffer): void {
  for (const block of [...blocks.stale])
    blocks.refresh(block, file.subarray(block * blockBytes, Math.min((block + 1) * blockBytes, file.length)))
}

test('however a file was changed, its digests are those of its bytes, and all that changed is told', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const blocks = new BlockDigests(blockBytes)
      let file = Buffer.alloc(0)
      const recorded = new Map<number, string>()
      for (const one of steps) {
        if (one.do === 'append' || one.do === 'zeros') {
          const bytes = one.do === 'append' ? Buffer.from(one.bytes) : Buffer.alloc(one.length)
          const missing = blocks.missingTail
          if (missing !== undefined)
            assert.ok(blocks.loadTail(file.subarray(missing.offset, missing.offset + missing.length)))
          if (one.do === 'append') blocks.append(bytes)
          else blocks.appendZeros(one.length)
          file = Buffer.concat([file, bytes])
        } else if (one.do === 'write') {
          const end = one.bytes.length === 0 ? 0 : one.offset + one.bytes.length
          file = Buffer.concat([file, Buffer.alloc(Math.max(0, end - file.length))])
          if (one.bytes.length > 0) file.set(one.bytes, one.offset)
          blocks.touch(one.offset, one.bytes.length)
        } else if (one.do === 'resize') {
          file = Buffer.concat([file, Buffer.alloc(Math.max(0, one.size - file.length))]).subarray(
            0,
            one.size,
          )
          blocks.resize(one.size)
        } else if (one.do === 'refresh') {
          refresh(blocks, file)
          for (const block of blocks.changed) recorded.delete(block)
          blocks.changed.clear()
          for (let block = 0; block < blocks.count; block++)
            recorded.set(block, Buffer.from(blocks.slice(block, block + 1)).toString('hex'))
        } else blocks.dropTail()
        assert.equal(blocks.size, file.length)
      }
      refresh(blocks, file)
      for (let block = 0; block < blocks.count; block++) {
        const digest = blake3(file.subarray(block * blockBytes, (block + 1) * blockBytes))
        assert.ok(digest.equals(blocks.slice(block, block + 1)), `block ${block}`)
        if (!blocks.changed.has(block)) assert.equal(recorded.get(block), digest.toString('hex'))
      }
    }),
    { numRuns: 1500 },
  )
})

test('a tail that is not what was digested is not gone on from', () => {
  const blocks = new BlockDigests(blockBytes)
  blocks.append(Buffer.from('abc'))
  blocks.dropTail()
  assert.equal(blocks.loadTail(Buffer.from('abd')), false)
  assert.equal(blocks.loadTail(Buffer.from('abc')), true)
})

test('a set of blocks gives its runs', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 3000 })), fc.nat({ max: 3000 }), (added, cut) => {
      const set = new BlockSet()
      for (const block of added) set.add(block)
      set.cut(cut)
      const expected = [...new Set(added)].filter(block => block < cut).sort((a, b) => a - b)
      assert.deepEqual([...set], expected)
      assert.equal(set.isEmpty, expected.length === 0)
      const runs: number[] = []
      let last = -2
      for (const { first, end } of set.runs()) {
        assert.ok(first > last, 'runs that touch')
        for (let block = first; block < end; block++) runs.push(block)
        last = end
      }
      assert.deepEqual(runs, expected)
    }),
  )
})
