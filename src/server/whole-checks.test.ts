import assert from 'node:assert/strict'
import test from 'node:test'
import type { CheckReport, Driver, LiveCheckOptions } from '../drivers/driver.ts'
import type { PromotedStore } from '../failover/promotion.ts'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { storeName } from '../stream/entry.ts'
import type { ServerParts } from './parts.ts'
import { openServerState } from './state.ts'
import { newClock, until } from './upstream/testing/test-server.ts'
import { WholeChecks } from './whole-checks.ts'

const [large, small] = [storeName('large'), storeName('small')]
const good: CheckReport = { valid: true, findings: [{ ok: true, what: 'no fault' }], bytes: 1 }
const bad: CheckReport = { valid: false, findings: [{ ok: false, what: 'page 7 is torn' }], bytes: 1 }

function promoted(store: PromotedStore['store'], unread: boolean): PromotedStore {
  const common = { store, path: `/srv/${store}`, position: undefined, valid: true, findings: [] }
  return unread ? { ...common, unread: true } : common
}

/** A server that was promoted with one store that was not read as a whole. */
async function world(checkLive: (options: LiveCheckOptions) => Promise<CheckReport>) {
  const storage = new FaultyStorage(new MemoryDisk())
  await storage.makeDirectory('/state')
  const clock = newClock()
  const epoch = { number: 2, by: 'b' }
  const fresh = {
    set: 'set',
    name: 'b',
    stream: 's',
    epoch,
    role: 'primary',
    enqueuing: true,
    applying: true,
    promotion: {
      epoch,
      planned: false,
      reached: 'announced',
      atMs: 1,
      result: {
        number: 5,
        timeMs: 1,
        lost: { kind: 'nothing' },
        stores: [promoted(small, false), promoted(large, true)],
      },
    },
    stores: {},
  } as const
  const told: string[] = []
  const open = async () => {
    const parts = {
      settings: { stores: [small, large].map(store => ({ store, driver: 'one' })) },
      machine: { clock, driverNamed: () => ({ checkLive }) as unknown as Driver },
      state: await openServerState(storage, '/state', fresh),
      tell: (level: string, code: string) => told.push(`${level} ${code}`),
    } as unknown as ServerParts
    return { checks: new WholeChecks(parts), parts }
  }
  return { open, told }
}

test('what was not read before a promotion is read afterwards, once, and what was found is told and durable', async () => {
  const paths: string[] = []
  const { open, told } = await world(async ({ path }) => {
    paths.push(path)
    return good
  })
  const { checks, parts } = await open()
  assert.match(checks.messageOf(large) ?? '', /promoted without/)
  checks.begin()
  checks.begin()
  await until(() => parts.state.value.promotion?.checks?.[large] !== undefined, 'checked')
  await checks.stop()
  assert.deepEqual(told, ['info checked'])
  assert.match(checks.messageOf(large) ?? '', /^read as a whole since its promotion: no fault$/)
  assert.equal(checks.messageOf(small), undefined)
  const again = await open()
  again.checks.begin()
  await again.checks.stop()
  assert.match(again.checks.messageOf(large) ?? '', /no fault/)
  assert.deepEqual(paths, ['/srv/large'])
})

test('a store that is found damaged after its promotion is told of as an error, and the status says so', async () => {
  const { open, told } = await world(async () => bad)
  const { checks } = await open()
  checks.begin()
  await until(() => told.length > 0, 'told')
  await checks.stop()
  assert.deepEqual(told, ['error target-invalid'])
  assert.equal(checks.messageOf(large), 'NOT VALID: page 7 is torn')
})

test('a check ends with the role, or by a fault that is not the store’s, and is made at the next start', async () => {
  const { promise: begun, resolve } = Promise.withResolvers<void>()
  const ways = [
    ({ signal }: LiveCheckOptions) =>
      new Promise<CheckReport>((_, reject) => {
        resolve()
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      }),
    async (): Promise<CheckReport> => {
      throw new Error('no process could be made')
    },
    async () => good,
  ]
  const { open, told } = await world(options => (ways.shift() as (typeof ways)[0])(options))
  const first = await open()
  first.checks.begin()
  await begun
  assert.match(first.checks.messageOf(large) ?? '', /is being read/)
  await first.checks.stop()
  assert.deepEqual(told, [])
  const second = await open()
  second.checks.begin()
  await until(() => told.length > 0, 'told')
  await second.checks.stop()
  assert.deepEqual(told, ['warning internal'])
  assert.match(second.checks.messageOf(large) ?? '', /promoted without/)
  const third = await open()
  third.checks.begin()
  await until(() => told.length > 1, 'told')
  await third.checks.stop()
  assert.deepEqual(told, ['warning internal', 'info checked'])
})
