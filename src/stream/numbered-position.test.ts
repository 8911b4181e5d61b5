import assert from 'node:assert/strict'
import { test } from 'node:test'
import { position } from './entry.ts'
import { barePosition, numberedPosition, parseNumberedPosition } from './numbered-position.ts'

test('a number comes back as it was kept, and the position as the driver made it', () => {
  for (const text of ['{"v":1}', 'log:1:2:x', ':', '\n', 'ä'.repeat(100)]) {
    for (const number of [1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const at = { number, epoch: 3, position: position(text) }
      assert.deepEqual(parseNumberedPosition(numberedPosition(at)), at)
      assert.equal(barePosition(numberedPosition(at)), text)
    }
  }
})

test('a bare position has no number, and stays what it is', () => {
  assert.equal(parseNumberedPosition(position('{"v":1}')), undefined)
  assert.equal(barePosition(position('{"v":1}')), '{"v":1}')
})

test('a damaged number is named, and never read as another', () => {
  for (const text of [
    'log:',
    'log:1:2',
    'log:1:2:',
    'log:0:1:x',
    'log:01:1:x',
    'log:-1:1:x',
    'log:99999999999999999:1:x',
  ])
    assert.throws(() => parseNumberedPosition(position(text)), { code: 'state-damaged' }, text)
})

test('a position that leaves no room for the number is refused', () => {
  const long = position('x'.repeat(64 * 1024))
  assert.throws(() => numberedPosition({ number: 1, epoch: 1, position: long }), { code: 'entry-invalid' })
})
