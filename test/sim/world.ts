/**
 * A primary, a standby, one in cascade below it and one beside it, with an application that writes, and everything that
 * goes wrong: crashes that lose what was not synced, cut and damaged links, full and slow disks, promotions and
 * rejoinings at any moment. What may never happen (laws.ts) is looked for all along; and in the end, when all is well
 * again, all have what the newest primary has.
 */
import assert from 'node:assert/strict'
import { HotspareError, unreachable } from '../../src/os/errors.ts'
import { Random } from '../../src/os/testing/random.ts'
import type { PromotionReport } from '../../src/server/server.ts'
import { compareEpochs, epochText } from '../../src/stream/epoch.ts'
import { type Act, Acts } from './acts.ts'
import { Application, type ApplicationSizes } from './application.ts'
import { Laws, type SetApart } from './laws.ts'
import { isOfTheDead, Machine } from './machine.ts'
import { faultText, names, Servers, settingsOf, storeNames } from './servers.ts'
import { VirtualNetwork } from './virtual-network.ts'
import { VirtualTime } from './virtual-time.ts'

/**
 * Most worlds are of small transactions and logs: they fill, roll and trim theirs, and go through the same as the large
 * ones in a part of the time.
 */
interface Sizes extends ApplicationSizes {
  readonly logBytesMax: readonly number[]
}
const smallSizes: Sizes = {
  writeBytesMax: [20, 120, 900],
  fileBytesMax: 1_200,
  logBytesMax: [8 * 1024, 16 * 1024 * 1024],
}
const largeSizes: Sizes = {
  writeBytesMax: [20, 300, 9000],
  fileBytesMax: 12_000,
  logBytesMax: [64 * 1024, 16 * 1024 * 1024],
}
const largeOneOf = 8
/** So often one of those that were said to have something is asked what it would have if it were the only one left. */
const aloneOneOf = 3
/** What asks for all disks and states is asked so often while servers are waited for. */
const lookEveryMs = 50

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

class World {
  readonly #seed: number
  readonly #random: Random
  readonly #time = new VirtualTime()
  readonly #beginMs = this.#time.nowMs
  readonly #network: VirtualNetwork
  readonly #servers: Servers
  readonly #application: Application
  readonly #laws: Laws
  readonly #trace: (text: string) => void
  readonly #counts = { crashes: 0, promotions: 0 }
  /** Whoever asks waits as long as the world stands; of one for all worlds every world would be kept. */
  readonly #forEver = new AbortController().signal
  readonly #aloneRandom: Random
  /** In this step. */
  readonly #apart: SetApart[] = []
  readonly #acts: Acts
  at = 0

  constructor(seed: number, trace: (text: string) => void) {
    this.#seed = seed
    this.#trace = trace
    this.#random = new Random(seed)
    const sizes = this.#random.below(largeOneOf) === 0 ? largeSizes : smallSizes
    // a series of its own for each, so that what happens is the same as far as it can be when the servers change
    const series = () => new Random(this.#random.below(2 ** 32))
    this.#network = new VirtualNetwork(this.#time, series())
    this.#servers = new Servers(
      name =>
        new Machine(settingsOf(name, this.#limits(sizes)), this.#time, this.#network, series(), {
          onMessage: ({ level, code, message }) => this.#say(`${name} ${level} ${code}: ${message}`),
          hook: async hook => this.#hook(name, hook),
        }),
    )
    this.#laws = new Laws(this.#servers)
    this.#application = new Application({
      time: this.#time,
      random: series(),
      sizes,
      machine: name => this.#servers.get(name),
      onChange: () => this.#laws.remember(this.#application.places),
      say: text => this.#say(text),
    })
    this.#aloneRandom = series()
    this.#acts = new Acts(this.#random)
  }

  #limits({ logBytesMax }: Sizes) {
    return {
      bytesMax: this.#random.pick(logBytesMax),
      whenFull: this.#random.pick(['block', 'drop'] as const),
      keepMs: 0,
      keepBytes: 0,
    }
  }

  async begin(): Promise<void> {
    for (const machine of this.#servers.all) {
      await machine.storage.makeDirectory('/srv')
      await machine.storage.syncDirectory('/')
    }
    this.#servers.get('alpha').start()
    await this.#application.start('alpha')
    for (const machine of this.#servers.all) machine.start()
    await this.#time.run(() => false, 1_000)
  }

  async step(step: number): Promise<void> {
    this.at = step
    await this.#act(this.#acts.pick(this.#random))
    await this.#time.run(() => false, this.#random.below(400))
    this.#laws.look(this.#application.places)
    await this.#leaveAlone()
  }

  #act(act: Act): Promise<void> | void {
    switch (act) {
      case 'write':
        return this.#application.write(1 + this.#random.below(4))
      case 'crash':
        return this.#crash(this.#random.pick(names))
      case 'start':
        return this.#startOne()
      case 'cut':
        return this.#cut()
      case 'heal':
        return this.#heal()
      case 'network':
        return this.#disturb()
      case 'disk':
        return this.#disk()
      case 'switch':
        return this.#switch()
      case 'wait':
        return this.#inBackground(this.#waitFor())
      case 'promote':
        return this.#inBackground(this.#promote(this.#random.below(3) === 0))
      case 'rejoin':
        return this.#inBackground(this.#rejoin())
      case 'pause':
        return this.#pause()
      default:
        return unreachable(act)
    }
  }

  /** Whatever it throws is met as a rejection that nobody handled. */
  #inBackground(_work: Promise<void>): void {}

  async #pause(): Promise<void> {
    await this.#time.run(() => false, this.#random.below(20_000))
  }

  /** Who was just said to have something, and now and then another of those. */
  async #leaveAlone(): Promise<void> {
    const assured = names.filter(name => this.#laws.assured(name).length > 0)
    if (assured.length > 0 && this.#aloneRandom.below(aloneOneOf) === 0)
      this.#setApart(this.#aloneRandom.pick(assured))
    for (const apart of this.#apart.splice(0))
      await this.#laws.lookAtLeft(apart, this.#time.nowMs, this.#aloneRandom)
  }

  #setApart(name: string): void {
    const { settings, disk } = this.#servers.get(name)
    const assured = this.#laws.assured(name)
    this.#apart.push({ settings, disk: disk.afterCrash(this.#aloneRandom), assured })
  }

  /** All is well again: what must be equal in the end. */
  async converge(): Promise<void> {
    this.#say('converging')
    this.#network.faults = { breakOneOf: 0, damageOneOf: 0, delayMsMax: 2 }
    this.#network.heal()
    for (const machine of this.#servers.all) {
      machine.storage.isFull = false
      machine.storage.delayMs = 0
      machine.start()
    }
    const rightful = () => this.#servers.primaries().sort((a, b) => compareEpochs(b.epoch, a.epoch))[0]
    await this.#time.run(() => this.#servers.all.every(({ server }) => server !== undefined), 120_000)
    for (const { name, server, lastFault } of this.#servers.all) {
      assert.ok(server, `${name} does not start: ${faultText(lastFault)}`)
      await this.#inTime(server.setEnqueuing(true))
      await this.#inTime(server.setApplying(true))
    }
    // who was promoted while cut off learns of the other
    await this.#until(() => this.#servers.areConnected(), 60_000)
    await this.#time.run(() => false, 5_000)
    if (this.#servers.primaries().length === 0) {
      void this.#promote(false, 'beta')
      await this.#time.run(() => this.#servers.primaries().length > 0, 120_000)
    }
    const primary = rightful()
    assert.ok(primary, 'nobody is the primary in the end')
    for (let round = 0; round < 4; round++) {
      for (const { name, server } of this.#servers.all) {
        if (name === primary.name || server === undefined) continue
        const status = server.status()
        if (
          status.role === 'primary' ||
          status.upstream === undefined ||
          this.#servers.isLoop(name, primary.name)
        )
          await this.#inTime(server.rejoin(primary.name, this.#forEver))
        for (const { store, state } of status.stores)
          if (state === 'quarantined') await this.#inTime(server.release(store, 'synchronise'))
      }
      if (await this.#areEven(primary.name)) break
    }
    await this.#time.run(() => false, 5_000)
    this.#laws.lookAtEnd(primary.name)
  }

  #areEven(primary: string): Promise<boolean> {
    return this.#until(() => this.#servers.isEven(primary), 120_000)
  }

  #until(isSo: () => boolean, limitMs: number): Promise<boolean> {
    let nextMs = 0
    const done = () => {
      if (this.#time.nowMs < nextMs) return false
      nextMs = this.#time.nowMs + lookEveryMs
      return isSo()
    }
    return this.#time.run(done, limitMs)
  }

  report(steps: number): SimulationReport {
    return {
      seed: this.#seed,
      steps,
      commits: this.#application.commits,
      ...this.#counts,
      epochs: this.#laws.epochs,
      virtualMs: this.#time.nowMs - this.#beginMs,
    }
  }

  end(): void {
    for (const machine of this.#servers.all) machine.crash()
  }

  describe(): string {
    return this.#servers.describe()
  }

  #say(text: string): void {
    this.#trace(`${String(this.at).padStart(4)} ${(this.#time.nowMs - this.#beginMs).toFixed(1)} ${text}`)
  }

  async #hook(name: string, hook: 'on-promote' | 'on-demote'): Promise<void> {
    this.#say(`${name} runs ${hook}`)
    if (hook === 'on-promote') return this.#application.start(name)
    const epoch = this.#servers.get(name).server?.status().epoch
    await this.#application.leave(name)
    if (epoch !== undefined) this.#laws.ended(name, epoch)
  }

  #crash(name: string): void {
    const machine = this.#servers.get(name)
    if (!machine.up) return
    this.#say(`${name} crashes`)
    this.#counts.crashes++
    this.#laws.remember(this.#application.places)
    machine.crash()
    this.#application.crashed(name)
  }

  #startOne(): void {
    const down = this.#servers.all.filter(({ up }) => !up)
    const machine = down[0] === undefined ? undefined : this.#random.pick(down)
    if (machine === undefined) return
    this.#say(`${machine.name} starts`)
    machine.start()
    if (this.#application.at === machine.name) this.#application.restart(machine.name)
  }

  #disturb(): void {
    this.#network.faults = {
      breakOneOf: this.#random.pick([0, 0, 20, 200]),
      damageOneOf: this.#random.pick([0, 0, 0, 300]),
      delayMsMax: this.#random.pick([1, 5, 80]),
    }
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
    const machine = this.#servers.get(this.#random.pick(names))
    if (!machine.up) return
    if (this.#random.below(2) === 0 && machine.name !== this.#application.at) {
      machine.storage.isFull = !machine.storage.isFull
      this.#say(`the disk of ${machine.name} is ${machine.storage.isFull ? 'full' : 'not full any more'}`)
    } else {
      machine.storage.delayMs = this.#random.pick([0, 0, 5, 200])
      this.#say(`the disk of ${machine.name} takes ${machine.storage.delayMs} ms to sync`)
    }
  }

  #switch(): void {
    const { name, server } = this.#servers.get(this.#random.pick(names))
    if (server === undefined) return
    const on = this.#random.below(3) > 0
    this.#say(`${name}: ${server.status().role === 'primary' ? 'enqueue' : 'apply'} ${on ? 'on' : 'off'}`)
    void this.#quietly(server.status().role === 'primary' ? server.setEnqueuing(on) : server.setApplying(on))
  }

  /** What is said to be durable at a standby is remembered. */
  async #waitFor(): Promise<void> {
    const at = this.#application.at
    const server = at === undefined ? undefined : this.#servers.get(at).server
    if (at === undefined || server === undefined) return
    const peer = this.#random.pick(names)
    if (peer === at) return
    const journals = new Map<string, Buffer>()
    for (const store of storeNames) journals.set(store, this.#servers.journal(at, store))
    const { epoch, role } = server.status()
    if (role !== 'primary') return
    const number = await this.#quietly(server.waitFor(peer, this.#forEver))
    if (number === undefined) return
    this.#say(`${peer} has all up to ${number}`)
    this.#laws.assure({ peer, epochs: new Set([epochText(epoch)]), journals })
    this.#setApart(peer)
  }

  async #promote(planned: boolean, only?: string): Promise<void> {
    const name = only ?? this.#random.pick(names)
    const { server } = this.#servers.get(name)
    if (server === undefined) return
    const before = server.status()
    if (before.role === 'primary') return
    this.#say(`${name} is to be promoted${planned ? ', as planned' : ''}`)
    const report = await this.#quietly<PromotionReport>(
      server.promote({ planned, dryRun: false, signal: this.#forEver }),
    )
    if (report === undefined || report.already) return
    this.#counts.promotions++
    this.#say(`${name} is promoted: ${JSON.stringify(report.epoch)} at ${report.number}`)
    assert.ok(
      report.stores.every(({ valid }) => valid),
      `${name} was promoted with a store that is not valid: ${JSON.stringify(report.stores)}`,
    )
    this.#laws.lookAtPromoted(name, before.epoch, report.epoch)
    if (planned && before.upstream !== undefined)
      this.#laws.lookAtPlanned(name, before.upstream, before.epoch)
  }

  async #rejoin(): Promise<void> {
    const { name, server } = this.#servers.get(this.#random.pick(names))
    const other = this.#servers.primaries().find(primary => primary.name !== name)
    if (server === undefined || other === undefined || name === this.#application.at) return
    this.#say(`${name} is to rejoin ${other.name}`)
    await this.#quietly(server.rejoin(other.name, this.#forEver))
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
      this.#say(`refused: ${faultText(error)}`)
      return undefined
    }
  }
}

function isAway(error: unknown): boolean {
  return (
    error instanceof Error && (error.name === 'AbortError' || /ECONN|ETIMEDOUT|ENOSPC/.test(error.message))
  )
}
