import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, test } from 'node:test'
import { openLog } from '../../src/log/segment-log.ts'
import { append, storeA } from '../../src/log/testing/log-harness.ts'
import { systemClock } from '../../src/os/clock.ts'
import { errorCodes } from '../../src/os/errors.ts'
import { nodeStorage } from '../../src/os/node-storage.ts'
import { systemRandom } from '../../src/os/random.ts'
import { assertError, hotspare, killStarted, object } from './hotspare.ts'

const root = await fs.mkdtemp(join(tmpdir(), 'hotspare-queue-'))
after(() => fs.rm(root, { recursive: true }))
afterEach(killStarted)

/** A server's log with twenty transactions. */
async function made(name: string, role = 'role: primary') {
  const directory = join(root, name)
  await fs.mkdir(join(directory, 'state'), { recursive: true })
  const config = join(directory, 'hotspare.yaml')
  await fs.writeFile(
    config,
    `name: alpha\n${role}\nstate: state\nstores:\n  - path: app.db\n    driver: sqlite\n`,
  )
  const log = await openLog({
    storage: nodeStorage,
    clock: systemClock,
    random: systemRandom,
    directory: join(directory, 'state/log'),
    limits: { bytesMax: 2 ** 30, whenFull: 'block', keepMs: 0, keepBytes: 2 ** 30 },
    onNotice: () => undefined,
  })
  await log.subscribe('beta', 0)
  for (let i = 1; i <= 20; i++) await append(log, storeA, i)
  await log.sync()
  return { directory, log, queue: (...args: string[]) => [...['queue', ...args], '-c', config] }
}

async function numbers(args: readonly string[]): Promise<unknown[]> {
  const { exit, stdout, stderr } = await hotspare(...args, '--json')
  assert.equal(exit, 0, stderr)
  return stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line).number)
}

test('a log that a process has open is shown, verified and copied from, and not changed', async () => {
  const { directory, log, queue } = await made('open')
  assert.deepEqual(await numbers(queue('show', '--from', '7', '--count', '3')), [7, 8, 9])
  assert.equal((await object(...queue('verify'))).transactions, 20)
  const file = join(directory, 'nine.txlog')
  assert.equal((await object(...queue('first', file, '--number', '9'))).number, 9)
  assert.deepEqual(await numbers(['queue', 'show', '--data', '--file', file]), [9])
  assertError(await hotspare(...queue('first', file)), 'usage')
  assertError(await hotspare(...queue('clear', '--yes')), 'log-busy')
  assertError(await hotspare(...queue('move', '10', '--yes')), 'log-busy')
  assert.deepEqual([log.first, log.next], [1, 21])
  await log.close()
})

test('the log of a stopped server is changed by who says --yes alone', async () => {
  const { log, queue } = await made('stopped')
  await log.close()
  assertError(await hotspare(...queue('clear')), 'usage')
  assertError(await hotspare(...queue('move', '10')), 'usage')
  assert.equal((await object(...queue('verify'))).transactions, 20)
  assert.deepEqual((await object(...queue('move', '10', '--yes'))).dropped, ['beta'])
  assert.ok(((await object(...queue('clear', '--yes'))).transactions as number) > 0)
  assert.equal((await object(...queue('verify'))).transactions, 0)
})

test('whoever clears the log of a standby is told that what it has not applied goes too', async () => {
  const upstream = 'role: standby\nupstream: beta\npeers:\n  - name: beta\n    address: tcp://localhost:7001'
  const standby = await made('standby', upstream)
  await standby.log.close()
  const primary = await made('primary')
  await primary.log.close()
  for (const args of [['clear'], ['move', '10']]) {
    assert.match((await hotspare(...standby.queue(...args))).stderr, /have not applied yet/)
    assert.doesNotMatch((await hotspare(...primary.queue(...args))).stderr, /have not applied yet/)
  }
})

test('a damaged log is named with file and offset, and ends with the status of its code', async () => {
  const { directory, log, queue } = await made('damaged')
  await log.close()
  const logDirectory = join(directory, 'state/log')
  const name = (await fs.readdir(logDirectory)).find(one => one.endsWith('.seg')) as string
  const bytes = await fs.readFile(join(logDirectory, name))
  const at = Math.floor(bytes.length / 2)
  bytes[at] = (bytes[at] as number) ^ 0xff
  await fs.writeFile(join(logDirectory, name), bytes)
  const { exit, stdout } = await hotspare(...queue('verify'), '--json')
  assert.equal(exit, errorCodes['log-damaged'].exit)
  assert.equal(JSON.parse(stdout).findings[0].file, join(logDirectory, name))
})
