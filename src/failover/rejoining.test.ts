import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { LogView } from './common-number.ts'
import type { Reign } from './fencing.ts'
import { type RejoinHost, type RejoinRecord, rejoin } from './rejoining.ts'

class Crash extends Error {}

/** An old primary with a log, a store that is ahead of it, and a new primary that shares a beginning with it. */
class World {
  reign: Reign = { role: 'primary', epoch: { number: 1, by: 'a' }, fencedBy: { number: 2, by: 'b' } }
  record: RejoinRecord | undefined
  upstream: string | undefined
  log = ['1', '2', '3', 'own 4']
  store = ['1', '2', '3', 'own 4', 'own 5']
  asides = new Map<string, string[]>()
  theirs = ['1', '2', '3', 'their 4', 'their 5', 'their 6']
  theirEpoch: Epoch = { number: 2, by: 'b' }
  busy = false
  paused = false
  acts: string[] = []
  crashAt = Number.POSITIVE_INFINITY

  async #act(name: string, effect: () => void): Promise<void> {
    const index = this.acts.length
    this.acts.push(name)
    if (this.crashAt === index) throw new Crash()
    effect()
    if (this.crashAt === index + 0.5) throw new Crash()
  }

  view(log: () => string[]): LogView {
    return {
      first: 1,
      get next() {
        return log().length + 1
      },
      async chainAfter(number) {
        return log().slice(0, number).join()
      },
    }
  }

  host(): RejoinHost {
    const world = this
    const own = world.view(() => world.log)
    return {
      clock: { nowMs: () => 0, sleep: async () => {}, turn: async () => {} },
      reign: () => world.reign,
      record: () => world.record,
      save: record =>
        world.#act('save', () => {
          world.record = record
        }),
      async meet() {
        return { epoch: world.theirEpoch, stream: 'x', log: world.view(() => world.theirs) }
      },
      quiet: async () => {
        await world.#act('quiet', () => {
          if (world.busy) throw new HotspareError('source-busy', 'somebody writes')
          world.paused = true
          if (world.reign.role === 'primary') world.log = [...world.store]
        })
        return []
      },
      resume: async () => {
        world.paused = false
      },
      log: Object.assign(own, { stream: 'x' }),
      asidePath: async after => `aside-${after + 1}-${world.asides.size}`,
      cutAfter: async (number, path) => {
        await world.#act('write the file', () => world.asides.set(path, world.log.slice(number)))
        await world.#act('cut', () => {
          world.log = world.log.slice(0, number)
        })
      },
      turn: (upstream, epoch) =>
        world.#act('turn', () => {
          world.reign = { role: 'standby', epoch }
          world.upstream = upstream
          world.record = undefined
        }),
    }
  }
}

const signal = new AbortController().signal

test('what an old primary has beyond the promotion is in a file before its store is touched, whenever it dies', async () => {
  const whole = new World()
  const report = await rejoin(whole.host(), 'b', signal)
  assert.deepEqual(report, {
    upstream: 'b',
    aside: { path: 'aside-4-0', fromNumber: 4, transactions: 2 },
  })
  assert.deepEqual(whole.asides.get('aside-4-0'), ['own 4', 'own 5'])
  for (let crashAt = 0; crashAt < whole.acts.length; crashAt += 0.5) {
    const world = new World()
    world.crashAt = crashAt
    const step = `${whole.acts[Math.floor(crashAt)]} ${crashAt}`
    await assert.rejects(rejoin(world.host(), 'b', signal), step)
    world.crashAt = Number.POSITIVE_INFINITY
    if (world.reign.role === 'standby') continue
    const again = await rejoin(world.host(), 'b', signal)
    const { reign, upstream, log, record } = world
    assert.deepEqual(reign, { role: 'standby', epoch: { number: 2, by: 'b' } }, step)
    assert.deepEqual(
      { upstream, log, record },
      { upstream: 'b', log: ['1', '2', '3'], record: undefined },
      step,
    )
    const kept = [...world.asides.values()].flat()
    assert.ok(kept.includes('own 4') && kept.includes('own 5'), step)
    assert.ok(again.aside !== undefined, step)
  }
})

test('nothing is put aside where nothing is beyond', async () => {
  const world = new World()
  world.log = ['1', '2', '3']
  world.store = world.log
  assert.deepEqual(await rejoin(world.host(), 'b', signal), { upstream: 'b' })
  assert.equal(world.asides.size, 0)
})

test('where no common transaction is known, all that an old primary keeps is put aside', async () => {
  const world = new World()
  world.theirs = ['x']
  world.store = ['y', 'z']
  const report = await rejoin(world.host(), 'b', signal)
  assert.deepEqual(report.aside?.fromNumber, 1)
  assert.deepEqual([...world.asides.values()], [['y', 'z']])
})

test('a store that somebody writes to stays as it is', async () => {
  const world = new World()
  world.busy = true
  await assert.rejects(rejoin(world.host(), 'b', signal), { code: 'source-busy' })
  assert.equal(world.reign.role, 'primary')
  assert.equal(world.paused, false)
})

test('a server that cannot go over, and cannot write that down either, does again what it did; what it wants stays known', async () => {
  const world = new World()
  world.reign = { role: 'standby', epoch: { number: 2, by: 'b' } }
  const host = world.host()
  let isFull = false
  const full = async () => {
    throw new HotspareError('disk-full', 'no space')
  }
  const failing: RejoinHost = {
    ...host,
    save: record => (isFull ? full() : host.save(record)),
    quiet: async left => {
      isFull = true
      return host.quiet(left)
    },
    turn: full,
  }
  await assert.rejects(rejoin(failing, 'c', signal), { code: 'disk-full', message: 'no space' })
  assert.equal(world.paused, false)
  assert.equal(world.record?.upstream, 'c')
})

test('nobody rejoins an older epoch, and the primary of the newest rejoins nobody', async () => {
  const older = new World()
  older.theirEpoch = { number: 1, by: 'a' }
  await assert.rejects(rejoin(older.host(), 'b', signal), { code: 'epoch-old' })
  const newest = new World()
  newest.reign = { role: 'primary', epoch: { number: 2, by: 'a' } }
  newest.theirEpoch = { number: 2, by: 'a' }
  await assert.rejects(rejoin(newest.host(), 'b', signal), { code: 'server-busy' })
  for (const world of [older, newest]) assert.deepEqual(world.acts, [])
})

test('a standby goes over to another upstream of its epoch', async () => {
  const world = new World()
  world.reign = { role: 'standby', epoch: { number: 2, by: 'b' } }
  const report = await rejoin(world.host(), 'c', signal)
  assert.deepEqual(report.aside?.transactions, 1)
  assert.equal(world.upstream, 'c')
})
