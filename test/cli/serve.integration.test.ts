/** Two servers as two processes, paired by token and linked over loopback, around a store that is written to. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { hotspare, killStarted, main, object, type Run, start } from './hotspare.ts'

const root = await fs.mkdtemp(join(tmpdir(), 'hotspare-serve-'))
const writers = new Set<ChildProcess>()
const stores = { alpha: join(root, 'alpha/app.db'), beta: join(root, 'beta/app.db') }
type Name = keyof typeof stores

after(async () => {
  for (const writer of writers) writer.kill('SIGKILL')
  killStarted()
  await fs.rm(root, { recursive: true, maxRetries: 10, retryDelay: 100 })
})

function on(name: Name, ...args: string[]): string[] {
  return [...args, '-c', join(root, name, 'hotspare.yaml')]
}

async function serve(name: Name): Promise<Run> {
  const run = start(...on(name, 'serve', '--json'))
  await run.event('started')
  return run
}

/** Until the status is so; a server may be between two states for a moment. */
async function until(name: Name, what: string, fits: (status: string) => boolean): Promise<void> {
  let last = ''
  for (let tries = 0; tries < 100; tries++) {
    last = (await hotspare(...on(name, 'query', '--json'))).stdout
    if (fits(last)) return
    await sleep(100)
  }
  assert.fail(`${name} is not ${what}: ${last}`)
}

const isComplete = (text: string) => {
  const status = JSON.parse(text)
  return status.role === 'standby' && status.stores.every((one: { consistent?: object }) => one.consistent)
}

/** A writer that pauses 2 ms between commits, and the last number that it has said to be committed. */
async function write(path: string): Promise<{ committed(): number; stop(): Promise<void> }> {
  const script = join(import.meta.dirname, '../writers/sqlite-writer.ts')
  const child = spawn(process.execPath, [script, path, '--pause-ms', '2'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  writers.add(child)
  let text = ''
  child.stdout.on('data', data => {
    text += data
  })
  while (text.split('\n').length < 4) await sleep(10)
  return {
    committed: () => Number(text.split('\n').at(-2)?.replace(/\D/g, '')),
    async stop() {
      child.kill('SIGKILL')
      await once(child, 'close')
      writers.delete(child)
    },
  }
}

function look(path: string): { integrity: unknown; last: number; rows: number; sum: number } {
  const database = new DatabaseSync(path)
  try {
    const { integrity_check: integrity } = database.prepare('PRAGMA integrity_check').get() as {
      integrity_check: unknown
    }
    const figures = database
      .prepare(
        'SELECT max(number) AS last, count(*) AS rows, (SELECT sum(balance) FROM account) AS sum FROM entry',
      )
      .get() as { last: number; rows: number; sum: number }
    return { integrity, ...figures }
  } finally {
    database.close()
  }
}

/** Whole, without a gap, and at least up to `promised`. */
function assertHas(path: string, promised: number): void {
  const { integrity, last, rows, sum } = look(path)
  assert.deepEqual({ integrity, rows, sum }, { integrity: 'ok', rows: last, sum: 0 })
  assert.ok(last >= promised, `${path} has ${last}, and ${promised} were promised`)
}

function pair(): void {
  const run = (args: readonly string[], input = ''): string => {
    const ended = spawnSync(process.execPath, [main, ...args], { input, encoding: 'utf8' })
    assert.equal(ended.status, 0, ended.stderr)
    return ended.stdout
  }
  run(on('beta', 'pair', '--take'), JSON.parse(run(on('alpha', 'pair', 'beta', '--json'))).token)
}

async function configure(): Promise<void> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  const config = async (name: Name, lines: string) => {
    await fs.mkdir(join(root, name))
    const common = `name: ${name}\nstate: state\nstores:\n  - path: app.db\n    driver: sqlite\n`
    await fs.writeFile(join(root, name, 'hotspare.yaml'), common + lines)
  }
  await config('alpha', `role: primary\nlisten: 127.0.0.1:${port}\npeers:\n  - name: beta\n`)
  const address = `tcp://127.0.0.1:${port}`
  await config('beta', `role: standby\nupstream: alpha\npeers:\n  - name: alpha\n    address: ${address}\n`)
}

test('what wait promised is in the promoted standby, whoever was killed before; and back again nothing is lost', async () => {
  await configure()
  pair()
  const writer = await write(stores.alpha)
  let alpha = await serve('alpha')
  let beta = await serve('beta')
  await until('beta', 'complete', isComplete)
  const promise = async (): Promise<number> => {
    const committed = writer.committed()
    await object(...on('alpha', 'wait', '--for', 'beta', '--timeout', '15s'))
    return committed
  }
  await promise()
  const { exit, stdout } = await hotspare(...on('beta', 'status', '--check'))
  assert.equal(exit, 0, stdout)
  assert.equal((await hotspare(...on('alpha', 'status'))).exit, 0)
  assert.equal((await object(...on('alpha', 'probe', 'beta', '--size', '1KiB'))).bytes, 1024)

  await object(...on('beta', 'apply', 'off'))
  const clone = join(root, 'clone.db')
  assert.equal((await hotspare('clone', stores.beta, clone)).exit, 0)
  assertHas(clone, 1)
  await promise()
  await object(...on('beta', 'apply', 'on'))

  await beta.end('SIGKILL')
  beta = await serve('beta')
  await promise()
  await alpha.end('SIGKILL')
  alpha = await serve('alpha')
  const promised = await promise()
  await alpha.end('SIGKILL')
  await writer.stop()

  await object(...on('beta', 'promote'))
  assertHas(stores.beta, promised)

  alpha = await serve('alpha')
  await object(...on('alpha', 'rejoin', 'beta'))
  await until('alpha', 'a standby', isComplete)
  await object(...on('beta', 'wait', '--for', 'alpha', '--timeout', '15s'))
  const before = look(stores.beta)
  const planned = await object(...on('alpha', 'promote', '--planned'))
  assert.deepEqual(planned.lost, { kind: 'nothing' })
  assert.deepEqual(look(stores.alpha), before)
  await until('beta', 'a standby', text => JSON.parse(text).role === 'standby')
  for (const run of [alpha, beta]) assert.equal((await run.end('SIGTERM')).exit, 0)
})
