import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StoreName } from '../stream/entry.ts'
import type { LinkMessage } from './messages.ts'
import { openSessionPair } from './testing/session-pair.ts'

const epoch = { number: 3, by: 'alpha' }

function logMessage(bytes: number, number: number): LinkMessage {
  return {
    type: 'log',
    pieces: [
      { type: 'begin', number, epoch, store: 'db' as StoreName },
      { type: 'entries', data: Buffer.alloc(bytes, number % 251) },
    ],
  }
}

test('messages of a channel arrive whole and in order, whatever their size', async () => {
  const { caller, called } = await openSessionPair()
  const sizes = [0, 1, 70_000, 1_000_000, 1_400_000, 8 * 2 ** 20 + 16, 5, 300_000]
  const sent = sizes.map((bytes, i) => logMessage(bytes, i + 1))
  const channel = called.channel('log')
  const sending = (async () => {
    for (const message of sent) await channel.send(message)
    channel.close()
  })()
  const received: LinkMessage[] = []
  for await (const message of caller.channel('log').messages()) received.push(message)
  await sending
  assert.deepEqual(received, sent)
  await caller.close()
  assert.match(String(await called.over), /'beta' closed the link/)
  assert.equal(await caller.over, undefined)
})

test('a channel that is not read holds up no other, and no more is under way on it than its window', async () => {
  const { caller, called } = await openSessionPair()
  const stuck = called.channel('sync db')
  let taken = 0
  const pushing = (async () => {
    for (let i = 0; ; i++) {
      await stuck.send(logMessage(100_000, i + 1))
      taken += 100_000
    }
  })().catch(error => error as Error)
  const control = called.channel('control')
  const heard = caller.channel('control').messages()[Symbol.asyncIterator]()
  for (let id = 0; id < 200; id++) {
    await control.send({ type: 'sync-flush', id })
    assert.deepEqual((await heard.next()).value, { type: 'sync-flush', id })
  }
  assert.ok(taken > 1_000_000 && taken <= 4 * 2 ** 20, `${taken} bytes under way`)
  await caller.close('enough')
  assert.match(String(await pushing), /closed the link: enough/)
})
