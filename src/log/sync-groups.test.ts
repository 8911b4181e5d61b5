import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type SyncGroup, SyncGroups } from './sync-groups.ts'

const turn = () => new Promise(resolve => setImmediate(resolve))

/** Syncs that end when they are told to; `last` is the newest transaction. */
function syncs() {
  const begun: { to: number; ended: PromiseWithResolvers<void> }[] = []
  const given = { last: 0 }
  const groups = new SyncGroups((group: SyncGroup) => {
    group.to = given.last
    const ended = Promise.withResolvers<void>()
    begun.push({ to: given.last, ended })
    return ended.promise
  })
  return {
    begun,
    groups,
    append(): void {
      given.last++
      groups.appended()
    },
    wait: () => groups.wait(given.last),
    async end(i: number, error?: Error): Promise<void> {
      if (error === undefined) begun[i]?.ended.resolve()
      else begun[i]?.ended.reject(error)
      await turn()
    },
  }
}

test('those who come while a sync is under way share the next one', async () => {
  const { append, wait, begun, end } = syncs()
  append()
  const first = wait()
  append()
  const others = [wait(), wait()]
  append()
  others.push(wait())
  assert.equal(begun.length, 1)
  await end(0)
  await first
  assert.deepEqual(
    begun.map(({ to }) => to),
    [1, 3],
  )
  await end(1)
  await Promise.all(others)
  assert.equal(begun.length, 2)
})

test('where many wait for one sync, the next begins when half of them have come again', async () => {
  const { append, wait, begun, end } = syncs()
  append()
  const many = Array.from({ length: 8 }, () => wait())
  await end(0)
  await Promise.all(many)
  for (let i = 0; i < 3; i++) append()
  assert.equal(begun.length, 1)
  append()
  assert.equal(begun.length, 2, 'nobody has asked for it yet')
  assert.equal(begun[1]?.to, 5)
  const joined = wait()
  append()
  const later = wait()
  assert.equal(begun.length, 2, 'one at a time')
  await end(1)
  await joined
  await end(2)
  await later
})

test('where few wait for one sync, none begins before it is asked for', async () => {
  const { append, wait, begun, end } = syncs()
  append()
  const waiting = wait()
  await end(0)
  await waiting
  for (let i = 0; i < 100; i++) append()
  assert.equal(begun.length, 1)
})

test('a sync that fails is told to those who wait for it, and the next one begins', async () => {
  const { append, wait, begun, end } = syncs()
  append()
  const refused = assert.rejects(wait(), /no space/)
  append()
  const next = wait()
  await end(0, new Error('no space'))
  await refused
  assert.equal(begun.length, 2)
  await end(1)
  await next
})
