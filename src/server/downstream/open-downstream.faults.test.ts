import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Fate, FaultyStorage, type Plan } from '../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { Random } from '../../os/testing/random.ts'
import { VirtualClock } from '../../os/testing/virtual-clock.ts'
import { type StoreName, storeName } from '../../stream/entry.ts'
import { Standby, until } from './testing/standby.ts'
import { UpstreamScript } from './testing/upstream-script.ts'

const stores = [storeName('a'), storeName('b')]
const epoch = { number: 1, by: 'a' }
const runsMax = 100

class World {
  readonly clock = new VirtualClock()
  readonly upstream: UpstreamScript
  storage: FaultyStorage
  #isDown = () => this.storage.disk.isDown

  static async make(plan: Plan): Promise<World> {
    const clock = new VirtualClock()
    return new World(
      await UpstreamScript.open(clock, stores, epoch),
      new FaultyStorage(new MemoryDisk(), plan),
    )
  }

  private constructor(upstream: UpstreamScript, storage: FaultyStorage) {
    this.upstream = upstream
    this.storage = storage
  }

  open(): Promise<Standby> {
    return Standby.open({ storage: this.storage, clock: this.clock, stores })
  }

  /** Until the machine is down, or the script is at its end. */
  async run(): Promise<void> {
    const standby = await this.#alive(this.open())
    if (standby === undefined) return
    await this.#follow(standby)
    await this.#alive(standby.close())
  }

  async #follow(standby: Standby): Promise<void> {
    const { upstream } = this
    const [a, b] = stores as [StoreName, StoreName]
    const caughtUp = () => this.#isDown() || standby.downstream.applied === upstream.log.durable
    await upstream.commit(a)
    standby.connect(upstream)
    await until(caughtUp, 'synchronised')
    for (let i = 0; i < 4 && !this.#isDown(); i++) {
      await upstream.commit(i % 2 === 0 ? a : b)
      if (i % 2 === 1) await until(caughtUp, `applied ${i}`)
    }
    await standby.disconnect()
    await upstream.commit(b)
    // one that is brought beside the log a second time
    upstream.toSync.add(a)
    standby.connect(upstream)
    await upstream.commit(a)
    await until(caughtUp, 'synchronised again')
    await upstream.commit(b)
    await until(caughtUp, 'the end')
    await standby.disconnect()
  }

  /** Undefined when the machine went down meanwhile. */
  async #alive<T>(work: Promise<T>): Promise<T | undefined> {
    const settled = { done: false, value: undefined as T | undefined, error: undefined as unknown }
    void work.then(
      value => Object.assign(settled, { done: true, value }),
      error => Object.assign(settled, { done: true, error }),
    )
    await until(() => settled.done || this.#isDown(), 'it ends')
    if (settled.error !== undefined && !this.#isDown()) throw settled.error
    return settled.value
  }

  crash(seed: number): void {
    this.storage = new FaultyStorage(this.storage.disk.crash(new Random(seed)))
  }

  /** What was acknowledged is there, each copy is a state of its store, and it comes to the end. */
  async assertRecovers(): Promise<void> {
    const { received, applied } = { ...this.upstream.acknowledged }
    const standby = await this.open()
    const isKnown = () => standby.downstream.stores().every(({ state }) => state !== 'faulty')
    await until(isKnown, 'known')
    for (let turn = 0; turn < 200; turn++) await new Promise(resolve => setImmediate(resolve))
    if (this.upstream.acknowledged.received > 0) {
      assert.ok(
        standby.log.durable >= received,
        `the log ends at ${standby.log.durable}, ${received} was acknowledged`,
      )
    }
    for (const store of stores) {
      const count = (await standby.contentOf(store)) ?? 0
      const least = this.upstream.countUpTo(store, applied)
      assert.ok(count >= least, `${store} has ${count}, ${least} were acknowledged`)
    }
    standby.connect(this.upstream)
    for (const store of stores) await this.upstream.commit(store)
    await until(() => standby.downstream.applied === this.upstream.log.durable, 'all of it')
    for (const store of stores) {
      assert.equal(await standby.contentOf(store), this.upstream.countOf(store))
      assert.equal(standby.state.value.stores[store]?.quarantine, undefined)
    }
    await standby.close()
  }
}

async function stepsOfAll(): Promise<number> {
  const world = await World.make(() => ({ kind: 'go' }))
  await world.run()
  return world.storage.steps.length
}

test('a crash at any step loses nothing that was acknowledged, and leaves no gap and nothing applied twice', async () => {
  const steps = await stepsOfAll()
  const stride = Math.max(1, Math.floor(steps / runsMax))
  for (let at = 0; at < steps; at += stride) {
    const done = (['nothing', 'part', 'all'] as const)[at % 3] as 'nothing' | 'part' | 'all'
    const fate: Fate = { kind: 'crash', done }
    const world = await World.make(step => (step.number === at && !step.reads ? fate : { kind: 'go' }))
    try {
      await world.run()
      world.crash(at)
      await world.assertRecovers()
    } catch (error) {
      throw new Error(`crash at step ${at} of ${steps} (${done})`, { cause: error })
    }
  }
})
