/** Whole servers beside each other on a virtual clock, disks and network, with stores whose copies prove themselves. */
import assert from 'node:assert/strict'
import type { PeerTrust } from '../../src/link/trust.ts'
import { secretBytes } from '../../src/link/trust.ts'
import type { Random } from '../../src/os/random.ts'
import { FaultyStorage, type Plan } from '../../src/os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../src/os/testing/memory-disk.ts'
import { Random as SeededRandom } from '../../src/os/testing/random.ts'
import { openServer } from '../../src/server/open-server.ts'
import type {
  PeerSettings,
  Server,
  ServerActs,
  ServerMachine,
  ServerMessage,
  ServerSettings,
} from '../../src/server/server.ts'
import {
  readScriptJournal,
  ScriptDriver,
  ScriptStore,
  scriptContent,
  scriptTransactions,
} from '../../src/server/testing/script-driver.ts'
import { storeName } from '../../src/stream/entry.ts'
import { VirtualNetwork } from '../sim/virtual-network.ts'
import { MachineClock, VirtualTime } from '../sim/virtual-time.ts'

export const storeNames = ['one', 'two'] as const

export class World {
  readonly time = new VirtualTime()
  readonly random: SeededRandom
  readonly network: VirtualNetwork
  readonly hosts = new Map<string, Host>()

  constructor(seed = 1) {
    this.random = new SeededRandom(seed)
    this.network = new VirtualNetwork(this.time, this.random)
  }

  host(name: string, settings: Partial<ServerSettings> & Pick<ServerSettings, 'role'>): Host {
    const host = new Host(this, name, settings)
    this.hosts.set(name, host)
    return host
  }

  /** Lets time go on until the work is done. */
  async of<T>(work: Promise<T>, limitMs = 600_000): Promise<T> {
    let settled = false
    const done = () => {
      settled = true
    }
    work.then(done, done)
    assert.ok(await this.time.run(() => settled, limitMs), `not done after ${limitMs} ms of virtual time`)
    return work
  }

  async until(condition: () => boolean, what: string, limitMs = 600_000): Promise<void> {
    const all = () =>
      [...this.hosts.values()]
        .map(host => `${host.name}: ${JSON.stringify(host.server?.status(), undefined, 1)}\n${host.said()}`)
        .join('\n')
    if (await this.time.run(condition, limitMs)) return
    assert.fail(`not ${what} after ${limitMs} ms of virtual time\n${all()}`)
  }

  /** All copies of these standbys are what the primary's stores are. */
  async equal(primary: Host, ...standbys: Host[]): Promise<void> {
    for (const standby of standbys) {
      const number = () => primary.running.status().log.next - 1
      await this.of(primary.running.waitFor(standby.name, AbortSignal.timeout(60_000))).catch(() => undefined)
      await this.until(
        () =>
          standby.running.status().stores.every(store => store.consistent !== undefined) &&
          standby.running.status().log.next - 1 >= number(),
        `${standby.name} in step with ${primary.name}`,
      )
      for (const store of storeNames) {
        const wanted = await readScriptJournal(primary.storage, primary.path(store))
        await this.untilAsync(
          async () => (await readScriptJournal(standby.storage, standby.path(store))).equals(wanted),
          `${store} of ${standby.name} equal to that of ${primary.name}`,
        )
        await standby.assertWhole(store)
      }
    }
  }

  async untilAsync(condition: () => Promise<boolean>, what: string, limitMs = 120_000): Promise<void> {
    const endMs = this.time.nowMs + limitMs
    for (;;) {
      if (await this.of(condition())) return
      const said = [...this.hosts.values()].map(host => `${host.name}:\n${host.said()}`).join('\n')
      assert.ok(this.time.nowMs < endMs, `not ${what} after ${limitMs} ms of virtual time\n${said}`)
      await this.time.run(() => false, 50)
    }
  }

  async close(): Promise<void> {
    for (const host of this.hosts.values()) await host.stop()
  }
}

export class Host {
  readonly world: World
  readonly name: string
  readonly settings: ServerSettings
  readonly driver = new ScriptDriver()
  storage: FaultyStorage = new FaultyStorage(new MemoryDisk())
  clock: MachineClock
  server: Server | undefined
  messages: ServerMessage[] = []
  readonly hooks: string[] = []
  hookFails: string | undefined
  writers: string[] = []

  constructor(world: World, name: string, settings: Partial<ServerSettings> & Pick<ServerSettings, 'role'>) {
    this.world = world
    this.name = name
    this.clock = new MachineClock(world.time, 0)
    this.settings = {
      set: 'set',
      name,
      stateDirectory: '/state',
      stores: storeNames.map(store => ({
        store: storeName(store),
        path: this.path(store),
        driver: 'script',
        driverOptions: {},
      })),
      peers: [],
      listen: `${name}:2000`,
      limits: { bytesMax: 64 * 1024 * 1024, whenFull: 'block', keepMs: 0, keepBytes: 0 },
      logStandbyUpdates: true,
      bandwidthBytesPerSecond: 0,
      ...settings,
    }
  }

  get running(): Server {
    assert.ok(this.server !== undefined, `${this.name} does not run`)
    return this.server
  }

  path(store: string): string {
    return `/stores/${store}`
  }

  said(): string {
    return this.messages.map(({ level, code, message }) => `  ${level} ${code}: ${message}`).join('\n')
  }

  async start(): Promise<void> {
    await this.world.of(this.storage.makeDirectory('/stores'))
    const acts: ServerActs = {
      onMessage: message => this.messages.push(message),
      hook: async name => {
        this.hooks.push(name)
        if (this.hookFails === name) throw new Error(`${name} failed`)
      },
    }
    this.server = await this.world.of(openServer(this.settings, this.#machine(), acts))
  }

  async stop(): Promise<void> {
    if (this.server === undefined) return
    await this.world.of(this.server.stop())
    this.server = undefined
  }

  /** The machine dies: what was not synced is lost, or not. */
  crash(): void {
    this.server = undefined
    this.clock.stop()
    this.storage.disk.isDown = true
    this.world.network.down(this.name)
    this.storage = new FaultyStorage(this.storage.disk.crash(this.world.random))
    this.clock = new MachineClock(this.world.time, 0)
  }

  plan(plan: Plan): void {
    this.storage.replan(plan)
  }

  store(name: string): ScriptStore {
    return new ScriptStore(this.driver, this.storage, this.clock, this.path(name))
  }

  /** Starts the application. */
  async openStores(): Promise<void> {
    await this.world.of(this.storage.makeDirectory('/stores'))
    for (const name of storeNames) await this.world.of(this.store(name).open())
  }

  async write(text: string, store: string = storeNames[0]): Promise<void> {
    const path = `file-${text.slice(-1)}`
    await this.world.of(this.store(store).commit([{ type: 'write', path, offset: 0, data: text }]))
  }

  /** What was written by the application, in order, as the store here has it. */
  texts(store: string = storeNames[0]): Promise<string[]> {
    return this.textsAt(this.path(store))
  }

  async textsAt(path: string): Promise<string[]> {
    const journal = await this.world.of(readScriptJournal(this.storage, path))
    return scriptTransactions(journal).flatMap(({ changes }) =>
      changes.map(change => (change.type === 'write' ? change.data : change.type)),
    )
  }

  /** The files are what the journal says. */
  async assertWhole(store: string): Promise<void> {
    const content = scriptContent(await readScriptJournal(this.storage, this.path(store)))
    const names = await this.storage.list(this.path(store))
    assert.deepEqual(names.sort(), [...content.keys()].sort(), `${this.name} ${store}`)
  }

  #machine(): ServerMachine {
    const { world } = this
    const random: Random = {
      fraction: () => world.random.below(1_000_000) / 1_000_000,
      bytes: count => Buffer.from(Array.from({ length: count }, () => world.random.below(256))),
    }
    const trust: PeerTrust = {
      peer: async () => ({ secret: Buffer.alloc(secretBytes, 7) }),
      pin: async () => {},
    }
    return {
      storage: this.storage,
      clock: this.clock,
      random,
      transport: world.network.transport(this.name),
      driverNamed: () => this.driver,
      trust,
      writersOf: async () => this.writers,
    }
  }
}

export function peer(name: string, calls = false): PeerSettings {
  return { name, subscriber: true, ...(calls ? { address: `${name}:2000` } : {}) }
}

/** A primary and a standby that both call. */
export async function pair(seed = 1): Promise<{ world: World; a: Host; b: Host }> {
  const world = new World(seed)
  const a = world.host('a', { role: 'primary', peers: [peer('b', true)] })
  const b = world.host('b', { role: 'standby', upstream: 'a', peers: [peer('a', true)] })
  await a.openStores()
  await a.write('1')
  await a.write('2', 'two')
  await a.start()
  await b.start()
  return { world, a, b }
}
