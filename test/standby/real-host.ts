/** A server on this machine's own disk and clock with a real SQLite database, and an application that writes to it. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { driverNamed } from '../../src/drivers/registry.ts'
import { secretBytes } from '../../src/link/trust.ts'
import { systemClock } from '../../src/os/clock.ts'
import { nodeStorage } from '../../src/os/node-storage.ts'
import { systemRandom } from '../../src/os/random.ts'
import type { Transport } from '../../src/os/transport.ts'
import { writersOf } from '../../src/os/writers.ts'
import { openServer } from '../../src/server/open-server.ts'
import type { Server, ServerMessage, ServerSettings } from '../../src/server/server.ts'
import { storeName } from '../../src/stream/entry.ts'

const writer = fileURLToPath(new URL('../writers/sqlite-writer.ts', import.meta.url))
const run = promisify(execFile)

export class RealHost {
  readonly name: string
  readonly database: string
  readonly settings: ServerSettings
  readonly messages: ServerMessage[] = []
  /** With which the application is started by on-promote. */
  writerOptions: readonly string[] = []
  onDemote: () => Promise<void> = () => this.endWriter('SIGTERM')
  onPromote: () => Promise<void> = async () => this.startWriter()
  server: Server | undefined
  #transport: Transport
  #writer: ChildProcess | undefined
  /** The last committed number that it has said. */
  written = 0

  constructor(
    directory: string,
    transport: Transport,
    name: string,
    role: 'primary' | 'standby',
    peer: string,
  ) {
    this.name = name
    this.#transport = transport
    this.database = join(directory, name, 'app.db')
    this.settings = {
      set: 'set',
      name,
      stateDirectory: join(directory, name, 'state'),
      role,
      ...(role === 'standby' ? { upstream: peer } : {}),
      stores: [{ store: storeName('app'), path: this.database, driver: 'sqlite', driverOptions: {} }],
      peers: [{ name: peer, subscriber: true, address: `memory:${peer}` }],
      listen: `memory:${name}`,
      limits: { bytesMax: 1024 ** 3, whenFull: 'block', keepMs: 0, keepBytes: 0 },
      logStandbyUpdates: true,
      bandwidthBytesPerSecond: 0,
    }
  }

  get running(): Server {
    assert.ok(this.server !== undefined, `${this.name} does not run`)
    return this.server
  }

  async makeDirectory(): Promise<void> {
    await mkdir(join(this.database, '..'), { recursive: true })
  }

  async start(): Promise<void> {
    this.server = await openServer(
      this.settings,
      {
        storage: nodeStorage,
        clock: systemClock,
        random: systemRandom,
        transport: this.#transport,
        driverNamed,
        writersOf,
        trust: { peer: async () => ({ secret: Buffer.alloc(secretBytes, 7) }), pin: async () => {} },
      },
      {
        onMessage: message => this.messages.push(message),
        hook: name => (name === 'on-demote' ? this.onDemote() : this.onPromote()),
      },
    )
  }

  async stop(): Promise<void> {
    await this.server?.stop()
    this.server = undefined
  }

  async close(): Promise<void> {
    await this.endWriter('SIGKILL')
    await this.stop()
  }

  /** Resolves when it has committed something. */
  async startWriter(...options: string[]): Promise<void> {
    const child = spawn(process.execPath, [writer, this.database, ...this.writerOptions, ...options], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#writer = child
    let text = ''
    const wrote = Promise.withResolvers<void>()
    child.stdout.on('data', data => {
      text += data
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        const number = Number(/(\d+)$/.exec(line)?.[1])
        if (!Number.isNaN(number)) this.written = number
        if (/^\d+$/.test(line)) wrote.resolve()
      }
    })
    child.once('exit', () => wrote.resolve())
    await wrote.promise
  }

  async endWriter(signal: NodeJS.Signals): Promise<void> {
    const child = this.#writer
    this.#writer = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    await once(child, 'close')
  }

  /** In another process: locks of files belong to the process. */
  async query(sql: string, database = this.database): Promise<string> {
    const script =
      "const {DatabaseSync}=require('node:sqlite');const d=new DatabaseSync(process.argv[1],{timeout:10000});" +
      'process.stdout.write(String(Object.values(d.prepare(process.argv[2]).get())[0]))'
    const { stdout } = await run(process.execPath, ['-e', script, database, sql])
    return stdout
  }

  async lastNumber(): Promise<number> {
    return Number(await this.query('SELECT coalesce(max(number), 0) FROM entry'))
  }

  /** Whole for the engine and for the application, without a gap in what was committed. */
  async assertWhole(): Promise<void> {
    assert.equal(await this.query('PRAGMA integrity_check'), 'ok')
    assert.equal(await this.query('SELECT sum(balance) FROM account'), '0')
    assert.equal(
      await this.query('SELECT count(*) - coalesce(max(number), 0) FROM entry WHERE writer = 1'),
      '0',
    )
  }

  said(): string {
    return this.messages
      .map(({ level, code, message }) => `${this.name} ${level} ${code}: ${message}`)
      .join('\n')
  }
}

export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  say: () => string,
): Promise<void> {
  const endMs = Date.now() + 60_000
  while (!(await condition())) {
    assert.ok(Date.now() < endMs, `not ${what} in a minute\n${say()}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
