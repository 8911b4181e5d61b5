import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { fc } from '../os/testing/properties.ts'
import type { StoreName } from '../stream/entry.ts'
import { decodeMessage, encodeMessage, messageBytesExpected } from './message-codec.ts'
import { arbitraryMessage } from './testing/arbitrary-message.ts'

test('a message comes out as it went in', () => {
  fc.assert(
    fc.property(arbitraryMessage, message => {
      assert.deepEqual(decodeMessage(encodeMessage(message)), message)
    }),
    { numRuns: 2000 },
  )
})

test('garbage and damaged messages are named, and nothing else comes of them', () => {
  const damaged = fc
    .tuple(
      arbitraryMessage,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(),
    )
    .map(([message, changes, cut]) => {
      const bytes = Buffer.from(encodeMessage(message))
      for (const [at, value] of changes) bytes[at % bytes.length] = value
      return bytes.subarray(0, cut % 3 === 0 ? cut % (bytes.length + 1) : bytes.length)
    })
  const garbage = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
  fc.assert(
    fc.property(fc.oneof(damaged, garbage), bytes => {
      try {
        // what is still a message is a whole one: it can be sent on
        encodeMessage(decodeMessage(bytes))
      } catch (error) {
        assert.ok(error instanceof HotspareError && error.code === 'entry-invalid', String(error))
      }
    }),
    { numRuns: 5000 },
  )
})

test('a message that says it has more than was sent prepares for none of it', () => {
  // a log message of 2^16 pieces in 4 bytes
  assert.throws(() => decodeMessage(Buffer.from([6, 0x80, 0x80, 0x04])), { code: 'entry-invalid' })
})

test('the text of a refusal is cut, whatever its letters are, rather than refused', () => {
  const message = decodeMessage(
    encodeMessage({ type: 'refused', code: 'x', message: '\u{1f4be}'.repeat(9000) }),
  )
  assert.ok(message.type === 'refused' && message.message.length > 500)
})

test('the buffer of a large message does not have to grow', () => {
  const pieces = Array.from({ length: 40 }, (_, i) => [
    {
      type: 'begin' as const,
      number: 2 ** 50 + i,
      epoch: { number: 9, by: 'a'.repeat(64) },
      store: 'db' as StoreName,
    },
    { type: 'entries' as const, data: Buffer.alloc(20_000) },
  ]).flat()
  const message = { type: 'log' as const, pieces }
  assert.ok(encodeMessage(message).length <= messageBytesExpected(message))
})
