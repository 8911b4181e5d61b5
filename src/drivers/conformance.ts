/**
 * What every driver has to stand: a real writer in another process at full speed that numbers its commits, and a
 * follower that is killed at random moments, many times. After each kill a clone of the copy's files is opened by the
 * engine, and has to hold a prefix of what was committed: every commit up to some number, none beyond, and that number
 * never falls. At the end it holds all.
 *
 * A driver's integration test calls `driverConformance` with the driver's engine. Moments come from a seed that is
 * printed; `HOTSPARE_SEED` replays it.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { seed } from '../os/testing/seed.ts'

/** A program that opens the store and commits numbers in ascending order until it is ended by a signal. */
export interface WriterCommand {
  /** Absolute path; `process.execPath` for a script. */
  readonly command: string
  readonly arguments: readonly string[]
}

export interface Judgement {
  /** The store holds all commits up to this number; 0 when it holds none. */
  readonly last: number
}

export interface ConformanceOptions {
  /** In the test's titles. */
  readonly name: string
  /** Makes what the writer and the engine need; gives the live store's path, which need not exist before the writer runs. */
  prepare(t: TestContext, directory: string): Promise<string>
  /**
   * Prints each number that is committed, or now and then the last one, as a line on its standard output (a promise:
   * it is printed after the commit). May be killed at any moment and started again.
   */
  writer(source: string): WriterCommand
  /** Opens a clone of a stopped store with the engine; throws when it does not hold exactly the commits 1, 2 ... last. */
  judge(store: string, scratch: string): Promise<Judgement>
  /** Further arguments for `hotspare follow`. */
  readonly followArguments?: readonly string[]
  /** The copy's name in its directory; the source's own unless told otherwise. */
  readonly targetName?: string
  readonly kills?: number
  /** A follower lives at most this long. */
  readonly lifeMsMax?: number
  /** Every so many kills the writer is killed too, and started again. */
  readonly writerKillEvery?: number
  /** Called when the last writer is gone: after it, the live store is as stopped. */
  quiesce?(source: string): Promise<void>
  /** False: killing the writer is not allowed (a server that is expensive to start). */
  readonly killWriter?: boolean
}

const hotspare = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
const patienceMs = 60_000
const testTimeoutMs = 5 * 60_000

/** Registers the tests. */
export function driverConformance(options: ConformanceOptions): void {
  const kills = options.kills ?? 15

  test(`${options.name}: killed at any moment, the copy opens and is a prefix of what was committed; in the end it is equal`, {
    timeout: testTimeoutMs,
  }, async t => {
    const random = seeded(t)
    const world = await openWorld(t, options)
    let floor = 0
    for (let kill = 1; kill <= kills; kill++) {
      // on a busy machine the first copy takes longer
      const lives = floor === 0 ? kill : 1
      await world.followUntilKilled(random() * lives * (options.lifeMsMax ?? 1500), random() < 0.3)
      floor = await world.judgeCopy(floor)
      if (options.killWriter !== false && kill % (options.writerKillEvery ?? 4) === 0)
        await world.restartWriter()
    }
    assert.ok(floor > 0, 'no follower lived long enough to make a copy: raise lifeMsMax')
    await world.stopWriter()
    await options.quiesce?.(world.source)
    await world.hotspare('follow', world.source, world.target, '--once', ...(options.followArguments ?? []))
    const source = await world.judgeStore(world.source)
    const copy = await world.judgeStore(world.target)
    t.diagnostic(`${kills} kills; the writer committed ${source.last}`)
    assert.equal(copy.last, source.last)
    assert.ok(source.last >= world.committed(), 'the source lost commits')
    await world.hotspare('check', world.target, '--against', world.source)
  })

  test(`${options.name}: a clone that is taken while the copy is followed opens and is a prefix`, {
    timeout: testTimeoutMs,
  }, async t => {
    const random = seeded(t)
    const world = await openWorld(t, options)
    const follower = world.follow()
    await world.isLive(follower)
    let floor = 0
    for (let clone = 1; clone <= 4; clone++) {
      await sleep(random() * 300)
      const destination = join(world.directory, `clone-${clone}`)
      await world.hotspare('clone', world.target, destination)
      const { last } = await world.judgeStore(existingStore(destination, world.target))
      assert.ok(last >= floor, `clone ${clone} ends at ${last}, one before it at ${floor}`)
      floor = last
    }
    await world.end(follower, 'SIGTERM')
    assert.equal(follower.exitCode, 0, 'a follower that is asked to end ends with status 0')
    assert.ok(floor > 0)
  })
}

/** A clone of a one-file store may have been put into a directory. */
function existingStore(destination: string, target: string): string {
  const inside = join(destination, basename(target))
  return fs.existsSync(inside) ? inside : destination
}

class World {
  readonly directory: string
  readonly source: string
  readonly target: string
  readonly #options: ConformanceOptions
  #writer: ChildProcess | undefined
  readonly #followers: ChildProcess[] = []
  #committed = 0
  #scratches = 0

  constructor(options: ConformanceOptions, directory: string, source: string) {
    this.#options = options
    this.directory = directory
    this.source = source
    fs.mkdirSync(join(directory, 'copy'))
    this.target = join(directory, 'copy', options.targetName ?? basename(source))
  }

  /** The last number that the writer promised. */
  committed(): number {
    return this.#committed
  }

  async startWriter(): Promise<void> {
    const { command, arguments: given } = this.#options.writer(this.source)
    const writer = spawn(command, given, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#writer = writer
    const before = this.#committed
    const lines = createInterface({ input: writer.stdout })
    lines.on('line', line => {
      const number = Number(line.trim())
      if (Number.isSafeInteger(number)) this.#committed = Math.max(this.#committed, number)
    })
    await until(() => this.#committed > before, `the writer commits (${command} ${given.join(' ')})`)
  }

  async stopWriter(): Promise<void> {
    const writer = this.#writer
    this.#writer = undefined
    if (writer !== undefined) await this.end(writer, 'SIGKILL')
  }

  async restartWriter(): Promise<void> {
    await this.stopWriter()
    await this.startWriter()
  }

  /** Ends what still runs. */
  async close(): Promise<void> {
    await this.stopWriter()
    for (const follower of this.#followers) await this.end(follower, 'SIGKILL')
  }

  follow(): ChildProcess {
    const given = [
      hotspare,
      'follow',
      this.source,
      this.target,
      '--json',
      ...(this.#options.followArguments ?? []),
    ]
    const follower = spawn(process.execPath, given, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#followers.push(follower)
    return follower
  }

  /** Resolves when the follower says that the copy is complete. */
  async isLive(follower: ChildProcess): Promise<void> {
    const said = collect(follower)
    await until(() => {
      assert.equal(follower.exitCode, null, `the follower ended by itself: ${said()}`)
      return said().includes('"live"')
    }, 'the follower is live')
  }

  /** Kills a follower after a time, which counts from when it is live when `afterLive`. */
  async followUntilKilled(lifeMs: number, afterLive: boolean): Promise<void> {
    const follower = this.follow()
    const said = collect(follower)
    if (afterLive) await this.isLive(follower)
    await Promise.race([sleep(lifeMs), ended(follower)])
    assert.equal(follower.exitCode, null, `the follower ended by itself: ${said()}`)
    await this.end(follower, 'SIGKILL')
  }

  /** Judges a clone of the copy's files, if there is a copy yet; gives the number that it holds. */
  async judgeCopy(floor: number): Promise<number> {
    if (!fs.existsSync(this.target)) {
      assert.equal(floor, 0, 'the copy was there before, and is gone')
      return 0
    }
    const { last } = await this.judgeStore(this.target)
    assert.ok(last >= floor, `the copy holds ${last} commits, and held ${floor} before`)
    // the writer prints after it has committed: wait until it has said as much
    if (this.#writer !== undefined) await until(() => this.#committed >= last, `the writer promises ${last}`)
    return last
  }

  async judgeStore(store: string): Promise<Judgement> {
    const scratch = join(this.directory, `scratch-${++this.#scratches}`)
    fs.mkdirSync(scratch)
    try {
      return await this.#options.judge(cloneFiles(store, scratch), scratch)
    } finally {
      fs.rmSync(scratch, { recursive: true, force: true })
    }
  }

  /** Runs a command to its end, which has to be good. */
  async hotspare(...given: string[]): Promise<void> {
    const child = spawn(process.execPath, [hotspare, ...given, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const said = collect(child)
    await ended(child)
    assert.equal(child.exitCode, 0, `hotspare ${given.join(' ')}: ${said()}`)
  }

  async end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await ended(child)
  }
}

async function openWorld(t: TestContext, options: ConformanceOptions): Promise<World> {
  const directory = fs.mkdtempSync(join(tmpdir(), 'hotspare-conformance-'))
  let world: World | undefined
  try {
    world = new World(options, directory, await options.prepare(t, directory))
  } finally {
    // after what `prepare` has to end, since hooks run in the order of their registration
    t.after(async () => {
      await world?.close()
      fs.rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
    })
  }
  await world.startWriter()
  return world
}

/** Copies a stopped store's files: its own, and those beside it that begin with its name (SQLite's `-wal`). */
export function cloneFiles(store: string, scratch: string): string {
  const name = basename(store)
  for (const entry of fs.readdirSync(dirname(store))) {
    const sidecar = entry === `${name}.hotspare`
    if (entry !== name && (sidecar || !entry.startsWith(`${name}-`))) continue
    fs.cpSync(join(dirname(store), entry), join(scratch, entry), { recursive: true })
  }
  return join(scratch, name)
}

function collect(child: ChildProcess): () => string {
  let said = ''
  const bytesMax = 1_000_000
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      said = (said + data.toString()).slice(-bytesMax)
    })
  }
  return () => said
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + patienceMs
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `waited in vain for this: ${what}`)
    await sleep(5)
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

/** Numbers from 0 to 1 that a seed determines (xorshift32). */
function seeded(t: TestContext): () => number {
  t.diagnostic(`HOTSPARE_SEED=${seed}`)
  let state = seed | 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}
