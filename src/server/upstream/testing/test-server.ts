/**
 * Servers without their links: what one does upwards and downwards, on a disk in memory, connected by hand. The stores
 * are scripted (script-driver.ts).
 */
import assert from 'node:assert/strict'
import type { Driver, DriverOptions } from '../../../drivers/driver.ts'
import type { Hello } from '../../../link/session.ts'
import type { Log, LogLimits } from '../../../log/log.ts'
import { openLog } from '../../../log/segment-log.ts'
import type { Clock } from '../../../os/clock.ts'
import type { Storage } from '../../../os/storage.ts'
import { FaultyStorage } from '../../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../../os/testing/memory-disk.ts'
import { VirtualClock } from '../../../os/testing/virtual-clock.ts'
import type { StoreName } from '../../../stream/entry.ts'
import type { Epoch } from '../../../stream/epoch.ts'
import { Control } from '../../control.ts'
import type { Downstream, Taking } from '../../downstream/downstream.ts'
import { openDownstream } from '../../downstream/open-downstream.ts'
import { testRandom } from '../../downstream/testing/test-random.ts'
import type { ServerMachine, ServerMessage, ServerSettings } from '../../server.ts'
import { openServerState, type ServerStateFile } from '../../state.ts'
import {
  readScriptJournal,
  type ScriptDriver,
  ScriptStore,
  scriptContent,
} from '../../testing/script-driver.ts'
import { sessionPair } from '../../testing/session-pair.ts'
import { openUpstream } from '../open-upstream.ts'
import type { Serving, Upstream } from '../upstream.ts'

export interface TestServerOptions {
  readonly name: string
  readonly upstream?: string
  readonly stores: readonly StoreName[]
  readonly clock: Clock
  readonly driver: Driver
  readonly profile?: string
  readonly driverOptions?: DriverOptions
  /** In memory, when absent. */
  readonly storage?: Storage
  /** Where everything of it is; the root of its own disk when absent. */
  readonly root?: string
  /** 64 MiB when absent. */
  readonly logBytesMax?: number
}

interface Connection {
  break(): void
  readonly serving: Serving
  readonly taking: Taking
}

export class TestServer {
  readonly name: string
  storage: Storage
  readonly root: string
  readonly settings: ServerSettings
  readonly messages: Omit<ServerMessage, 'timeMs'>[] = []
  readonly clock: Clock
  readonly driver: Driver
  log!: Log
  state!: ServerStateFile
  upstream!: Upstream
  downstream: Downstream | undefined
  failed: unknown
  path: readonly string[]

  static async open(options: TestServerOptions): Promise<TestServer> {
    const server = new TestServer(options)
    await server.start()
    return server
  }

  private constructor(options: TestServerOptions) {
    this.name = options.name
    this.clock = options.clock
    this.driver = options.driver
    this.storage = options.storage ?? new FaultyStorage(new MemoryDisk())
    this.root = options.root ?? ''
    this.path = options.upstream === undefined ? [options.name] : [options.upstream, options.name]
    const bytesMax = options.logBytesMax ?? 64 * 1024 * 1024
    const limits: LogLimits = { bytesMax, whenFull: 'block', keepMs: 0, keepBytes: 0 }
    this.settings = {
      set: 'set',
      name: options.name,
      stateDirectory: `${this.root}/state`,
      role: options.upstream === undefined ? 'primary' : 'standby',
      ...(options.upstream === undefined ? {} : { upstream: options.upstream }),
      stores: options.stores.map(store => ({
        store,
        path: this.pathOf(store),
        driver: options.driver.name,
        driverOptions: options.driverOptions ?? {},
        ...(options.profile === undefined ? {} : { profile: options.profile }),
      })),
      peers: [],
      limits,
      logStandbyUpdates: true,
      bandwidthBytesPerSecond: 0,
    }
  }

  /** As a process that starts; after a crash with what that left. */
  async start(left?: Storage): Promise<void> {
    this.storage = left ?? this.storage
    this.failed = undefined
    this.downstream = undefined
    const { storage, settings, clock, driver, name } = this
    const machine = { storage, clock, random: testRandom(name.charCodeAt(0)), driverNamed: () => driver }
    await storage.makeDirectory(settings.stateDirectory)
    await storage.makeDirectory(`${this.root}/data`)
    await storage.syncDirectory(this.root || '/')
    const isPrimary = settings.role === 'primary'
    this.state = await openServerState(storage, settings.stateDirectory, {
      set: 'set',
      name,
      stream: isPrimary ? 'stream' : '',
      epoch: { number: 1, by: 'a' },
      role: settings.role,
      ...(settings.upstream === undefined ? {} : { upstream: settings.upstream }),
      enqueuing: true,
      applying: true,
      stores: {},
    })
    this.log = await openLog({
      storage,
      clock,
      random: machine.random,
      directory: `${settings.stateDirectory}/log`,
      limits: settings.limits,
      stream: this.state.value.stream || 'none',
      epoch: { number: 1, by: 'a' },
      refetch: !isPrimary,
      onNotice() {},
    })
    const common = {
      settings,
      machine: machine as unknown as ServerMachine,
      state: this.state,
      log: this.log,
      tell: (level: ServerMessage['level'], code: string, message: string) => {
        this.messages.push({ level, code, message })
      },
      learnt: async (epoch: Epoch) => {
        await this.state.update(value => ({ ...value, epoch }))
      },
      failed: (error: unknown) => {
        this.failed ??= error
      },
    }
    this.upstream = await openUpstream({ ...common, path: () => this.path })
    if (isPrimary) return this.upstream.become({ kind: 'primary' })
    this.downstream = await openDownstream({
      ...common,
      invalidate: stores => this.upstream.invalidate(stores),
      disconnect: reason => this.upstream.disconnect(reason),
    })
    await this.upstream.become({ kind: 'standby', downstream: this.downstream })
  }

  async stop(): Promise<void> {
    await this.upstream.close()
    await this.downstream?.close()
    await this.log.close()
  }

  pathOf(store: StoreName): string {
    return `${this.root}/data/${store}`
  }

  /** Takes its log from the other. */
  connect(upstream: TestServer): Connection {
    const pair = sessionPair(this.hello(), upstream.hello())
    this.path = [...upstream.path, this.name]
    const serving = upstream.upstream.serve(new Control(pair.second))
    const taking = (this.downstream as Downstream).take(new Control(pair.first))
    return { serving, taking, break: () => pair.break() }
  }

  hello(): Hello {
    const { stream, epoch, role, upstream } = this.state.value
    return {
      version: 1,
      set: 'set',
      server: this.name,
      stream: role === 'primary' ? this.log.stream : stream,
      epoch,
      role,
      ...(upstream === undefined ? {} : { upstream }),
      path: this.path,
    }
  }

  async application(store: StoreName): Promise<ScriptStore> {
    const application = new ScriptStore(
      this.driver as ScriptDriver,
      this.storage,
      this.clock,
      this.pathOf(store),
    )
    await application.open()
    return application
  }

  async journal(store: StoreName): Promise<Buffer> {
    return readScriptJournal(this.storage, this.pathOf(store))
  }

  /** The copy is what its journal says, and its journal a prefix of the other's. Gives how much of it. */
  async assertPrefix(store: StoreName, of: TestServer): Promise<number> {
    const journal = await this.journal(store)
    const whole = await of.journal(store)
    assert(whole.subarray(0, journal.length).equals(journal), `${store} at ${this.name} is no prefix`)
    const path = this.pathOf(store)
    const content = scriptContent(journal)
    const names = (await this.storage.stat(path)) === undefined ? [] : await this.storage.list(path)
    assert.deepEqual(names.sort(), journal.length === 0 ? names : [...content.keys()].sort())
    const { findings } = await this.driver.check({ storage: this.storage, path } as never)
    if (journal.length > 0)
      assert.deepEqual(
        findings.filter(({ ok }) => !ok),
        [],
      )
    return journal.length
  }
}

/** Resolves when it holds; rejects when it does not come about. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let turn = 0; turn < 50_000; turn++) {
    if (await condition()) return
    await new Promise(resolve => setImmediate(resolve))
  }
  throw new Error(`it did not happen: ${what}`)
}

export function newClock(): VirtualClock {
  return new VirtualClock()
}
