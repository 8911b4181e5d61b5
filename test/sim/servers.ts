/** The four hosts of the simulation, and how they stand to each other. */
import assert from 'node:assert/strict'
import type { LogLimits } from '../../src/log/log.ts'
import type { MemoryDisk } from '../../src/os/testing/memory-disk.ts'
import type { LinkState, ServerSettings } from '../../src/server/server.ts'
import { storeName } from '../../src/stream/entry.ts'
import { type Epoch, epochText } from '../../src/stream/epoch.ts'
import type { Machine } from './machine.ts'

export const storeNames = ['one', 'two'].map(storeName)
export const names = ['alpha', 'beta', 'gamma', 'delta'] as const
export type Name = (typeof names)[number]
const upstreams: Readonly<Partial<Record<Name, Name>>> = { beta: 'alpha', gamma: 'beta', delta: 'alpha' }
const unconnected: ReadonlySet<LinkState> = new Set([
  'stopped',
  'waiting-for-call',
  'calling',
  'waiting-to-call',
  'handshaking',
  'refused',
])
const nothing = Buffer.alloc(0)

export interface Primary {
  readonly name: string
  readonly epoch: Epoch
}

export class Servers {
  readonly #machines: ReadonlyMap<string, Machine>

  constructor(machineOf: (name: Name) => Machine) {
    this.#machines = new Map(names.map(name => [name, machineOf(name)]))
  }

  get all(): readonly Machine[] {
    return [...this.#machines.values()]
  }

  get(name: string): Machine {
    const machine = this.#machines.get(name)
    assert.ok(machine)
    return machine
  }

  /** Those who act as one, and know of nobody newer. */
  primaries(): Primary[] {
    return this.all.flatMap(({ name, server }) => {
      const status = server?.status()
      return status?.role === 'primary' && status.fencedBy === undefined
        ? [{ name, epoch: status.epoch }]
        : []
    })
  }

  /** All are there, and each has a session with each. */
  areConnected(): boolean {
    return this.all.every(({ server }) =>
      server?.status().links.every(({ state }) => !unconnected.has(state)),
    )
  }

  /** The rightful primary follows something below itself, or this one does. */
  isLoop(name: string, primary: string): boolean {
    let at: string | undefined = name
    for (let i = 0; i < names.length; i++) {
      const upstream: string | undefined =
        at === undefined ? undefined : this.get(at).server?.status().upstream
      if (upstream === primary) return false
      at = upstream
    }
    return true
  }

  isEven(primary: string): boolean {
    const wanted = this.get(primary).server?.status().log.durable
    const isSame = (name: string, store: string) =>
      this.journalFile(name, store).equals(this.journalFile(primary, store))
    return this.all.every(({ name, server }) => {
      if (name === primary) return true
      const status = server?.status()
      return (
        status?.role === 'standby' &&
        status.stores.every(({ number, state }) => number === wanted || state === 'applying') &&
        status.log.durable === wanted &&
        // its log may be as long, and its copy not compared yet with what was brought beside the log
        storeNames.every(store => isSame(name, store))
      )
    })
  }

  journal(name: string, store: string): Buffer {
    return journalOn(this.get(name).disk, store)
  }

  /** As the disk has it, by a storage that no fault of the machine's touches; it changes while time goes on. */
  journalFile(name: string, store: string): Buffer {
    return journalFileOn(this.get(name).disk, store)
  }

  describe(): string {
    return this.all
      .map(({ name, server, up, lastFault }) => {
        if (server === undefined)
          return `${name}: ${up ? 'up' : 'down'}, no server; last fault: ${faultText(lastFault)}`
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
}

export function journalOn(disk: MemoryDisk, store: string): Buffer {
  return Buffer.from(journalFileOn(disk, store))
}

function journalFileOn({ root }: MemoryDisk, store: string): Buffer {
  return root.children.get('srv')?.children.get(store)?.children.get('journal')?.data ?? nothing
}

export function settingsOf(name: Name, limits: LogLimits): ServerSettings {
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
    limits,
    logStandbyUpdates: true,
    bandwidthBytesPerSecond: 0,
    rejoin: 'manual',
  }
}

export function faultText(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
