import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import type { Replica } from '../drivers/driver.ts'
import { HotspareError } from '../os/errors.ts'
import type { Storage } from '../os/storage.ts'
import { ManualClock } from '../os/testing/manual-clock.ts'
import type { FollowerStatus } from '../replica/status-file.ts'
import { type Commit, position, storeName } from '../stream/entry.ts'
import type { Source } from '../stream/source.ts'
import type { FollowEvent } from './events.ts'
import { FollowMonitor } from './monitor.ts'

/** The one file that the monitor writes, in memory. */
class StatusStorage {
  readonly versions: FollowerStatus[] = []
  fault: Error | undefined
  #text = ''

  async remove(): Promise<void> {}
  async open() {
    if (this.fault !== undefined) throw this.fault
    return {
      write: async (data: Uint8Array) => {
        this.#text = Buffer.from(data).toString()
      },
      close: async () => {},
    }
  }
  async rename(from: string, to: string): Promise<void> {
    assert.deepEqual([from, to], ['/sidecar/status.json.tmp', '/sidecar/status.json'])
    this.versions.push(JSON.parse(this.#text) as FollowerStatus)
  }
}

const store = storeName('test')
const commit = (timeMs: number): Commit => ({
  type: 'commit',
  store,
  position: position(`at ${timeMs}`),
  consistent: true,
  timeMs,
})
const replica = { consistent: () => ({ position: position('p'), timeMs: 1 }) } as unknown as Replica
const source = (bytes: number) => ({ backlog: async () => ({ bytes }) }) as unknown as Source

let storage: StatusStorage
let clock: ManualClock
let events: FollowEvent[]
let monitor: FollowMonitor

beforeEach(() => {
  storage = new StatusStorage()
  clock = new ManualClock()
  events = []
  monitor = new FollowMonitor({
    storage: storage as unknown as Storage,
    clock,
    behindMs: 5_000,
    onEvent: event => events.push(event),
  })
  monitor.attach('/sidecar', undefined)
})
afterEach(() => monitor.stopped())

const named = (name: string) => events.filter(event => event.event === name)

test('while nothing moves, no timer runs and nothing is written', async () => {
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 10, transactions: 0 })
  monitor.onDurable(commit(clock.nowMs()), { bytes: 10, transactions: 1 })
  monitor.onCaughtUp({ bytes: 10, transactions: 1 })
  await clock.pass(3_000)
  assert.equal(clock.sleeping, 0)
  const { sleeps } = clock
  const written = storage.versions.length
  assert.ok(written > 0)
  for (let n = 0; n < 100; n++) {
    // the safety poll of a source that finds nothing
    monitor.onCaughtUp({ bytes: 10, transactions: 1 })
    await clock.pass(5_000)
  }
  assert.equal(clock.sleeps, sleeps)
  assert.equal(storage.versions.length, written)
})

test('however much moves, the status is written at most once a second, and progress told twice', async () => {
  monitor.opened(source(1_000_000), replica, undefined)
  for (let n = 1; n <= 100; n++) {
    monitor.onProgress({ bytes: n, transactions: n })
    await clock.pass(100)
  }
  const times = storage.versions.map(({ updatedMs }) => updatedMs)
  assert.ok(times.length >= 9, `${times.length} versions in 10 s`)
  for (const [n, ms] of times.slice(1).entries()) assert.ok(ms - times[n]! >= 1_000)
  const told = named('progress').length
  assert.ok(told >= 15 && told <= 20, `${told} in 10 s`)
})

test('the status holds the last durable commit, the lag, and the last error', async () => {
  monitor.opened(source(500), replica, undefined)
  monitor.onProgress({ bytes: 10, transactions: 0 })
  monitor.onDurable(commit(clock.nowMs()), { bytes: 10, transactions: 1 })
  monitor.onCaughtUp({ bytes: 10, transactions: 1 })
  const durableMs = clock.nowMs()
  monitor.retrying(new HotspareError('disk-full', 'no room'), 1, 100)
  await clock.pass(2_000)
  const status = storage.versions.at(-1)
  assert.equal(status?.state, 'retrying')
  assert.equal(status?.position, `at ${durableMs}`)
  assert.equal(status?.knownMs, durableMs)
  assert.equal(status?.lastError?.code, 'disk-full')
  assert.equal(status?.bytes, 10)
})

test('figures go on over attempts', async () => {
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 10, transactions: 1 })
  monitor.retrying(new HotspareError('io-error', 'once'), 1, 100)
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 5, transactions: 1 })
  assert.equal(monitor.bytes, 15)
  assert.equal(monitor.transactions, 2)
})

test('live, behind and caught up are told in this order, once each', async () => {
  monitor.opened(source(1_000_000), replica, undefined)
  monitor.onCaughtUp({ bytes: 0, transactions: 0 })
  for (let n = 1; n <= 20; n++) {
    monitor.onProgress({ bytes: n, transactions: n })
    await clock.pass(500)
  }
  monitor.onCaughtUp({ bytes: 20, transactions: 20 })
  const told = events.map(({ event }) => event).filter(event => event !== 'progress')
  assert.deepEqual(told, ['live', 'behind', 'caught-up'])
})

test('a status that cannot be written for want of space does not end the follower', async () => {
  storage.fault = Object.assign(new Error('full'), { code: 'ENOSPC' })
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 1, transactions: 1 })
  await clock.pass(5_000)
  assert.deepEqual(storage.versions, [])
  storage.fault = undefined
  await clock.pass(1_000)
  assert.equal(storage.versions.length, 1)
})

test('what is consistent only inside windows is live when it is complete, and says so with its last window', async () => {
  const held = { ...source(0), hold: async () => ({ release: async () => {} }) } as unknown as Source
  const never = { consistent: () => undefined } as unknown as Replica
  monitor.opened(held, never, undefined)
  monitor.onDurable({ ...commit(clock.nowMs()), consistent: false }, { bytes: 10, transactions: 1 })
  monitor.onCaughtUp({ bytes: 10, transactions: 1 })
  assert.equal(monitor.complete, true)
  const consistentMs = () => monitor.consistent?.timeMs
  assert.equal(consistentMs(), undefined)
  const [live, notice] = events
  assert.deepEqual([live?.event, live?.event === 'live' && live.windowed], ['live', true])
  assert.match(notice?.event === 'notice' ? notice.message : '', /none yet/)
  await clock.pass(2_000)
  assert.equal(storage.versions.at(-1)?.complete, true)

  events.length = 0
  monitor.retrying(new HotspareError('io-error', 'once'), 1, 100)
  monitor.opened(held, replica, undefined)
  monitor.onCaughtUp({ bytes: 0, transactions: 0 })
  assert.equal(consistentMs(), 1)
  // once is enough
  assert.equal(named('notice').length, 0)
})

test('what is consistent by itself is not live before it is', () => {
  monitor.opened(source(0), { consistent: () => undefined } as unknown as Replica, undefined)
  monitor.onCaughtUp({ bytes: 10, transactions: 1 })
  assert.equal(monitor.complete, false)
  assert.equal(named('live').length, 0)
})

test('figures go on over a window that was given up', () => {
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 10, transactions: 1 })
  monitor.abandoned()
  monitor.opened(source(0), replica, undefined)
  monitor.onProgress({ bytes: 5, transactions: 1 })
  assert.equal(monitor.bytes, 15)
})
