/** Whole servers on virtual disks, clock and network: roles that change, and what is lost by it (nothing that can be had). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readTransactions } from './standby/aside-file.ts'
import { type Host, pair, peer, storeNames, World } from './standby/server-world.ts'

const { signal } = new AbortController()
const promotion = { planned: false, dryRun: false, signal }

async function promote(world: World, host: Host, planned = false) {
  return world.of(host.running.promote({ ...promotion, planned }))
}

function fenced(host: Host): boolean {
  return host.running.status().fencedBy !== undefined
}

test('a standby comes in step with its primary, and stays in step', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  for (let i = 0; i < 20; i++) await a.write(`more ${i}`, i % 2 === 0 ? 'one' : 'two')
  await world.equal(a, b)
  await world.close()
})

test('a second server of one state directory is refused', async () => {
  const { world, a } = await pair()
  const first = a.running
  await assert.rejects(a.start(), { code: 'server-busy' })
  a.server = first
  await world.close()
})

test('a promoted standby has a live store, and the old primary reaches nobody from then on', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  const report = await promote(world, b)
  assert.deepEqual(report.epoch, { number: 2, by: 'b' })
  assert.equal(report.already, false)
  assert.ok(report.stores.every(({ valid }) => valid))
  assert.deepEqual(b.hooks, ['on-promote'])
  await world.until(() => fenced(a), 'fenced')
  assert.deepEqual(a.running.status().fencedBy, { number: 2, by: 'b' })
  await a.write('of the old one 1')
  await b.write('of the new one 2')
  await world.time.run(() => false, 60_000)
  assert.deepEqual((await b.texts()).at(-1), 'of the new one 2')
  assert.ok(!(await b.texts()).includes('of the old one 1'))
  assert.equal(a.running.status().role, 'primary')
  assert.ok(a.running.messages(50).some(({ code, level }) => code === 'fenced' && level === 'error'))
  await world.close()
})

test('promoting twice does it once', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  const first = await promote(world, b)
  const second = await promote(world, b)
  assert.equal(second.already, true)
  assert.deepEqual(second.epoch, first.epoch)
  assert.equal(second.number, first.number)
  assert.deepEqual(b.hooks, ['on-promote'])
  await b.stop()
  await b.start()
  assert.equal((await promote(world, b)).already, true)
  assert.deepEqual(b.hooks, ['on-promote'])
  await world.close()
})

test('an old primary that rejoins puts aside what only it has, and follows the new one', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  a.crash()
  await promote(world, b)
  await b.write('of the new one 2')
  await a.openStores()
  await a.write('of the old one 1')
  world.network.cut('a', 'b')
  await a.start()
  await world.time.run(() => false, 5_000)
  assert.equal(fenced(a), false)
  await a.write('of the old one 2')
  await world.time.run(() => false, 5_000)
  world.network.heal()
  await world.until(() => fenced(a), 'fenced')
  const report = await world.of(a.running.rejoin('b', signal))
  // a source that was opened anew proves nothing: so the store itself is kept
  const whole = report.wholes?.find(({ store }) => store === 'one')
  assert.ok(whole !== undefined, a.said())
  const texts = await a.textsAt(`${whole.path}/one`)
  assert.deepEqual(texts.slice(-2), ['of the old one 1', 'of the old one 2'])
  await world.equal(b, a)
  const kept = await a.texts()
  assert.ok(kept.includes('of the new one 2'))
  assert.ok(!kept.includes('of the old one 1'))
  assert.equal(a.running.status().role, 'standby')
  assert.equal(a.running.status().upstream, 'b')
  await b.write('after 3')
  await world.equal(b, a)
  await world.close()
})

test('what an old primary that was not stopped writes after the promotion is in a file when it rejoins', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  await a.write('before 1')
  await world.equal(a, b)
  await promote(world, b)
  await world.until(() => fenced(a), 'fenced')
  await a.write('of the old one 1', 'one')
  await a.write('of the old one 2', 'two')
  const report = await world.of(a.running.rejoin('b', signal))
  assert.equal(report.wholes, undefined)
  assert.equal(report.aside?.transactions, 2)
  const aside = await world.of(readTransactions(a.storage, report.aside?.path ?? ''))
  for (const text of ['of the old one 1', 'of the old one 2']) assert.ok(aside.includes(text), aside)
  assert.ok(!aside.includes('before 1'))
  await world.equal(b, a)
  assert.ok(!(await a.texts()).includes('of the old one 1'))
  await world.close()
})

test('a planned promotion loses nothing, the old primary rejoins by itself, and so on in both directions', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  let [primary, standby] = [a, b]
  for (let turn = 1; turn <= 4; turn++) {
    const text = `before turn ${turn}`
    await primary.write(text)
    const before = { primary: primary.hooks.length, standby: standby.hooks.length }
    const report = await promote(world, standby, true)
    assert.deepEqual(report.lost, { kind: 'nothing' })
    assert.deepEqual(report.epoch, { number: turn + 1, by: standby.name })
    assert.ok((report.withoutWriterMs ?? -1) >= 0)
    assert.ok((await standby.texts()).includes(text))
    assert.equal(primary.hooks[before.primary], 'on-demote')
    assert.equal(standby.hooks[before.standby], 'on-promote')
    const old = primary
    await world.until(() => old.running.status().role === 'standby', 'rejoined')
    await standby.write(`after turn ${turn}`)
    await world.equal(standby, old)
    assert.ok(!old.messages.some(({ code }) => code === 'put-aside'), old.said())
    ;[primary, standby] = [standby, primary]
  }
  await world.close()
})

test('a primary that cannot give way goes on as before', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  a.hookFails = 'on-demote'
  await assert.rejects(promote(world, b, true), { code: 'not-handed-over', message: /on-demote failed/ })
  await world.until(() => a.hooks.length > 1, 'the primary as before')
  assert.deepEqual(a.hooks, ['on-demote', 'on-promote'])
  assert.equal(fenced(a), false)
  await a.write('still 1')
  await world.equal(a, b)
  a.hookFails = undefined
  const report = await promote(world, b, true)
  assert.deepEqual(report.lost, { kind: 'nothing' })
  await world.close()
})

test('a planned promotion without a link to the primary is refused, and changes nothing', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  a.crash()
  await world.until(() => b.running.status().links[0]?.state !== 'idle', 'cut off')
  await world.time.run(() => false, 60_000)
  await assert.rejects(promote(world, b, true), { code: 'peer-away' })
  assert.equal(b.running.status().role, 'standby')
  await world.close()
})

test('a dry run says what would be done, and does nothing', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  for (const planned of [false, true]) {
    const report = await world.of(b.running.promote({ planned, dryRun: true, signal }))
    assert.ok(report.steps.length >= 6)
    assert.deepEqual(report.epoch, { number: 2, by: 'b' })
  }
  assert.deepEqual(b.hooks, [])
  await a.write('more 1')
  await world.equal(a, b)
  await world.close()
})

test('a standby that was never synchronised is not promoted', async () => {
  const world = new World()
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: [peer('a')] })
  await b.start()
  await assert.rejects(promote(world, b), { code: 'target-incomplete' })
  assert.equal(b.running.status().role, 'standby')
  await world.close()
})

test('what was received and not applied is applied before a promotion', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  await world.of(b.running.setApplying(false))
  await a.write('while off 1')
  await world.of(a.running.waitFor('b', signal))
  assert.ok(!(await b.texts()).includes('while off 1'))
  await promote(world, b)
  assert.ok((await b.texts()).includes('while off 1'))
  await world.close()
})

test('a store that somebody writes to is not written over by a rejoining', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  await promote(world, b)
  await world.until(() => fenced(a), 'fenced')
  a.writers = ['editor, process 7']
  const before = await a.texts()
  await assert.rejects(world.of(a.running.rejoin('b', signal)), { code: 'source-busy' })
  assert.equal(a.running.status().role, 'primary')
  assert.deepEqual(await a.texts(), before)
  a.writers = []
  await world.of(a.running.rejoin('b', signal))
  await world.equal(b, a)
  await world.close()
})

test('a replaced primary stays replaced when it is started again', async () => {
  const { world, a, b } = await pair()
  await world.equal(a, b)
  await promote(world, b)
  await world.until(() => fenced(a), 'fenced')
  await a.stop()
  await a.start()
  assert.deepEqual(a.running.status().fencedBy, { number: 2, by: 'b' })
  await world.close()
})

test('one that is set up so rejoins by itself', async () => {
  const world = new World()
  const a = world.host('a', { role: 'primary', peers: [peer('b', true)], rejoin: 'automatic' })
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: [peer('a', true)] })
  await a.openStores()
  await a.start()
  await b.start()
  await world.equal(a, b)
  await promote(world, b)
  await world.until(() => a.running.status().role === 'standby', 'rejoined')
  await b.write('more 1')
  await world.equal(b, a)
  await world.close()
})

async function cascade() {
  const world = new World()
  const all = (own: string) => ['a', 'b', 'c'].filter(name => name !== own).map(name => peer(name, true))
  const a = world.host('a', { role: 'primary', peers: all('a') })
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: all('b') })
  const c = world.host('c', { role: 'standby', upstream: 'b', peers: all('c') })
  await a.openStores()
  await a.write('begin 1')
  for (const host of [a, b, c]) await host.start()
  await world.equal(a, b, c)
  return { world, a, b, c }
}

test('a cascade of three is in step, and goes on below a promoted middle', async () => {
  const { world, a, b, c } = await cascade()
  for (let i = 0; i < 10; i++) await a.write(`more ${i}`, storeNames[i % 2])
  await world.equal(a, b, c)
  await promote(world, b)
  await b.write('of the new one 1')
  await world.equal(b, c)
  assert.ok(!c.messages.some(({ code }) => code === 'upstream-replaced'), c.said())
  await world.until(() => fenced(a), 'fenced')
  await world.of(a.running.rejoin('b', signal))
  await b.write('of the new one 2')
  await world.equal(b, a, c)
  await world.close()
})

test('the end of a cascade is promoted, and the others rejoin it', async () => {
  const { world, a, b, c } = await cascade()
  await promote(world, c)
  await world.until(() => fenced(a), 'a fenced')
  await world.until(() => b.running.status().epoch.number === 2, 'b has heard of it')
  await a.write('nobody takes 1')
  await world.time.run(() => false, 60_000)
  assert.ok(!(await b.texts()).includes('nobody takes 1'))
  await world.of(b.running.rejoin('c', signal))
  await world.of(a.running.rejoin('b', signal))
  await c.write('of the new one 2')
  await world.equal(c, b, a)
  await world.close()
})

async function fan() {
  const world = new World()
  const all = (own: string) => ['a', 'b', 'c'].filter(name => name !== own).map(name => peer(name, true))
  const a = world.host('a', { role: 'primary', peers: all('a') })
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: all('b') })
  const c = world.host('c', { role: 'standby', upstream: 'a', peers: all('c') })
  await a.openStores()
  await a.write('begin 1')
  for (const host of [a, b, c]) await host.start()
  await world.equal(a, b, c)
  return { world, a, b, c }
}

test('of two standbys one is promoted, and the other and the old primary rejoin it', async () => {
  const { world, a, b, c } = await fan()
  for (let i = 0; i < 10; i++) await a.write(`more ${i}`, storeNames[i % 2])
  await world.equal(a, b, c)
  await promote(world, b)
  await world.until(() => c.running.status().epoch.number === 2, 'c has heard of it')
  await b.write('of the new one 1')
  await world.of(c.running.rejoin('b', signal))
  await world.until(() => fenced(a), 'fenced')
  await world.of(a.running.rejoin('b', signal))
  await b.write('of the new one 2')
  await world.equal(b, a, c)
  await world.close()
})

test('two promoted at once have two epochs, the lesser is fenced when they meet, and its writes are put aside', async () => {
  const { world, a, b, c } = await fan()
  a.crash()
  world.network.cut('b', 'c')
  const [first, second] = [await promote(world, b), await promote(world, c)]
  assert.deepEqual(first.epoch, { number: 2, by: 'b' })
  assert.deepEqual(second.epoch, { number: 2, by: 'c' })
  await b.write('of the lesser 1')
  await c.write('of the greater 2')
  await world.time.run(() => false, 30_000)
  world.network.heal()
  await world.until(() => fenced(b), 'fenced')
  assert.equal(fenced(c), false)
  await world.of(b.running.rejoin('c', signal))
  await c.write('of the greater 3')
  await world.equal(c, b)
  assert.ok(!(await b.texts()).includes('of the lesser 1'))
  assert.ok(
    b.messages.some(({ code }) => code === 'put-aside'),
    b.said(),
  )
  await world.close()
})

test('nothing is kept for who takes its log from another by now', async () => {
  const { world, a, b, c } = await cascade()
  const keptAt = (host: Host) => host.running.status().log.subscribers.map(({ name }) => name)
  assert.deepEqual(keptAt(b), ['c'])
  await world.of(c.running.rejoin('a', signal))
  await a.write('more 1')
  await world.equal(a, b, c)
  await world.until(() => keptAt(b).length === 0, 'forgotten')
  assert.deepEqual(keptAt(a).sort(), ['b', 'c'])
  await world.close()
})

test('a loop of upstreams is refused', async () => {
  const world = new World()
  const a = world.host('a', { role: 'standby', upstream: 'b', peers: [peer('b', true)] })
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: [peer('a', true)] })
  await a.start()
  await b.start()
  await world.until(
    () => [a, b].some(host => host.messages.some(({ code }) => code === 'loop')),
    'refused as a loop',
  )
  await world.close()
})
