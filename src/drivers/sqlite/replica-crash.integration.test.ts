import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { seed } from '../../os/testing/seed.ts'
import { checkSqliteCopy } from './check.ts'
import { cloneSqliteCopy } from './clone.ts'
import { openSqliteReplica } from './replica.ts'
import { accountsTotal, randomFrom } from './testing/accounts.ts'
import { copyOptionsIn, optionsIn, scratch, sqlite3, store } from './testing/copy-fixture.ts'

const kills = Number(process.env.HOTSPARE_KILLS ?? 15)

const children = new Set<ChildProcess>()

function child(script: string, ...args: string[]): ChildProcess {
  const started = spawn(process.execPath, [join(import.meta.dirname, 'testing', script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.add(started)
  started.once('close', () => children.delete(started))
  return started
}

/** However a test ends, its processes end before its directory is removed. */
async function endChildren(): Promise<void> {
  await Promise.all(
    [...children].map(async running => {
      running.kill('SIGKILL')
      await once(running, 'close')
    }),
  )
}

async function scratchWithChildren(): Promise<Awaited<ReturnType<typeof scratch>>> {
  const dir = await scratch()
  return {
    at: dir.at,
    async [Symbol.asyncDispose]() {
      await endChildren()
      await dir[Symbol.asyncDispose]()
    },
  }
}

/** The last transaction that the applier said is durable, as it says so. */
class Applier {
  readonly process: ChildProcess
  durable = 0
  readonly #lines: NodeJS.EventEmitter
  constructor(at: string, seedOfRun: number) {
    this.process = child('copy-applier.ts', at, String(seedOfRun))
    this.#lines = createInterface({ input: this.process.stdout! }).on('line', line => {
      this.durable = Number(line)
    })
  }
  async started(): Promise<void> {
    const line = once(this.#lines, 'line').then(() => undefined)
    const ended = await Promise.race([line, once(this.process, 'exit')])
    assert.equal(ended, undefined, 'the applier is at work')
  }
  async kill(): Promise<void> {
    assert.equal(this.process.exitCode, null, 'the applier is at work')
    const closed = once(this.process, 'close')
    this.process.kill('SIGKILL')
    await closed
  }
}

/** A reader's last line and status. */
async function endOf(reader: ChildProcess): Promise<{ text: string; status: number | null }> {
  let text = ''
  reader.stdout!.on('data', data => {
    text += data
  })
  const closed = once(reader, 'close')
  reader.kill('SIGTERM')
  const [status] = await closed
  return { text: text.trim().split('\n').at(-1)!, status }
}

for (const withReader of [false, true]) {
  const who = withReader ? ', with a reader in another process that stays' : ''
  test(`a crash at any moment leaves a whole transaction, and none that was durable is lost${who} (HOTSPARE_SEED=${seed})`, async () => {
    await using dir = await scratchWithChildren()
    const random = randomFrom(seed)
    const copy = join(dir.at, 'copy.db')
    let reader: ChildProcess | undefined
    for (let kill = 0; kill < kills; kill++) {
      const applier = new Applier(dir.at, seed + kill)
      await applier.started()
      if (withReader && reader === undefined) {
        reader = child('copy-reader.ts', copy, 'keep')
        await once(createInterface({ input: reader.stdout! }), 'line')
      }
      await delay(random() * 300)
      await applier.kill()
      await inspectAfterCrash(dir.at, applier.durable, random, kill)
      assert.equal(existsSync(`${copy}-wal`), withReader)
    }
    if (reader === undefined) return
    const { text, status } = await endOf(reader)
    assert.equal(status, 0, text)
  })
}

/** By the bare engine first, or by us; then following begins and ends. */
async function inspectAfterCrash(
  at: string,
  durable: number,
  random: () => number,
  kill: number,
): Promise<void> {
  const copy = join(at, 'copy.db')
  if (random() < 0.5) {
    const found = sqlite3(
      copy,
      'PRAGMA integrity_check; SELECT number FROM progress; SELECT sum(balance) FROM accounts',
    )
    const [integrity, number, total] = found.split('\n')
    assert.equal(integrity, 'ok')
    assert.equal(Number(total), accountsTotal)
    assert.ok(Number(number) >= durable, `${number} is found, ${durable} was durable`)
  }
  if (random() < 0.3) {
    const report = await checkSqliteCopy(copyOptionsIn(at))
    assert.deepEqual(
      report.findings.filter(finding => !finding.ok),
      [],
    )
  }
  const replica = await openSqliteReplica(optionsIn(at))
  const position = await replica.position(store)
  assert.notEqual(position, undefined)
  if (random() < 0.5) {
    const destination = join(at, `clone-${kill}.db`)
    const report = await cloneSqliteCopy({ ...copyOptionsIn(at), destination })
    assert.equal(report.commit.position, position)
    assert.ok(Number(sqlite3(destination, 'SELECT number FROM progress')) >= durable)
  }
  await replica.close()
}

test(`readers in other processes see whole transactions in order, while the copy is followed and cloned (HOTSPARE_SEED=${seed})`, async () => {
  await using dir = await scratchWithChildren()
  const copy = join(dir.at, 'copy.db')
  const applier = new Applier(dir.at, seed)
  await applier.started()
  const readers = ['keep', 'keep', 'reopen'].map(manner => child('copy-reader.ts', copy, manner))
  const untilMs = Date.now() + Number(process.env.HOTSPARE_STRESS_MS ?? 6000)
  for (let i = 0; Date.now() < untilMs; i++) {
    const destination = join(dir.at, `clone-${i}.db`)
    await cloneSqliteCopy({ ...copyOptionsIn(dir.at), destination })
    const [integrity, total] = sqlite3(
      destination,
      'PRAGMA integrity_check; SELECT sum(balance) FROM accounts',
    ).split('\n')
    assert.deepEqual([integrity, Number(total)], ['ok', accountsTotal])
    const report = await checkSqliteCopy(copyOptionsIn(dir.at))
    assert.deepEqual(
      report.findings.filter(finding => !finding.ok),
      [],
    )
  }
  for (const reader of readers) {
    const { text, status } = await endOf(reader)
    assert.equal(status, 0, text)
    const { reads, seen } = JSON.parse(text) as { reads: number; seen: number }
    assert.ok(reads > 10 && seen > 5, text)
  }
  await applier.kill()
})

const mountable = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

test('a full disk at any step leaves a whole transaction, and following goes on when there is space', {
  skip: mountable
    ? false
    : 'needs a mount namespace of its own: run as root, with util-linux (apt-get install util-linux)',
}, async () => {
  await using dir = await scratch()
  const disk = join(dir.at, 'disk')
  mkdirSync(disk)
  const script = join(import.meta.dirname, 'testing', 'copy-full-disk.ts')
  const output = execFileSync(
    'unshare',
    [
      '-m',
      'sh',
      '-c',
      'mount -t tmpfs -o size=48m tmpfs "$1" && exec "$2" "$3" "$4" "$1"',
      'sh',
      disk,
      process.execPath,
      script,
      dir.at,
    ],
    { encoding: 'utf8', env: { ...process.env, HOTSPARE_SEED: String(seed) } },
  )
  const { faults } = JSON.parse(output) as { faults: number }
  assert.ok(faults > 10, `${faults} faults`)
})
