import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch } from '../stream/epoch.ts'
import type { Reign } from './fencing.ts'
import { type PromoteOptions, Promotion, type PromotionHost, type PromotionRecord } from './promotion.ts'

class Crash extends Error {}

/** The hosts of a pair, as far as a promotion knows them: what is durable outlives a crash. */
class World {
  // durable at the standby
  reign: Reign = { role: 'standby', epoch: { number: 1, by: 'a' } }
  record: PromotionRecord | undefined
  logEnd = 10
  released = 0
  // durable at the old primary
  primaryFencedBy: Epoch | undefined
  readonly primaryEnd: number = 12
  hooks: string[] = []
  // not durable
  taking = true
  serving = false
  valid = true
  hookFails = false
  lacks: { fromNumber: number; sinceMs: number } | undefined
  refuses = false
  nowMs = 0
  /** The act at which the standby's process dies: before or after its effect. */
  crashAt = Number.POSITIVE_INFINITY
  acts: string[] = []

  restart(): void {
    this.taking = this.reign.role === 'standby'
    this.serving = false
    this.crashAt = Number.POSITIVE_INFINITY
    if (this.reign.role === 'primary' && this.record?.reached === 'announced') this.serving = true
  }

  async #act(name: string, effect: () => void): Promise<void> {
    this.nowMs += 5
    const index = this.acts.length
    this.acts.push(name)
    if (this.crashAt === index) throw new Crash()
    effect()
    if (this.crashAt === index + 0.5) throw new Crash()
  }

  host(): PromotionHost {
    const world = this
    const store = 's' as StoreName
    return {
      name: 'b',
      clock: { nowMs: () => world.nowMs, sleep: async () => {}, turn: async () => {} },
      reign: () => world.reign,
      record: () => world.record,
      save: record =>
        world.#act(`save ${record.reached}`, () => {
          world.record = record
        }),
      assertPossible() {},
      last: () => ({ number: world.logEnd, timeMs: world.logEnd }),
      upstreamStood: () => ({ number: world.primaryEnd, heardMs: 3 }),
      async askToHandOver(epoch) {
        await world.#act('ask', () => {
          if (world.refuses) throw new HotspareError('not-handed-over', 'no')
          world.primaryFencedBy = epoch
          world.logEnd = world.primaryEnd
        })
        return { number: world.primaryEnd, withoutWriterMs: 7 }
      },
      async runDry() {
        await world.#act('run dry', () => {
          world.taking = false
        })
        return { number: world.logEnd, timeMs: world.logEnd }
      },
      async recover() {
        await world.#act('recover', () => {})
        const lacks = world.lacks === undefined ? {} : { lacks: world.lacks }
        const looked = { store, path: '/s', position: undefined, valid: world.valid, findings: ['looked at'] }
        return [{ ...looked, ...lacks }]
      },
      resume: () =>
        world.#act('resume', () => {
          world.taking = true
        }),
      raise: record =>
        world.#act('raise', () => {
          world.reign = { role: 'primary', epoch: record.epoch }
          world.record = record
        }),
      release: () =>
        world.#act('release', () => {
          world.released = world.logEnd
        }),
      announce: () =>
        world.#act('announce', () => {
          if (world.hookFails) throw new HotspareError('hook-failed', 'no')
          world.hooks.push('on-promote')
        }),
      serve: () =>
        world.#act('serve', () => {
          world.serving = true
        }),
    }
  }
}

const asked = (options: Partial<PromoteOptions> = {}): PromoteOptions => ({
  planned: false,
  dryRun: false,
  signal: new AbortController().signal,
  ...options,
})

for (const planned of [false, true]) {
  const kind = planned ? 'planned' : 'unplanned'

  test(`a ${kind} promotion that dies at any step is finished by going on or by a second call`, async () => {
    const whole = new World()
    const report = await new Promotion(whole.host()).run(asked({ planned }))
    assert.equal(report.already, false)
    const acts = whole.acts.length
    assert.ok(acts >= 7)
    for (let crashAt = 0; crashAt < acts; crashAt += 0.5) {
      const world = new World()
      world.crashAt = crashAt
      const step = `${whole.acts[Math.floor(crashAt)]}, ${Number.isInteger(crashAt) ? 'before' : 'after'}`
      await assert.rejects(new Promotion(world.host()).run(asked({ planned })), step)
      world.restart()
      // as a server does when it starts
      const gone = await new Promotion(world.host()).goOn()
      const isPrimary = world.reign.role === 'primary'
      if (isPrimary)
        assert.ok(world.serving, `${step}: what is past the point of no return goes on by itself`)
      else assert.equal(gone, undefined, step)
      const second = await new Promotion(world.host()).run(asked({ planned }))
      assert.equal(second.already, isPrimary, step)
      assert.deepEqual(second.epoch, { number: 2, by: 'b' }, step)
      assert.equal(world.reign.role, 'primary', step)
      assert.equal(world.released, world.logEnd, step)
      assert.ok(world.serving, step)
      assert.ok(world.hooks.length >= 1 && world.hooks.length <= 2, step)
      assert.deepEqual(second.lost.kind, planned ? 'nothing' : 'known', step)
      if (planned) assert.deepEqual(world.primaryFencedBy, second.epoch, step)
    }
  })

  test(`a ${kind} promotion that was made is reported again, and nothing is done again`, async () => {
    const world = new World()
    const first = await new Promotion(world.host()).run(asked({ planned }))
    const acts = world.acts.length
    const second = await new Promotion(world.host()).run(asked({ planned }))
    assert.equal(world.acts.length, acts)
    assert.deepEqual({ ...second, already: false, steps: [] }, { ...first, steps: [] })
    assert.equal(second.already, true)
  })

  test(`a dry run of a ${kind} promotion does nothing`, async () => {
    const world = new World()
    const report = await new Promotion(world.host()).run(asked({ planned, dryRun: true }))
    assert.deepEqual(world.acts, [])
    assert.equal(world.reign.role, 'standby')
    assert.ok(report.steps.length > 5)
    assert.deepEqual(report.epoch, { number: 2, by: 'b' })
  })
}

test('an unplanned promotion says from which transaction on the old primary had more', async () => {
  const report = await new Promotion(new World().host()).run(asked())
  assert.deepEqual(report.lost, { kind: 'known', fromNumber: 11, sinceMs: 10 })
})

for (const planned of [false, true]) {
  test(`what a copy lacks of the log is said to be lost (${planned ? 'planned' : 'unplanned'})`, async () => {
    const world = new World()
    world.lacks = { fromNumber: 4, sinceMs: 77 }
    const report = await new Promotion(world.host()).run(asked({ planned }))
    assert.deepEqual(report.lost, { kind: 'known', fromNumber: 4, sinceMs: 77 })
  })
}

test('a primary that does not give way leaves a standby that goes on as before', async () => {
  const world = new World()
  world.refuses = true
  await assert.rejects(new Promotion(world.host()).run(asked({ planned: true })), { code: 'not-handed-over' })
  assert.equal(world.reign.role, 'standby')
  assert.ok(world.taking)
  assert.deepEqual(world.hooks, [])
})

test('a replica that is not valid is promoted only by force', async () => {
  const world = new World()
  world.valid = false
  await assert.rejects(new Promotion(world.host()).run(asked()), { code: 'target-invalid' })
  assert.equal(world.reign.role, 'standby')
  assert.ok(world.taking)
  const report = await new Promotion(world.host()).run(asked({ force: true }))
  assert.equal(report.stores[0]?.valid, false)
})

test('a hook that fails leaves a primary that serves, and is run again by a second call', async () => {
  const world = new World()
  world.hookFails = true
  await assert.rejects(new Promotion(world.host()).run(asked()), { code: 'hook-failed' })
  assert.equal(world.reign.role, 'primary')
  assert.ok(world.serving)
  world.hookFails = false
  const report = await new Promotion(world.host()).run(asked())
  assert.equal(report.already, true)
  assert.deepEqual(world.hooks, ['on-promote'])
})

test('an epoch that was asked for is used again only while no newer one is known', async () => {
  const world = new World()
  world.refuses = true
  await assert.rejects(new Promotion(world.host()).run(asked({ planned: true })))
  world.reign = { role: 'standby', epoch: { number: 4, by: 'c' } }
  const report = await new Promotion(world.host()).run(asked())
  assert.ok(compareEpochs(report.epoch, { number: 4, by: 'c' }) > 0)
})
