/** A primary, two standbys below it and one below those, to which everything happens that can happen to them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultyStorage } from '../../os/testing/faulty-storage.ts'
import { Random } from '../../os/testing/random.ts'
import { type StoreName, storeName } from '../../stream/entry.ts'
import { ScriptDriver, type ScriptStore } from '../testing/script-driver.ts'
import { newClock, TestServer, until } from './testing/test-server.ts'

const stores = [storeName('one'), storeName('two')]
const upstreams: Readonly<Record<string, string>> = { b: 'a', c: 'a', d: 'b' }

class World {
  readonly random: Random
  readonly clock = newClock()
  readonly servers = new Map<string, TestServer>()
  readonly applications = new Map<StoreName, ScriptStore>()
  readonly connections = new Map<string, ReturnType<TestServer['connect']> & { over: boolean }>()
  /** Standbys that have begun. */
  readonly names = new Set<string>()
  readonly done: string[] = []
  #written = 0

  constructor(seed: number) {
    this.random = new Random(seed)
  }

  async begin(): Promise<void> {
    const a = await TestServer.open({ name: 'a', stores, clock: this.clock, driver: new ScriptDriver() })
    this.servers.set('a', a)
    for (const store of stores) this.applications.set(store, await a.application(store))
    for (const store of stores) await this.commit(store)
  }

  server(name: string): TestServer {
    return this.servers.get(name) as TestServer
  }

  async commit(store: StoreName): Promise<void> {
    const path = `f${this.random.below(4)}`
    const kind = this.random.below(8)
    const data = `${this.#written++} `.repeat(1 + this.random.below(2000))
    const offset = this.random.below(3) * 1000
    const change =
      kind === 0
        ? ({ type: 'remove', path } as const)
        : kind === 1
          ? ({ type: 'truncate', path, size: offset } as const)
          : ({ type: 'write', path, offset, data } as const)
    await this.applications.get(store)?.commit([change])
  }

  async step(): Promise<void> {
    const { random } = this
    const name = random.pick(['b', 'c', 'd'])
    const act = random.below(20)
    if (act < 8) return this.commit(random.pick(stores))
    if (act < 12) return this.turns(random.below(300))
    if (act < 14) return this.connect(name)
    this.done.push(`${act} ${name}`)
    if (act === 14) this.connections.get(name)?.break()
    else if (act === 15) await this.restart(name)
    else if (act === 16) await this.crash(name)
    else if (act === 17) await this.restart('a')
    else if (act === 18) await this.crash('a')
    else await this.enqueuing()
  }

  async turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve))
  }

  async enqueuing(): Promise<void> {
    const { upstream, state } = this.server('a')
    const on = !state.value.enqueuing
    await state.update(value => ({ ...value, enqueuing: on }))
    await upstream.setEnqueuing(on)
  }

  async connect(name: string): Promise<void> {
    if (!this.servers.has(name)) {
      const upstream = upstreams[name] as string
      const server = await TestServer.open({
        name,
        upstream,
        stores,
        clock: this.clock,
        driver: new ScriptDriver(),
      })
      this.servers.set(name, server)
    }
    const upstream = this.servers.get(upstreams[name] as string)
    if (this.connections.get(name)?.over === false || upstream === undefined) return
    const connection = { ...this.server(name).connect(upstream), over: false }
    void Promise.all([connection.serving.over, connection.taking.over]).then(() => {
      connection.over = true
    })
    this.connections.set(name, connection)
  }

  async parted(name: string): Promise<void> {
    for (const [downstream, connection] of this.connections) {
      if (downstream !== name && upstreams[downstream] !== name) continue
      connection.break()
      await Promise.all([connection.serving.over, connection.taking.over])
    }
  }

  async restart(name: string): Promise<void> {
    const server = this.servers.get(name)
    if (server === undefined) return
    await this.parted(name)
    await server.stop()
    await server.start()
  }

  /** The machine stops, and what was not synced may be lost. */
  async crash(name: string): Promise<void> {
    const server = this.servers.get(name)
    if (server === undefined) return
    const { disk } = server.storage as FaultyStorage
    const after = disk.crash(this.random)
    for (const connection of this.connections.values()) connection.break()
    await this.parted(name)
    await Promise.allSettled([server.upstream.close(), server.downstream?.close(), server.log.close()])
    await server.start(new FaultyStorage(after))
    if (name !== 'a') return
    for (const store of stores) this.applications.set(store, await server.application(store))
  }

  /** All is well for long enough: every copy is what its primary has. */
  async settle(): Promise<void> {
    const a = this.server('a')
    if (!a.state.value.enqueuing) await this.enqueuing()
    const isEqual = async (name: string, store: StoreName) =>
      (await this.server(name).journal(store)).equals(await a.journal(store))
    for (const store of stores) await this.commit(store)
    let turn = 0
    await until(async () => {
      if (turn++ % 100 === 0) for (const name of ['b', 'c', 'd']) await this.connect(name)
      for (const name of ['b', 'c', 'd'])
        for (const store of stores) if (!(await isEqual(name, store))) return false
      return true
    }, `all equal`)
    await Promise.all(['b', 'c'].map(name => a.upstream.waitFor(name, AbortSignal.timeout(10_000))))
    for (const name of ['b', 'c', 'd'])
      for (const store of stores) await this.server(name).assertPrefix(store, a)
    for (const server of this.servers.values()) assert.equal(server.failed, undefined, server.name)
  }

  async end(): Promise<void> {
    for (const name of ['d', 'c', 'b', 'a']) {
      await this.parted(name)
      await this.servers.get(name)?.stop()
    }
  }
}

/** `SEEDS=200` takes more of them, `SEED=7` one. */
const seeds =
  process.env.SEED === undefined
    ? Array.from({ length: Number(process.env.SEEDS ?? 12) }, (_, i) => i + 1)
    : [Number(process.env.SEED)]

for (const seed of seeds) {
  test(`whatever breaks, stops and comes back, every copy ends equal to its primary (seed ${seed})`, async () => {
    const world = new World(seed)
    await world.begin()
    try {
      for (let step = 0; step < 120; step++) await world.step()
      await world.settle()
    } catch (error) {
      console.log(world.done.join(', '))
      for (const server of world.servers.values())
        console.log(
          server.name,
          server.messages.slice(-12),
          server.failed,
          server.upstream.stores(),
          server.downstream?.stores(),
        )
      throw error
    }
    await world.end()
  })
}
