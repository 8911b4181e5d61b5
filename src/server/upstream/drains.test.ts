import assert from 'node:assert/strict'
import { test } from 'node:test'
import { VirtualClock } from '../../os/testing/virtual-clock.ts'
import type { Source } from '../../stream/source.ts'
import { Drains } from './drains.ts'

const never = new AbortController().signal

/** What has become of it so far. */
function watched(work: Promise<void>): { state: string } {
  const seen = { state: 'waiting' }
  work.then(
    () => {
      seen.state = 'answered'
    },
    error => {
      seen.state = String(error)
    },
  )
  return seen
}

function source(wait: (signal: AbortSignal) => Promise<void>): Source {
  return { async *read() {}, wait, acknowledge: async () => {}, close: async () => {} }
}

const untilEnded = (signal: AbortSignal) =>
  new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })

test('who comes while it is read is answered by the next reading, which begins at once', async () => {
  const clock = new VirtualClock()
  const drains = new Drains(clock)
  let waits = 0
  const reading = drains.reading(
    source(async () => {
      waits++
    }),
  )
  const options = { signal: never, inventory: async () => undefined }
  const early = watched(drains.wait(never))
  reading.read(undefined, options)
  const late = watched(drains.wait(never))
  drains.caughtUp()
  await clock.sleep(1)
  assert.deepEqual([early.state, late.state], ['answered', 'waiting'])
  await reading.wait(never)
  assert.equal(waits, 0)
  reading.read(undefined, options)
  drains.caughtUp()
  await clock.sleep(1)
  assert.equal(late.state, 'answered')
  assert(drains.isEmpty)
  await reading.wait(never)
  assert.equal(waits, 1)
})

test('a rest ends when somebody comes, and when it is ended', async () => {
  const drains = new Drains(new VirtualClock())
  const reading = drains.reading(source(untilEnded))
  const waited = reading.wait(never)
  const came = drains.wait(never)
  await waited
  drains.caughtUp()
  const closing = new AbortController()
  const other = drains.resting(closing.signal, untilEnded)
  closing.abort()
  await other
  await drains.resting(closing.signal, untilEnded)
  drains.reject(new Error('over'))
  await assert.rejects(came, { message: 'over' })
})

test('a commit answers those who came before the moment up to which it has everything', async () => {
  const clock = new VirtualClock()
  const drains = new Drains(clock)
  const sinceMs = clock.nowMs()
  const first = watched(drains.wait(never))
  await clock.sleep(10)
  const second = watched(drains.wait(never))
  assert.deepEqual(
    [undefined, sinceMs, sinceMs + 1].map(upToMs => drains.isWanted(upToMs)),
    [false, false, true],
  )
  drains.durable(undefined)
  drains.durable(sinceMs)
  await clock.sleep(1)
  assert.equal(first.state, 'waiting')
  drains.durable(sinceMs + 10)
  await clock.sleep(1)
  assert.deepEqual([first.state, second.state], ['answered', 'waiting'])
})

test('who gives up waits no more', async () => {
  const drains = new Drains(new VirtualClock())
  const giving = new AbortController()
  const waiting = drains.wait(giving.signal)
  giving.abort(new Error('no patience'))
  await assert.rejects(waiting, { message: 'no patience' })
  assert(drains.isEmpty)
  await assert.rejects(drains.wait(giving.signal), { message: 'no patience' })
})
