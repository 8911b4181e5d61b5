/** One host of the simulation: a disk with a cache that a crash loses, a clock, a place in the network, and what runs on it. */
import { FaultyStorage, MachineDown, type Step, systemError } from '../../src/os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../src/os/testing/memory-disk.ts'
import type { Random } from '../../src/os/testing/random.ts'
import { openServer } from '../../src/server/open-server.ts'
import type { Server, ServerActs, ServerMachine, ServerSettings } from '../../src/server/server.ts'
import { ScriptDriver, ScriptStore } from '../../src/server/testing/script-driver.ts'
import type { VirtualNetwork } from './virtual-network.ts'
import { MachineClock, type VirtualTime } from './virtual-time.ts'

const secret = Buffer.alloc(32, 7)

/** What ran on a machine that has crashed may say anything. */
export function isOfTheDead(error: unknown): boolean {
  return error instanceof MachineDown || (error instanceof Error && isOfTheDead(error.cause ?? undefined))
}

export class Machine {
  readonly name: string
  readonly settings: ServerSettings
  readonly #time: VirtualTime
  readonly #network: VirtualNetwork
  readonly #random: Random
  readonly #acts: Pick<ServerActs, 'hook' | 'onMessage'>
  disk = new MemoryDisk()
  storage: SlowStorage
  clock: MachineClock
  driver = new ScriptDriver()
  server: Server | undefined
  /** It is being opened. */
  #opening: Promise<void> | undefined
  up = false

  constructor(
    settings: ServerSettings,
    time: VirtualTime,
    network: VirtualNetwork,
    random: Random,
    acts: Pick<ServerActs, 'hook' | 'onMessage'>,
  ) {
    this.name = settings.name
    this.settings = settings
    this.#time = time
    this.#network = network
    this.#random = random
    this.#acts = acts
    this.clock = new MachineClock(time, random.below(5_000))
    this.storage = new SlowStorage(this.disk, this.clock)
  }

  /** Powers it on: what survived is what it finds. */
  start(): void {
    if (this.up) return
    this.up = true
    this.clock = new MachineClock(this.#time, this.#random.below(5_000))
    this.storage = new SlowStorage(this.disk, this.clock)
    this.driver = new ScriptDriver()
    this.#open()
  }

  #open(): void {
    const { driver, storage, clock } = this
    const machine: ServerMachine = {
      storage,
      clock,
      random: {
        fraction: () => this.#random.below(2 ** 30) / 2 ** 30,
        bytes: count => this.#random.bytes(count),
      },
      transport: this.#network.transport(this.name),
      driverNamed: () => driver,
      trust: { peer: async () => ({ secret }), pin: async () => {} },
    }
    const again = async () => {
      // as systemd does
      await clock.sleep(500)
      if (this.up && this.clock === clock) this.#open()
    }
    this.#opening = openServer(this.settings, machine, this.#acts).then(
      server => {
        if (this.clock !== clock || !this.up) return
        this.server = server
        server.stopped.then(again, again)
      },
      error => {
        if (!storage.disk.isDown) this.lastFault = error
        return again()
      },
    )
  }

  lastFault: unknown

  /** The power fails. */
  crash(): void {
    if (!this.up) return
    this.up = false
    this.server = undefined
    this.#opening = undefined
    this.clock.stop()
    this.disk = this.disk.crash(this.#random)
    this.#network.down(this.name)
  }

  store(name: string): ScriptStore {
    const path = this.settings.stores.find(({ store }) => store === name)?.path ?? ''
    return new ScriptStore(this.driver, this.storage, this.clock, path)
  }

  get opening(): boolean {
    return this.#opening !== undefined && this.server === undefined
  }
}

const isSync = (call: string) => call === 'fdatasync' || call === 'write-dsync'

/** A disk that is now and then slow, or full. */
export class SlowStorage extends FaultyStorage {
  readonly #clock: MachineClock
  /** Of each sync. */
  delayMs = 0
  isFull = false

  constructor(disk: MemoryDisk, clock: MachineClock) {
    super(disk)
    this.#clock = clock
  }

  /** There are some thousand in each world, and nobody goes through them one by one: so none is noted. */
  override step<T>(about: Omit<Step, 'number'>, work: () => T, part: () => void = () => {}): Promise<T> {
    if (this.delayMs === 0 || !isSync(about.call)) return this.#done(about, work)
    // a crash meanwhile finds some of what is written and synced in one call
    return this.#done(about, part)
      .then(() => this.#clock.sleep(this.delayMs))
      .then(() => this.#done(about, work))
  }

  #done<T>({ grows, call, path }: Omit<Step, 'number'>, work: () => T): Promise<T> {
    if (this.disk.isDown) return Promise.reject(new MachineDown())
    if (this.isFull && grows) return Promise.reject(systemError('ENOSPC', call, path))
    // a promise of its own for each would cost more than the work
    try {
      return Promise.resolve(work())
    } catch (error) {
      return Promise.reject(error)
    }
  }
}
