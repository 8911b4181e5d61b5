/**
 * A primary and a standby as two processes on this machine, linked over loopback with TLS: from a commit to its being
 * durable at the standby, the first synchronisation, and how long until a promoted standby can be written to.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { askServer, callServer, connectServer } from '../src/daemon/server-client.ts'
import { parseTcpAddress } from '../src/os/tcp-transport.ts'
import { freePort } from '../src/os/testing/free-port.ts'
import type { PromotionReport, ServerStatus } from '../src/server/server.ts'
import type { Benchmark, Setting } from './bench.ts'
import { makeDatabase } from './first-copy.ts'
import { end, ended, median, percentile, run, settle } from './measure.ts'

const writerScript = fileURLToPath(new URL('../test/writers/sqlite-writer.ts', import.meta.url))
const bareChain = fileURLToPath(new URL('./processes/bare-chain.ts', import.meta.url))
const patienceMs = 120_000
const reportMs = 25
const warmUpMs = 1000
/** As much as the servers move at once under the writer's full speed, about. */
const pagesAtOnce = 24
/** Of the size of what is copied; the rest is for the processes themselves. */
const memoryFactor = 1.5

/**
 * While an application writes at full speed, from one of its commits after another to its being durable at the standby. And
 * the same of two bare processes (bare-chain.ts), which move as many bytes: beside the writer alone, and beside one that is
 * followed, so that checkpoints are taken off it as here; there also with no more than a page at once.
 */
export const standbyLatency: Benchmark = {
  name: 'standby-latency',
  async run(setting) {
    const seconds = Math.max(setting.scale.seconds, 3)
    const bare = await bareLatency(setting, seconds, pagesAtOnce, false)
    const followed = await bareLatency(setting, seconds, pagesAtOnce, true)
    const page = await bareLatency(setting, seconds, 1, true)
    const half = (all: readonly number[]) => percentile(all, 50).toFixed(2)
    const { latencies, behindMs } = await Pair.with(setting, 'latency', undefined, async pair => {
      await pair.start()
      const connected = Array.from({ length: 4 }, () => connectServer(pair.state('alpha')))
      const measured = await probed(pair.source, seconds, async () => {
        connected.push(connectServer(pair.state('alpha')))
        const socket = await (connected.shift() as Promise<Socket>)
        await pair.allDurable(socket)
      })
      for (const socket of connected) (await socket).destroy()
      return measured
    })
    const [p50, p99] = [percentile(latencies, 50), percentile(latencies, 99)]
    return [
      {
        what: "standby, the primary's writer at full speed: commit to durable at the standby",
        against: `bare processes: p50 ${half(bare)} ms; beside a follower ${half(followed)}, with a page ${half(page)} ms`,
        figure: `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms; ${behindMs.toFixed(1)} ms behind at its end`,
        value: p50,
        toReach: 'p50 at most 5 ms, p99 at most 100 ms',
        reached: p50 <= 5 && p99 <= 100 && behindMs <= 1000,
        details: { latencies, behindMs, bare, followed, page },
      },
    ]
  },
}

/**
 * Milliseconds from commits of a writer at full speed, one about every `reportMs`, until the question that is asked right
 * after it is answered; and how long that takes once the writer has ended.
 */
async function probed(
  path: string,
  seconds: number,
  durable: () => Promise<void>,
): Promise<{ readonly latencies: readonly number[]; readonly behindMs: number }> {
  const given = ['--seconds', String(seconds), '--report-ms', String(reportMs), '--report-times']
  const writer = spawn(process.execPath, [writerScript, path, ...given], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const beganMs = performance.now()
  const latencies: number[] = []
  const answers: Promise<void>[] = []
  const measure = async (committedMs: number) => {
    await durable()
    latencies.push(performance.timeOrigin + performance.now() - committedMs)
  }
  for await (const line of createInterface({ input: writer.stdout })) {
    const [, committedMs] = /^\d+ (\S+)$/.exec(line) ?? []
    if (committedMs === undefined || performance.now() - beganMs < warmUpMs) continue
    // one that takes long holds up none of those after it
    answers.push(measure(Number(committedMs)))
  }
  await ended(writer)
  const startMs = performance.now()
  await durable()
  const behindMs = performance.now() - startMs
  await Promise.all(answers)
  return { latencies, behindMs }
}

async function bareLatency(
  setting: Setting,
  seconds: number,
  pagesAtOnce: number,
  isFollowed: boolean,
): Promise<readonly number[]> {
  const directory = join(setting.directory, 'bare')
  mkdirSync(directory)
  const path = join(directory, 'app.db')
  const database = new DatabaseSync(path)
  const children: ChildProcess[] = []
  const begin = async (...given: readonly string[]) => {
    const child = spawn(process.execPath, [bareChain, ...given], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    for await (const line of createInterface({ input: child.stdout })) return line
    throw new Error(`${given[0]}: it ended before it listened`)
  }
  try {
    // open, so that the log stays where it is
    database.exec('PRAGMA journal_mode = WAL; CREATE TABLE made (id INTEGER PRIMARY KEY)')
    const pages = String(pagesAtOnce)
    const address = await begin('standby', directory, pages)
    const { host, port } = parseTcpAddress(await begin('primary', directory, pages, `${path}-wal`, address))
    if (isFollowed) {
      const copy = join(directory, 'copy.db')
      children.push(spawn(process.execPath, [setting.hotspare, 'follow', path, copy], { stdio: 'ignore' }))
      const endMs = performance.now() + patienceMs
      while (!existsSync(copy)) {
        if (performance.now() > endMs) throw new Error('the follower made no copy')
        await sleep(10)
      }
    }
    const asking = connect({ host, port }).setNoDelay().setMaxListeners(0)
    const waiting: (() => void)[] = []
    asking.on('data', (answers: Buffer) => {
      for (const _ of answers) waiting.shift()?.()
    })
    const { latencies } = await probed(path, seconds, async () => {
      const answered = new Promise<void>((resolve, reject) => {
        waiting.push(resolve)
        asking.once('close', () => reject(new Error('the bare primary has ended')))
      })
      asking.write('?')
      await answered
    }).finally(() => asking.destroy())
    return latencies
  } finally {
    for (const child of children.reverse()) await end(child)
    database.close()
    rmSync(directory, { recursive: true })
  }
}

/**
 * The same database, once to a new standby and once by rsync over ssh, in turn. Ours is durable at its end; rsync's is not,
 * and what a sync of its copy adds stands in the details. What was written before is on the disk when either begins, else
 * whoever syncs first pays for the preparation; and either finds as much memory that was just used.
 */
export const standbyFirst: Benchmark = {
  name: 'standby-first',
  peers: { rsync: 'rsync', sshd: 'openssh-server', ssh: 'openssh-client' },
  async run(setting) {
    const { scale, directory } = setting
    const original = join(directory, 'original.db')
    makeDatabase(original, scale.bytes)
    const ssh = await Sshd.start(join(directory, 'ssh'))
    const ratios: number[] = []
    const durable: number[] = []
    const seconds: { ours: number; rsync: number; sync: number }[] = []
    try {
      for (let i = 0; i < Math.min(Math.max(scale.runs, 1), 3); i++) {
        const rsynced = join(directory, `rsync-${i}.db`)
        await settle(directory, memoryFactor * scale.bytes)
        const theirs = await run('rsync', ['-a', '-e', ssh.command, original, `127.0.0.1:${rsynced}`])
        const synced = await run('sync', [rsynced])
        const oursMs = await Pair.with(setting, `first-${i}`, original, async pair => {
          await settle(directory, memoryFactor * scale.bytes)
          await pair.serve('alpha')
          const startMs = performance.now()
          await pair.serve('beta')
          await pair.complete()
          return performance.now() - startMs
        })
        seconds.push({ ours: oursMs / 1000, rsync: theirs.seconds, sync: synced.seconds })
        ratios.push(oursMs / 1000 / theirs.seconds)
        durable.push(oursMs / 1000 / (theirs.seconds + synced.seconds))
      }
    } finally {
      await ssh.end()
    }
    const ratio = median(ratios)
    return [
      {
        what: `first synchronisation of a standby, ${(scale.bytes / 2 ** 30).toFixed(2)} GiB SQLite`,
        against: 'rsync -a over ssh',
        figure: `${ratio.toFixed(2)} of its time`,
        value: ratio,
        toReach: 'at most 0.8',
        reached: ratio <= 0.8,
        details: { ratios, ratiosToRsyncAndSync: durable, seconds },
      },
    ]
  },
}

/** From SIGKILL of the primary to a row that is written into the promoted replica. */
export const failover: Benchmark = {
  name: 'failover',
  async run(setting) {
    const { scale, directory } = setting
    const original = join(directory, 'original.db')
    makeDatabase(original, scale.bytes)
    const { ms, report } = await Pair.with(setting, 'failover', original, async pair => {
      await pair.start()
      const startMs = performance.now()
      await pair.kill('alpha')
      const report = await callServer<PromotionReport>(
        pair.state('beta'),
        { request: 'promote', planned: false, dryRun: false, force: false },
        AbortSignal.timeout(patienceMs),
      )
      write(pair.copy, 'CREATE TABLE after_promotion (id INTEGER PRIMARY KEY)')
      return { ms: performance.now() - startMs, report }
    })
    return [
      {
        what: `failover: SIGKILL of the primary to the replica open, ${(scale.bytes / 2 ** 30).toFixed(2)} GiB SQLite`,
        against: '-',
        figure: `${(ms / 1000).toFixed(2)} s`,
        value: ms,
        toReach: 'at most 2 s',
        reached: ms <= 2000,
        details: { steps: report.steps },
      },
    ]
  },
}

function write(path: string, sql: string): void {
  const database = new DatabaseSync(path)
  database.exec('PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL')
  database.exec(sql)
  database.close()
}

/** Two paired servers with one SQLite store. */
class Pair {
  readonly directory: string
  readonly #hotspare: string
  readonly source: string
  readonly copy: string
  readonly #servers = new Map<string, ChildProcess>()

  private constructor(directory: string, hotspare: string) {
    this.directory = directory
    this.#hotspare = hotspare
    this.source = join(directory, 'alpha', 'app.db')
    this.copy = join(directory, 'beta', 'app.db')
  }

  /** The servers are ended with the work, whatever becomes of it. */
  static async with<T>(
    { directory, hotspare }: Setting,
    name: string,
    original: string | undefined,
    work: (pair: Pair) => Promise<T>,
  ): Promise<T> {
    const pair = new Pair(join(directory, name), hotspare)
    try {
      await pair.#make(original)
      return await work(pair)
    } finally {
      for (const child of pair.#servers.values()) await end(child)
      rmSync(pair.directory, { recursive: true })
    }
  }

  async #make(original: string | undefined): Promise<void> {
    const port = await freePort()
    for (const server of ['alpha', 'beta']) mkdirSync(join(this.directory, server), { recursive: true })
    if (original !== undefined) copyFileSync(original, this.source)
    write(this.source, 'CREATE TABLE IF NOT EXISTS made (id INTEGER PRIMARY KEY)')
    const config = (server: string, lines: string) =>
      writeFileSync(
        join(this.directory, server, 'hotspare.yaml'),
        `name: ${server}\nstate: state\nstores:\n  - path: app.db\n    driver: sqlite\n${lines}`,
      )
    config('alpha', `role: primary\nlisten: 127.0.0.1:${port}\npeers:\n  - name: beta\n`)
    config(
      'beta',
      `role: standby\nupstream: alpha\npeers:\n  - name: alpha\n    address: tcp://127.0.0.1:${port}\n`,
    )
    const token = this.#command('alpha', ['pair', 'beta', '--json'])
    this.#command('beta', ['pair', '--take'], (JSON.parse(token) as { token: string }).token)
  }

  state(server: string): string {
    return join(this.directory, server, 'state')
  }

  async start(): Promise<void> {
    await this.serve('alpha')
    await this.serve('beta')
    await this.complete()
  }

  async serve(server: string): Promise<void> {
    const child = spawn(process.execPath, [this.#hotspare, 'serve', '--json'], {
      cwd: join(this.directory, server),
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#servers.set(server, child)
    let said = ''
    child.stdout.on('data', data => {
      said += data
    })
    while (!said.includes('"event":"started"')) {
      if (child.exitCode !== null) throw new Error(`the server ${server} ended with status ${child.exitCode}`)
      await sleep(2)
    }
    child.stdout.removeAllListeners('data').resume()
  }

  /** Resolves when the standby's copy is complete, and has what the primary has. */
  async complete(): Promise<void> {
    const endMs = performance.now() + patienceMs
    for (;;) {
      const { stores } = await this.#status('beta')
      if (stores.every(({ consistent }) => consistent !== undefined)) break
      if (performance.now() > endMs) throw new Error(`the standby is not complete: ${JSON.stringify(stores)}`)
      await sleep(5)
    }
    await this.allDurable()
  }

  /** Resolves when all that was committed before is durable at the standby; `socket` is used up. */
  async allDurable(socket?: Socket): Promise<void> {
    const asked = socket ?? (await connectServer(this.state('alpha')))
    await askServer(asked, { request: 'wait', peer: 'beta' }, AbortSignal.timeout(patienceMs))
  }

  #status(server: string): Promise<ServerStatus> {
    return callServer(this.state(server), { request: 'status' }, AbortSignal.timeout(patienceMs))
  }

  async kill(server: string): Promise<void> {
    await end(this.#servers.get(server) as ChildProcess, 'SIGKILL')
  }

  #command(server: string, given: readonly string[], input = ''): string {
    const { status, stdout, stderr } = spawnSync(process.execPath, [this.#hotspare, ...given], {
      cwd: join(this.directory, server),
      input,
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`hotspare ${given.join(' ')}: ${stderr}`)
    return stdout
  }
}

/** A server for ssh on loopback, with keys of its own. */
class Sshd {
  readonly #child: ChildProcess
  readonly command: string

  private constructor(child: ChildProcess, command: string) {
    this.#child = child
    this.command = command
  }

  static async start(directory: string): Promise<Sshd> {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    chmodSync(directory, 0o700)
    const [hostKey, key] = [join(directory, 'host'), join(directory, 'key')]
    for (const path of [hostKey, key]) await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path])
    copyFileSync(`${key}.pub`, join(directory, 'authorized'))
    const port = await freePort()
    const config = join(directory, 'sshd_config')
    writeFileSync(
      config,
      `Port ${port}\nListenAddress 127.0.0.1\nHostKey ${hostKey}\nAuthorizedKeysFile ${join(directory, 'authorized')}\nStrictModes no\nUsePAM no\nPidFile none\n`,
    )
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true })
    const program = spawnSync('sh', ['-c', 'command -v sshd || echo /usr/sbin/sshd'], { encoding: 'utf8' })
    const child = spawn(program.stdout.trim(), ['-D', '-e', '-f', config], { stdio: 'ignore' })
    const command = `ssh -p ${port} -i ${key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -l ${userInfo().username}`
    for (let tries = 0; tries < 100; tries++) {
      if (spawnSync('sh', ['-c', `${command} 127.0.0.1 true`], { stdio: 'ignore' }).status === 0)
        return new Sshd(child, command)
      await sleep(50)
    }
    throw new Error('sshd does not answer')
  }

  end(): Promise<void> {
    return end(this.#child)
  }
}
