/**
 * A primary, a standby, one in cascade below it and one beside it, with an application that writes, and everything that
 * goes wrong: crashes that lose what was not synced, cut and damaged links, full and slow disks, promotions and
 * rejoinings at any moment. What may never happen is looked for all along and at the end:
 *
 *     prefix            a copy is what its own journal says, and that is a prefix of what some primary committed
 *     no loss           what was said to be durable at a standby is there when that one is promoted
 *     one primary       of an epoch there is one server that acts as its primary
 *     equal at the end  when all is well again, all have what the newest primary has
 */
import assert from 'node:assert/strict'
import { HotspareError } from '../../src/os/errors.ts'
import { MachineDown } from '../../src/os/testing/faulty-storage.ts'
import { Random } from '../../src/os/testing/random.ts'
import type { PromotionReport, ServerSettings } from '../../src/server/server.ts'
import {
  type ScriptChange,
  type ScriptStore,
  scriptJournalEnd,
} from '../../src/server/testing/script-driver.ts'
import { storeName } from '../../src/stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../../src/stream/epoch.ts'
import { Machine } from './machine.ts'
import { VirtualNetwork } from './virtual-network.ts'
import { VirtualTime } from './virtual-time.ts'

const nothing = Buffer.alloc(0)
const storeNames = ['one', 'two'].map(storeName)
const names = ['alpha', 'beta', 'gamma', 'delta'] as const
type Name = (typeof names)[number]
const upstreams: Readonly<Partial<Record<Name, Name>>> = { beta: 'alpha', gamma: 'beta', delta: 'alpha' }

export interface SimulationReport {
  readonly seed: number
  readonly steps: number
  readonly commits: number
  readonly crashes: number
  readonly promotions: number
  readonly epochs: number
  readonly virtualMs: number
}

/** Throws an AssertionError that names seed and step when a law is broken. */
export async function simulate(
  seed: number,
  steps: number,
  trace: (text: string) => void = () => {},
): Promise<SimulationReport> {
  const world = new World(seed, trace)
  const faults: unknown[] = []
  const onRejection = (error: unknown) => {
    if (!isOfTheDead(error)) faults.push(error)
  }
  process.on('unhandledRejection', onRejection)
  try {
    await world.begin()
    for (let step = 1; step <= steps; step++) {
      await world.step(step)
      if (faults.length > 0) throw faults[0]
    }
    await world.converge()
    return world.report(steps)
  } catch (error) {
    const cause = error instanceof Error ? error : new Error(String(error))
    throw new Error(`seed ${seed}, step ${world.at}: ${cause.message}\n${world.describe()}`, { cause })
  } finally {
    process.off('unhandledRejection', onRejection)
    world.end()
  }
}

/** What ran on a machine that has crashed may say anything. */
function isOfTheDead(error: unknown): boolean {
  return error instanceof MachineDown || (error instanceof Error && isOfTheDead(error.cause ?? undefined))
}

/** What a standby was said to have, under which reign. */
interface Assurance {
  readonly peer: string
  readonly epoch: Epoch
  readonly journals: ReadonlyMap<string, Buffer>
}

class World {
  readonly #seed: number
  readonly #random: Random
  readonly #time = new VirtualTime()
  readonly #network: VirtualNetwork
  readonly #machines = new Map<string, Machine>()
  readonly #trace: (text: string) => void
  /** Where the application runs. */
  #applicationAt: string | undefined = 'alpha'
  /** Where it is in the middle of a transaction: there it goes on with that one when it was moved meanwhile. */
  #writingAt: string | undefined
  #stores = new Map<string, ScriptStore>()
  #writing: Promise<void> = Promise.resolve()
  #promises: Assurance[] = []
  /** Every journal that a primary ever had, by its longest form: copies are prefixes of one of them. */
  readonly #histories = new Map<string, Buffer[]>()
  readonly #counts = { commits: 0, crashes: 0, promotions: 0 }
  readonly #epochs = new Map<string, string>()
  /** Journals that were looked at, and are well: by machine and store. */
  readonly #looked = new Map<string, Buffer>()
  at = 0

  constructor(seed: number, trace: (text: string) => void) {
    this.#seed = seed
    this.#trace = trace
    this.#random = new Random(seed)
    this.#network = new VirtualNetwork(this.#time, this.#random)
    for (const name of names) {
      this.#machines.set(
        name,
        new Machine(this.#settings(name), this.#time, this.#network, this.#random, {
          onMessage: ({ level, code, message }) => this.#say(`${name} ${level} ${code}: ${message}`),
          hook: async hook => this.#hook(name, hook),
        }),
      )
    }
    for (const store of storeNames) this.#histories.set(store, [])
  }

  #settings(name: Name): ServerSettings {
    const upstream = upstreams[name]
    return {
      set: 'sim',
      name,
      stateDirectory: '/state',
      role: upstream === undefined ? 'primary' : 'standby',
      ...(upstream === undefined ? {} : { upstream }),
      stores: storeNames.map(store => ({
        store,
        path: `/srv/${store}`,
        driver: 'script',
        driverOptions: {},
      })),
      peers: names
        .filter(peer => peer !== name)
        .map(peer => ({ name: peer, address: `tcp://${peer}:2000`, subscriber: true })),
      listen: `${name}:2000`,
      limits: {
        bytesMax: this.#random.pick([64 * 1024, 16 * 1024 * 1024]),
        whenFull: this.#random.pick(['block', 'drop']),
        keepMs: 0,
        keepBytes: 0,
      },
      logStandbyUpdates: true,
      bandwidthBytesPerSecond: 0,
      rejoin: 'manual',
    }
  }

  async begin(): Promise<void> {
    for (const machine of this.#machines.values()) {
      await machine.storage.makeDirectory('/srv')
      await machine.storage.syncDirectory('/')
    }
    const alpha = this.#machine('alpha')
    alpha.start()
    await this.#startApplication('alpha')
    for (const name of names) this.#machine(name).start()
    await this.#time.run(() => false, 1_000)
  }

  async step(step: number): Promise<void> {
    this.at = step
    const act = this.#random.below(40)
    if (act < 20) await this.#write(1 + this.#random.below(4))
    else if (act < 23) this.#crash(this.#random.pick(names))
    else if (act < 28) this.#startOne()
    else if (act === 28) this.#cut()
    else if (act < 31) this.#heal()
    else if (act === 31)
      this.#network.faults = {
        breakOneOf: this.#random.pick([0, 0, 20, 200]),
        damageOneOf: this.#random.pick([0, 0, 0, 300]),
        delayMsMax: this.#random.pick([1, 5, 80]),
      }
    else if (act === 32) this.#disk()
    else if (act === 33) this.#switch()
    else if (act < 36) void this.#waitFor()
    else if (act === 36) void this.#promote(this.#random.below(3) === 0)
    else if (act === 37) void this.#rejoin()
    else await this.#time.run(() => false, this.#random.below(20_000))
    await this.#time.run(() => false, this.#random.below(400))
    this.#look()
  }

  /** All is well again: what must be equal in the end. */
  async converge(): Promise<void> {
    this.#say('converging')
    this.#network.faults = { breakOneOf: 0, damageOneOf: 0, delayMsMax: 2 }
    this.#network.heal()
    for (const machine of this.#machines.values()) {
      machine.storage.isFull = false
      machine.storage.delayMs = 0
      machine.start()
    }
    const rightful = () => this.#primaries().sort((a, b) => compareEpochs(b.epoch, a.epoch))[0]
    await this.#time.run(
      () => [...this.#machines.values()].every(({ server }) => server !== undefined),
      120_000,
    )
    for (const { name, server } of this.#machines.values()) {
      assert.ok(server, `${name} does not start: ${text(this.#machine(name).lastFault)}`)
      await this.#inTime(server.setEnqueuing(true))
      await this.#inTime(server.setApplying(true))
    }
    // who was promoted while cut off learns of the other
    await this.#time.run(() => false, 60_000)
    if (this.#primaries().length === 0) {
      void this.#promote(false, 'beta')
      await this.#time.run(() => this.#primaries().length > 0, 120_000)
    }
    const primary = rightful()
    assert.ok(primary, 'nobody is the primary in the end')
    for (let round = 0; round < 4; round++) {
      for (const { name, server } of this.#machines.values()) {
        if (name === primary.name || server === undefined) continue
        const status = server.status()
        if (status.role === 'primary' || status.upstream === undefined || this.#isLoop(name, primary.name))
          await this.#inTime(server.rejoin(primary.name, AbortSignal.timeout(1_000_000)))
        for (const { store, state } of status.stores)
          if (state === 'quarantined') await this.#inTime(server.release(store, 'synchronise'))
      }
      if (await this.#time.run(() => this.#isEven(primary.name), 120_000)) break
    }
    await this.#time.run(() => false, 5_000)
    for (const store of storeNames) {
      const wanted = this.#journal(primary.name, store)
      for (const { name } of this.#machines.values()) {
        const found = this.#journal(name, store)
        assert.ok(
          found.equals(wanted),
          `${name} has ${found.length} bytes of store ${store}, and the primary ${primary.name} ${wanted.length}`,
        )
      }
    }
  }

  report(steps: number): SimulationReport {
    return {
      seed: this.#seed,
      steps,
      ...this.#counts,
      epochs: this.#epochs.size,
      virtualMs: this.#time.nowMs - 1_000_000_000_000,
    }
  }

  end(): void {
    for (const machine of this.#machines.values()) machine.crash()
  }

  describe(): string {
    return [...this.#machines.values()]
      .map(({ name, server, up, lastFault }) => {
        if (server === undefined)
          return `${name}: ${up ? 'up' : 'down'}, no server; last fault: ${text(lastFault)}`
        const { role, epoch, upstream, fencedBy, log, stores, links } = server.status()
        return [
          `${name}: ${role} of ${upstream ?? 'nobody'}, epoch ${epochText(epoch)}`,
          fencedBy === undefined ? '' : `, fenced by ${epochText(fencedBy)}`,
          `, log ${log.first}..${log.next - 1} ${JSON.stringify(log.subscribers)}`,
          ...stores.map(
            ({ store, state, number, message }) => `\n    ${store}: ${state} ${number} ${message ?? ''}`,
          ),
          ...links.map(
            ({ peer, direction, state, lastError }) =>
              `\n    link ${direction} ${peer}: ${state} ${lastError?.message ?? ''}`,
          ),
        ].join('')
      })
      .join('\n')
  }

  #machine(name: string): Machine {
    const machine = this.#machines.get(name)
    assert.ok(machine)
    return machine
  }

  #say(text: string): void {
    this.#trace(`${String(this.at).padStart(4)} ${(this.#time.nowMs - 1_000_000_000_000).toFixed(1)} ${text}`)
  }

  #primaries(): { readonly name: string; readonly epoch: Epoch }[] {
    return [...this.#machines.values()].flatMap(({ name, server }) => {
      const status = server?.status()
      return status?.role === 'primary' && status.fencedBy === undefined
        ? [{ name, epoch: status.epoch }]
        : []
    })
  }

  /** The rightful primary follows something below itself, or this one does. */
  #isLoop(name: string, primary: string): boolean {
    let at: string | undefined = name
    for (let i = 0; i < names.length; i++) {
      const upstream: string | undefined =
        at === undefined ? undefined : this.#machine(at).server?.status().upstream
      if (upstream === primary) return false
      at = upstream
    }
    return true
  }

  #isEven(primary: string): boolean {
    const wanted = this.#machine(primary).server?.status().log.durable
    const isSame = (name: string, store: string) =>
      this.#journalFile(name, store).equals(this.#journalFile(primary, store))
    return [...this.#machines.values()].every(({ name, server }) => {
      const status = server?.status()
      if (name === primary) return true
      return (
        status?.role === 'standby' &&
        status.stores.every(({ number, state }) => number === wanted || state === 'applying') &&
        status.log.durable === wanted &&
        // its log may be as long, and its copy not compared yet with what was brought beside the log
        storeNames.every(store => isSame(name, store))
      )
    })
  }

  async #startApplication(name: string): Promise<void> {
    const machine = this.#machine(name)
    this.#applicationAt = name
    this.#stores = new Map()
    for (const store of storeNames) {
      const application = machine.store(store)
      await application.open()
      this.#stores.set(store, application)
    }
    this.#remember()
    this.#say(`the application runs on ${name}`)
  }

  async #hook(name: string, hook: 'on-promote' | 'on-demote'): Promise<void> {
    this.#say(`${name} runs ${hook}`)
    if (hook === 'on-demote') {
      await this.#writing.catch(() => undefined)
      if (this.#applicationAt === name) this.#applicationAt = undefined
      return
    }
    await this.#startApplication(name)
  }

  async #write(count: number): Promise<void> {
    const at = this.#applicationAt
    if (at === undefined || !this.#machine(at).up) return
    const write = async () => {
      for (let i = 0; i < count; i++) {
        const store = this.#random.pick(storeNames)
        const application = this.#stores.get(store)
        if (application === undefined || this.#applicationAt !== at) return
        this.#writingAt = at
        await application.commit(this.#changes())
        this.#counts.commits++
      }
    }
    const writing = this.#writing
      .then(write)
      .catch(error => {
        // a full disk keeps the application from writing as well; a torn frame is cut at its next start
        if (isOfTheDead(error)) return
        if (this.#applicationAt === at) this.#applicationAt = undefined
        this.#say(`the application fails: ${text(error)}`)
      })
      .finally(() => {
        this.#remember()
        if (this.#writing === writing) this.#writingAt = undefined
      })
    this.#writing = writing
    let done = false
    writing.then(() => {
      done = true
    })
    await this.#time.run(() => done, 10_000)
  }

  #changes(): ScriptChange[] {
    const path = this.#random.pick(['a', 'b', 'c', 'd'])
    const roll = this.#random.below(10)
    if (roll === 0) return [{ type: 'remove', path }]
    if (roll === 1) return [{ type: 'truncate', path, size: this.#random.below(9000) }]
    const size = 1 + this.#random.below(this.#random.pick([20, 300, 9000]))
    const data = this.#random.bytes(size).toString('latin1')
    return [{ type: 'write', path, offset: this.#random.below(12_000), data }]
  }

  #crash(name: string): void {
    if (!this.#machine(name).up) return
    this.#say(`${name} crashes`)
    this.#counts.crashes++
    this.#remember()
    this.#machine(name).crash()
    if (this.#writingAt !== name) return
    // it may never hear of it: nothing wakes up there any more
    this.#writing = Promise.resolve()
    this.#writingAt = undefined
  }

  #startOne(): void {
    const down = [...this.#machines.values()].filter(({ up }) => !up)
    const machine = down[0] === undefined ? undefined : this.#random.pick(down)
    if (machine === undefined) return
    this.#say(`${machine.name} starts`)
    machine.start()
    if (this.#applicationAt !== machine.name) return
    // the application is started with the machine, as long as nobody else was promoted
    this.#writing = this.#writing
      .then(() => this.#startApplication(machine.name))
      .catch(error => {
        if (!isOfTheDead(error)) throw error
      })
  }

  #cut(): void {
    const a = this.#random.pick(names)
    const b = this.#random.pick(names)
    if (a === b) return
    this.#say(`the link between ${a} and ${b} is cut`)
    this.#network.cut(a, b)
  }

  #heal(): void {
    this.#say('links are healed')
    this.#network.heal()
  }

  #disk(): void {
    const machine = this.#machine(this.#random.pick(names))
    if (!machine.up) return
    if (this.#random.below(2) === 0 && machine.name !== this.#applicationAt) {
      machine.storage.isFull = !machine.storage.isFull
      this.#say(`the disk of ${machine.name} is ${machine.storage.isFull ? 'full' : 'not full any more'}`)
    } else {
      machine.storage.delayMs = this.#random.pick([0, 0, 5, 200])
      this.#say(`the disk of ${machine.name} takes ${machine.storage.delayMs} ms to sync`)
    }
  }

  #switch(): void {
    const { name, server } = this.#machine(this.#random.pick(names))
    if (server === undefined) return
    const on = this.#random.below(3) > 0
    this.#say(`${name}: ${server.status().role === 'primary' ? 'enqueue' : 'apply'} ${on ? 'on' : 'off'}`)
    void this.#quietly(server.status().role === 'primary' ? server.setEnqueuing(on) : server.setApplying(on))
  }

  /** What is said to be durable at a standby is remembered. */
  async #waitFor(): Promise<void> {
    const at = this.#applicationAt
    const server = at === undefined ? undefined : this.#machine(at).server
    if (at === undefined || server === undefined) return
    const peer = this.#random.pick(names)
    if (peer === at) return
    const journals = new Map<string, Buffer>()
    for (const store of storeNames) journals.set(store, this.#journal(at, store))
    const { epoch, role } = server.status()
    if (role !== 'primary') return
    const number = await this.#quietly(server.waitFor(peer, AbortSignal.timeout(1_000_000)))
    if (number === undefined) return
    this.#say(`${peer} has all up to ${number}`)
    this.#promises.push({ peer, epoch, journals })
  }

  async #promote(planned: boolean, only?: string): Promise<void> {
    const name = only ?? this.#random.pick(names)
    const { server } = this.#machine(name)
    if (server === undefined) return
    const before = server.status()
    if (before.role === 'primary') return
    this.#say(`${name} is to be promoted${planned ? ', as planned' : ''}`)
    const report = await this.#quietly<PromotionReport>(
      server.promote({ planned, dryRun: false, signal: AbortSignal.timeout(1_000_000) }),
    )
    if (report === undefined || report.already) return
    this.#counts.promotions++
    this.#say(`${name} is promoted: ${JSON.stringify(report.epoch)} at ${report.number}`)
    assert.ok(
      report.stores.every(({ valid }) => valid),
      `${name} was promoted with a store that is not valid: ${JSON.stringify(report.stores)}`,
    )
    for (const { peer, epoch, journals } of this.#promises) {
      if (peer !== name || compareEpochs(epoch, before.epoch) !== 0) continue
      for (const [store, journal] of journals) {
        const found = this.#journal(name, store)
        assert.ok(
          found.subarray(0, journal.length).equals(journal),
          `${name} was promoted with ${found.length} bytes of ${store}, and ${journal.length} were durable there`,
        )
      }
    }
  }

  async #rejoin(): Promise<void> {
    const { name, server } = this.#machine(this.#random.pick(names))
    const other = this.#primaries().find(primary => primary.name !== name)
    if (server === undefined || other === undefined || name === this.#applicationAt) return
    this.#say(`${name} is to rejoin ${other.name}`)
    await this.#quietly(server.rejoin(other.name, AbortSignal.timeout(1_000_000)))
  }

  /** The same, while time goes on; undefined as well when it does not end. */
  async #inTime<T>(work: Promise<T>): Promise<T | undefined> {
    let done = false
    const quiet = this.#quietly(work).finally(() => {
      done = true
    })
    return (await this.#time.run(() => done, 120_000)) ? quiet : undefined
  }

  /** A fault that a user would be told of; undefined then. */
  async #quietly<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof HotspareError) && !isOfTheDead(error) && !isAway(error)) throw error
      this.#say(`refused: ${text(error)}`)
      return undefined
    }
  }

  #journal(name: string, store: string): Buffer {
    return Buffer.from(this.#journalFile(name, store))
  }

  /** As the disk has it, by a storage that no fault of the machine's touches; it changes while time goes on. */
  #journalFile(name: string, store: string): Buffer {
    const { disk } = this.#machine(name)
    return disk.root.children.get('srv')?.children.get(store)?.children.get('journal')?.data ?? nothing
  }

  /** What the application has written, synced or not: a source may have read it, and a crash may lose it. */
  #remember(): void {
    for (const name of new Set([this.#writingAt, this.#applicationAt])) {
      if (name === undefined) continue
      for (const store of storeNames) {
        const histories = this.#histories.get(store) as Buffer[]
        const file = this.#journalFile(name, store)
        const last = histories.at(-1)
        if (last !== undefined && file.subarray(0, last.length).equals(last)) {
          if (file.length === last.length) continue
          histories.pop()
        }
        histories.push(Buffer.from(file))
      }
    }
  }

  /** The laws that hold at every moment. */
  #look(): void {
    this.#remember()
    for (const { name, epoch } of this.#primaries()) {
      const key = epochText(epoch)
      const known = this.#epochs.get(key)
      assert.ok(
        known === undefined || known === name,
        `${known} and ${name} are both primaries of epoch ${key}`,
      )
      this.#epochs.set(key, name)
    }
    for (const store of storeNames) {
      const histories = this.#histories.get(store) ?? []
      for (const { name } of this.#machines.values()) {
        if (name === this.#applicationAt || name === this.#writingAt) continue
        const file = this.#journalFile(name, store)
        const place = `${name} ${store}`
        if (this.#looked.get(place)?.equals(file)) continue
        const journal = Buffer.from(file)
        this.#looked.set(place, journal)
        const copy = journal.subarray(0, scriptJournalEnd(journal))
        assert.ok(
          histories.some(history => history.subarray(0, copy.length).equals(copy)),
          `${name} has ${copy.length} bytes of ${store} that nobody committed in this order`,
        )
      }
    }
  }
}

function isAway(error: unknown): boolean {
  return (
    error instanceof Error && (error.name === 'AbortError' || /ECONN|ETIMEDOUT|ENOSPC/.test(error.message))
  )
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
