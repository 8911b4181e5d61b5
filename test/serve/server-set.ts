/** The servers of one set, as `hotspare serve` processes on loopback, each pair of them paired. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { localMachine } from '../../src/daemon/machine.ts'
import { makePairing, takePairing } from '../../src/daemon/pair.ts'
import { callServer } from '../../src/daemon/server-client.ts'
import { readServerConfig } from '../../src/daemon/server-config.ts'
import type { ServerRequestBody } from '../../src/daemon/server-protocol.ts'
import { systemRandom } from '../../src/os/random.ts'
import type { ServerStatus } from '../../src/server/server.ts'
import { type Ended, type Line, main, Run } from '../cli/hotspare.ts'

/** On a machine that has much else to do. */
const startMsMax = 60_000
const lookEveryMs = 100

/** Of a standby: each store has a copy that can be opened. */
export function isComplete({ role, stores }: ServerStatus): boolean {
  return role === 'standby' && stores.every(({ consistent }) => consistent !== undefined)
}

export interface StorePlan {
  readonly name: string
  readonly driver: string
  readonly profile?: string
}

/** A disk of its own for a server: where it is seen from here, and where the server itself sees it. */
export interface SmallDisk {
  readonly here: string
  readonly there: string
  /** What runs before the command, so that it sees the disk: `nsenter`, say. */
  readonly enter: readonly string[]
}

export interface ServerPlan {
  readonly name: string
  /** Absent: the primary. */
  readonly upstream?: string
  readonly stores: readonly StorePlan[]
  /** Whom it calls; all others unless told. */
  readonly calls?: readonly string[]
  /** Has its state, and the copies of a standby. */
  readonly disk?: SmallDisk
  /** Lines of its configuration besides. */
  readonly more?: string
}

export class ServeProcess {
  readonly plan: ServerPlan
  readonly directory: string
  readonly port: number
  /** What those said that have ended. */
  readonly #said: Line[] = []
  #run: Run | undefined

  constructor(plan: ServerPlan, directory: string, port: number) {
    this.plan = plan
    this.directory = directory
    this.port = port
  }

  get name(): string {
    return this.plan.name
  }

  get config(): string {
    return join(this.directory, 'hotspare.yaml')
  }

  get stateDirectory(): string {
    return join(this.plan.disk?.here ?? this.directory, 'state')
  }

  get runs(): boolean {
    return this.#run !== undefined
  }

  get pid(): number {
    assert.ok(this.#run?.process.pid, `${this.name} does not run`)
    return this.#run.process.pid
  }

  path(store: string): string {
    const { disk, upstream } = this.plan
    return join(disk === undefined || upstream === undefined ? this.directory : disk.here, store)
  }

  /** As `query` and the rest ask it, in this process. */
  ask<Value>(request: ServerRequestBody, timeoutMs: number): Promise<Value> {
    return callServer<Value>(this.stateDirectory, request, AbortSignal.timeout(timeoutMs))
  }

  status(): Promise<ServerStatus> {
    return this.ask<ServerStatus>({ request: 'status' }, 10_000)
  }

  /** Resolves when it says that it has started. */
  async start(): Promise<void> {
    assert.equal(this.#run, undefined, `${this.name} runs already`)
    const [program = '', ...args] = [
      ...(this.plan.disk?.enter ?? []),
      process.execPath,
      main,
      'serve',
      '--json',
      '-c',
      this.config,
    ]
    this.#run = new Run(program, args, startMsMax)
    await this.#run.event('started')
  }

  async end(signal: NodeJS.Signals): Promise<Ended | undefined> {
    const run = this.#run
    if (run === undefined) return undefined
    this.#run = undefined
    const ended = await run.end(signal)
    this.#said.push(...run.lines)
    if (ended.signal !== signal)
      assert.deepEqual({ exit: ended.exit, stderr: ended.stderr }, { exit: 0, stderr: '' }, this.name)
    return ended
  }

  /** All that it has said in all its lives. */
  messages(): Line[] {
    return [...this.#said, ...(this.#run?.lines ?? [])].filter(({ event }) => event === 'message')
  }

  /** Throws when it has ended by itself. */
  assertRuns(): void {
    const { exitCode, signalCode } = this.#run?.process ?? {}
    assert.ok(
      this.#run === undefined || (exitCode === null && signalCode === null),
      `${this.name} ended by itself: ${exitCode} ${signalCode}\n${this.tail()}`,
    )
  }

  /** Asks until what it says of itself fits. */
  async until(what: string, fits: (status: ServerStatus) => boolean, timeoutMs = startMsMax): Promise<void> {
    const endMs = Date.now() + timeoutMs
    for (;;) {
      this.assertRuns()
      const status = await this.status()
      if (fits(status)) return
      assert.ok(Date.now() < endMs, `${this.name} is not ${what}: ${JSON.stringify(status)}\n${this.tail()}`)
      await sleep(lookEveryMs)
    }
  }

  tail(count = 25): string {
    const text = ({ timeMs, level, code, message }: Line) =>
      `  ${this.name} ${new Date(Number(timeMs)).toISOString()} ${level} ${code}: ${message}`
    return this.messages().slice(-count).map(text).join('\n')
  }
}

/** Writes the configurations, and pairs each with each. None is started. */
export async function configureSet(root: string, plans: readonly ServerPlan[]): Promise<ServeProcess[]> {
  const ports = await freePorts(plans.length)
  const servers = plans.map((plan, i) => new ServeProcess(plan, join(root, plan.name), ports[i] as number))
  for (const server of servers) {
    await fs.mkdir(server.directory, { recursive: true })
    await fs.writeFile(server.config, configText(server, servers))
  }
  const all = await Promise.all(
    servers.map(async server => {
      const { settings } = await readServerConfig(localMachine.storage, server.config)
      const { stateDirectory } = server
      await fs.mkdir(stateDirectory, { recursive: true, mode: 0o700 })
      return { ...settings, stateDirectory }
    }),
  )
  const { storage } = localMachine
  for (const [i, settings] of all.entries()) {
    for (const other of all.slice(i + 1)) {
      const made = await makePairing(storage, systemRandom, { settings, peer: other.name, again: false })
      await takePairing(storage, other, made.token)
    }
  }
  return servers
}

function configText({ plan, port }: ServeProcess, servers: readonly ServeProcess[]): string {
  const { name, upstream, stores, calls, disk, more } = plan
  const lines = [
    `name: ${name}`,
    `role: ${upstream === undefined ? 'primary' : 'standby'}`,
    ...(upstream === undefined ? [] : [`upstream: ${upstream}`]),
    `state: ${join(disk?.there ?? '.', 'state')}`,
    `listen: 127.0.0.1:${port}`,
    'stores:',
    ...stores.flatMap(store => [
      `  - path: ${join(disk === undefined || upstream === undefined ? '.' : disk.there, store.name)}`,
      `    driver: ${store.driver}`,
      ...(store.profile === undefined ? [] : [`    profile: ${store.profile}`]),
    ]),
    'peers:',
    ...servers
      .filter(other => other.name !== name)
      .flatMap(other => [
        `  - name: ${other.name}`,
        ...(calls?.includes(other.name) === false ? [] : [`    address: tcp://127.0.0.1:${other.port}`]),
      ]),
    ...(more === undefined ? [] : [more]),
  ]
  return `${lines.join('\n')}\n`
}

async function freePorts(count: number): Promise<number[]> {
  const held = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = held.map(server => (server.address() as { port: number }).port)
  for (const server of held) {
    server.close()
    await once(server, 'close')
  }
  return ports
}
