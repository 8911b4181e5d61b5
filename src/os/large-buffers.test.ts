import assert from 'node:assert/strict'
import { test } from 'node:test'
import { giveLarge, giverOf, largeBytesMax, largeBytesMin, takeLarge } from './large-buffers.ts'

test('memory that was given back, by whatever view of it, is used again, and by one at a time', () => {
  const first = takeLarge(largeBytesMin)
  assert.equal(first.length, largeBytesMin)
  giveLarge(first.subarray(10, 20))
  const again = takeLarge(largeBytesMax)
  assert.equal(again.buffer, first.buffer)
  assert.equal(again.length, largeBytesMax)
  assert.notEqual(takeLarge(largeBytesMax).buffer, again.buffer)
})

test('what is given back twice is there once', () => {
  const first = takeLarge(largeBytesMax)
  giveLarge(first)
  giveLarge(first)
  assert.equal(takeLarge(largeBytesMax).buffer, first.buffer)
  assert.notEqual(takeLarge(largeBytesMax).buffer, first.buffer)
})

test('who gives back a second time takes nothing from whoever has the memory then', () => {
  const first = takeLarge(largeBytesMax)
  const give = giverOf(first)
  give()
  const second = takeLarge(largeBytesMax)
  assert.equal(second.buffer, first.buffer)
  give()
  assert.notEqual(takeLarge(largeBytesMax).buffer, second.buffer)
})

test('what was not taken here is left alone', () => {
  for (const buffer of [
    takeLarge(largeBytesMin - 1),
    takeLarge(largeBytesMax + 1),
    Buffer.alloc(largeBytesMax),
  ]) {
    giveLarge(buffer)
    assert.notEqual(takeLarge(largeBytesMax).buffer, buffer.buffer)
  }
})
