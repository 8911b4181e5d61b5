/** A standby's downstream side on a disk that may fail, beside an upstream that a test writes. */
import assert from 'node:assert/strict'
import type { Hello } from '../../../link/session.ts'
import type { Log, LogLimits } from '../../../log/log.ts'
import { openLog } from '../../../log/segment-log.ts'
import type { Clock } from '../../../os/clock.ts'
import { readSmallFile, type Storage } from '../../../os/storage.ts'
import type { StoreName } from '../../../stream/entry.ts'
import { Control } from '../../control.ts'
import type { ServerMachine, ServerMessage, ServerSettings } from '../../server.ts'
import { openServerState, type ServerStateFile } from '../../state.ts'
import { ScriptDriver } from '../../testing/script-driver.ts'
import { type SessionPair, sessionPair } from '../../testing/session-pair.ts'
import type { Downstream, Taking, TakingEnd } from '../downstream.ts'
import { openDownstream } from '../open-downstream.ts'
import { testRandom } from './test-random.ts'
import { lines, type UpstreamScript } from './upstream-script.ts'

export interface StandbyOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly stores: readonly StoreName[]
  readonly limits?: LogLimits
  /** In place of the scripted one. */
  readonly driver?: ScriptDriver
}

export class Standby {
  readonly log: Log
  readonly state: ServerStateFile
  readonly downstream: Downstream
  readonly settings: ServerSettings
  readonly storage: Storage
  readonly messages: Omit<ServerMessage, 'timeMs'>[]
  readonly invalidated: StoreName[]
  onMessage: (message: Omit<ServerMessage, 'timeMs'>) => void = () => {}
  /** Resolves with what it cannot go on after. */
  readonly failed: Promise<unknown>
  #pair: SessionPair | undefined
  #serving: Promise<void> | undefined
  #over: Promise<TakingEnd> | undefined

  static async open(options: StandbyOptions): Promise<Standby> {
    const { storage, clock, stores } = options
    const driver = options.driver ?? new ScriptDriver()
    const messages: Omit<ServerMessage, 'timeMs'>[] = []
    const invalidated: StoreName[] = []
    const limits = options.limits ?? {
      bytesMax: 64 * 1024 * 1024,
      whenFull: 'block',
      keepMs: 0,
      keepBytes: 0,
    }
    const settings: ServerSettings = {
      set: 'set',
      name: 'b',
      stateDirectory: '/state',
      role: 'standby',
      upstream: 'a',
      stores: stores.map(store => ({ store, path: pathOf(store), driver: 'script', driverOptions: {} })),
      peers: [],
      limits,
      logStandbyUpdates: true,
      bandwidthBytesPerSecond: 0,
    }
    const machine = {
      storage,
      clock,
      random: testRandom(3),
      driverNamed: () => driver,
    } as unknown as ServerMachine
    await storage.makeDirectory('/state')
    await storage.makeDirectory('/data')
    await storage.syncDirectory('/')
    const state = await openServerState(storage, '/state', {
      set: 'set',
      name: 'b',
      stream: '',
      epoch: { number: 1, by: 'a' },
      role: 'standby',
      upstream: 'a',
      enqueuing: true,
      applying: true,
      stores: {},
    })
    const log = await openLog({
      storage,
      clock,
      random: machine.random,
      directory: '/state/log',
      limits,
      refetch: true,
      segmentBytes: 64 * 1024,
      onNotice() {},
    })
    const { promise: failed, resolve } = Promise.withResolvers<unknown>()
    let opened: Standby | undefined
    const downstream = await openDownstream({
      settings,
      machine,
      state,
      log,
      tell: (level, code, message) => {
        messages.push({ level, code, message })
        opened?.onMessage({ level, code, message })
      },
      learnt: async epoch => {
        await state.update(value => ({ ...value, epoch }))
      },
      invalidate: async names => {
        invalidated.push(...names)
      },
      disconnect: async () => {},
      failed: resolve,
    })
    opened = new Standby(settings, storage, log, state, downstream, messages, invalidated, failed)
    return opened
  }

  private constructor(
    settings: ServerSettings,
    storage: Storage,
    log: Log,
    state: ServerStateFile,
    downstream: Downstream,
    messages: Omit<ServerMessage, 'timeMs'>[],
    invalidated: StoreName[],
    failed: Promise<unknown>,
  ) {
    this.settings = settings
    this.storage = storage
    this.log = log
    this.state = state
    this.downstream = downstream
    this.messages = messages
    this.invalidated = invalidated
    this.failed = failed
  }

  connect(upstream: UpstreamScript): Taking {
    const pair = sessionPair(this.#hello(), {
      ...this.#hello(),
      server: 'a',
      role: 'primary',
      epoch: upstream.log.epoch,
    })
    this.#pair = pair
    this.#serving = upstream.serve(pair.second).catch(() => undefined)
    const taking = this.downstream.take(new Control(pair.first))
    this.#over = taking.over
    return taking
  }

  /** Of the last session. */
  get over(): Promise<TakingEnd> {
    assert(this.#over !== undefined)
    return this.#over
  }

  async disconnect(): Promise<void> {
    this.#pair?.break()
    await this.#serving
    await this.#over
  }

  #hello(): Hello {
    const { stream, epoch } = this.state.value
    return { version: 1, set: 'set', server: 'b', stream, epoch, role: 'standby', upstream: 'a', path: ['b'] }
  }

  numberOf(store: StoreName): number | undefined {
    return this.downstream.stores().find(each => each.store === store)?.number
  }

  async close(): Promise<void> {
    await this.disconnect()
    await this.downstream.close()
    await this.log.close()
  }

  /** The copy is one of the upstream's states; gives of how many transactions. */
  contentOf(store: StoreName): Promise<number | undefined> {
    return contentOf(this.storage, store)
  }
}

export function pathOf(store: StoreName): string {
  return `/data/${store}`
}

/** Undefined: there is no copy yet. */
export async function contentOf(storage: Storage, store: StoreName): Promise<number | undefined> {
  const journal = await readSmallFile(storage, `${pathOf(store)}/journal`, 1 << 20)
  if (journal === undefined) return undefined
  const count = journal.toString().split('\n').length - 1
  assert.equal(journal.toString(), lines(count), `the journal of ${store}`)
  const value = await readSmallFile(storage, `${pathOf(store)}/value`, 1 << 20)
  assert.equal(Number(value?.toString()), count, `the value of ${store}`)
  return count
}

/** Resolves when it holds; rejects when nothing moves any more and it does not. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let turn = 0; turn < 20_000; turn++) {
    if (condition()) return
    await new Promise(resolve => setImmediate(resolve))
  }
  throw new Error(`it did not happen: ${what}`)
}
