import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storeName } from '../../stream/entry.ts'
import { ScriptDriver } from '../testing/script-driver.ts'
import { newClock, TestServer, until } from './testing/test-server.ts'

const one = storeName('one')
const two = storeName('two')
const write = (path: string, data: string, offset = 0) => ({ type: 'write', path, offset, data }) as const

test('a new standby gets every store beside the log, and from there on what is committed', async () => {
  const clock = newClock()
  const driver = new ScriptDriver()
  const stores = [one, two]
  const a = await TestServer.open({ name: 'a', stores, clock, driver })
  const apps = await Promise.all(stores.map(store => a.application(store)))
  for (const app of apps) await app.commit([write('x', 'first'), write('y', 'more')])
  const b = await TestServer.open({ name: 'b', upstream: 'a', stores, clock, driver: new ScriptDriver() })
  const { serving } = b.connect(a)
  await until(() => serving.state === 'shipping' && serving.caughtUp, 'synchronised')
  assert.equal(a.log.next, 1, 'nothing of the first copy went through the log')
  for (const store of stores) assert.equal(await b.assertPrefix(store, a), (await a.journal(store)).length)
  const ends = [await apps[0]?.commit([write('x', 'second')]), await apps[1]?.commit([write('z', 'third')])]
  const number = await a.upstream.waitFor('b', AbortSignal.timeout(5000))
  assert.equal(number, 2)
  await until(async () => (await b.assertPrefix(one, a)) === ends[0], 'applied')
  await until(async () => (await b.assertPrefix(two, a)) === ends[1], 'applied')
  assert.equal(a.failed ?? b.failed, undefined)
  await b.stop()
  await a.stop()
})
