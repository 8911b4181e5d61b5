import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { Messages, readMessages } from './messages.ts'

async function opened(storage: FaultyStorage): Promise<Messages> {
  await storage.makeDirectory('/state')
  const clock = { nowMs: () => 5, sleep: async () => {}, turn: async () => {} }
  return Messages.open({ storage, clock, directory: '/state', onMessage() {} })
}

const texts = (messages: readonly { message: string }[]) => messages.map(({ message }) => message)

test('messages are shown newest first, also after a restart and while nobody runs', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const first = await opened(storage)
  first.tell('info', 'started', 'one')
  first.tell('warning', 'log-full', 'two')
  await first.close()
  assert.deepEqual(texts(await readMessages(storage, '/state', 10)), ['two', 'one'])
  const second = await opened(storage)
  second.tell('error', 'fenced', 'three')
  assert.deepEqual(texts(second.newest(2)), ['three', 'two'])
  await second.close()
  assert.deepEqual(texts(await readMessages(storage, '/state', 10)), ['three', 'two', 'one'])
})

test('what is kept of messages is bounded, and the newest are kept', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const messages = await opened(storage)
  for (let i = 0; i < 3000; i++) messages.tell('info', 'code', `${i} ${'x'.repeat(1000)}`)
  await messages.close()
  const kept = await readMessages(storage, '/state', 5000)
  assert.ok(kept.length >= 300 && kept.length <= 2000, String(kept.length))
  assert.match(kept[0]?.message ?? '', /^2999 /)
  let bytes = 0
  for (const name of await storage.list('/state')) bytes += (await storage.stat(`/state/${name}`))?.size ?? 0
  assert.ok(bytes <= 4 * 1024 * 1024, String(bytes))
})

test('a torn line is left out, and the next message is whole', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const first = await opened(storage)
  first.tell('info', 'code', 'one')
  first.tell('info', 'code', 'two')
  await first.close()
  const file = await storage.open('/state/messages', 'write')
  await file.truncate(((await file.stat()).size ?? 0) - 9)
  await file.close()
  const second = await opened(storage)
  second.tell('info', 'code', 'three')
  await second.close()
  assert.deepEqual(texts(await readMessages(storage, '/state', 10)), ['three', 'one'])
})

test('a disk on which nothing can be written holds up nobody', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  const messages = await opened(storage)
  storage.replan(step => (step.grows ? { kind: 'fail', code: 'ENOSPC', done: 'nothing' } : { kind: 'go' }))
  messages.tell('error', 'disk-full', 'one')
  await messages.close()
  assert.deepEqual(texts(messages.newest(1)), ['one'])
})
