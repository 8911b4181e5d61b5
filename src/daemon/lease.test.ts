import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { systemClock as clock } from '../os/clock.ts'
import type { HotspareError } from '../os/errors.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { claimLease, deadLeases, type Lease, type LeaseRecord } from './lease.ts'
import { type LeaseEvent, recoverLeases } from './lease-recovery.ts'
import type { Mode } from './mode.ts'
import { stateDirectory } from './state-directory.ts'

let root: string
let flag: string

beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-lease-'))
  flag = join(root, 'flag')
})
afterEach(() => fs.rm(root, { recursive: true }))

const shell = (leave: string): Mode => ({ kind: 'commands', enter: { run: 'true' }, leave: { run: leave } })

function record(more: Partial<LeaseRecord> = {}): LeaseRecord {
  return {
    sinceMs: 1_700_000_000_000,
    pid: 42,
    command: 'hotspare mirror a b',
    source: '/srv/a',
    target: '/backup/a',
    mode: shell(`rm -f ${flag}`),
    timeoutMs: 5_000,
    ...more,
  }
}

const claim = (more: Partial<LeaseRecord> = {}): Promise<Lease> =>
  claimLease(nodeStorage, clock, root, record(more))

const leases = () =>
  fs.readdir(join(root, 'leases')).then(names => names.filter(name => name.endsWith('.json')))

async function recover(): Promise<LeaseEvent[]> {
  const events: LeaseEvent[] = []
  await recoverLeases({
    storage: nodeStorage,
    clock,
    stateDirectory: root,
    attemptsMax: 1,
    onEvent: event => events.push(event),
  })
  return events
}

test('a lease is readable by its owner only, and gone when the mode is left', async () => {
  const lease = await claim()
  assert.equal((await fs.stat(lease.path)).mode & 0o777, 0o600)
  assert.equal((await fs.stat(join(root, 'leases'))).mode & 0o777, 0o700)
  await lease.entering()
  await lease.remove()
  assert.deepEqual(await leases(), [])
})

test('the lease of a mirror that is at work is not touched', async () => {
  const lease = await claim()
  await lease.entering()
  await fs.writeFile(flag, '')
  assert.deepEqual(await recover(), [])
  await fs.access(flag)
  await lease.remove()
})

test('a lease whose mirror was killed is acted on, and then gone', async () => {
  const lease = await claim()
  await lease.entering()
  await fs.writeFile(flag, '')
  await lease.giveUp()
  assert.deepEqual(
    (await recover()).map(event => event.event),
    ['leaving', 'left-late'],
  )
  await assert.rejects(fs.access(flag))
  assert.deepEqual(await leases(), [])
  assert.deepEqual(await recover(), [])
})

test('a mode that was claimed and never entered is not left', async () => {
  const lease = await claim()
  await fs.writeFile(flag, 'by somebody else')
  await lease.giveUp()
  assert.deepEqual(await recover(), [])
  await fs.access(flag)
  assert.deepEqual(await leases(), [])
})

test('of two that start at once one leaves', async () => {
  const log = join(root, 'log')
  const lease = await claim({ mode: shell(`echo left >> ${log}; sleep 0.1`) })
  await lease.entering()
  await lease.giveUp()
  await Promise.all(Array.from({ length: 8 }, recover))
  assert.equal(await fs.readFile(log, 'utf8'), 'left\n')
  assert.deepEqual(await leases(), [])
})

test('a lease that could not be acted on stays, with what to do by hand', async () => {
  const lease = await claim({ mode: shell('echo no such server; exit 3') })
  await lease.entering()
  await lease.giveUp()
  const failed = (await recover()).at(-1)
  assert.equal(failed?.event, 'leave-failed')
  assert.match(
    failed?.event === 'leave-failed' ? failed.message : '',
    /no such server.*by hand: echo no such/,
  )
  assert.equal((await leases()).length, 1)
})

const rivals: readonly (readonly [string, Partial<LeaseRecord>])[] = [
  ['the same source', { mode: shell('other') }],
  ['the same way to leave', { source: '/srv/b' }],
]
for (const [what, more] of rivals) {
  test(`a second mirror with ${what} is refused while the first is at work`, async () => {
    const first = await claim()
    await assert.rejects(claim(more), (error: HotspareError) => {
      assert.equal(error.code, 'window-busy')
      assert.match(error.message, /process 42/)
      return true
    })
    await first.remove()
    await (await claim(more)).remove()
  })
}

test('mirrors of different applications do not hinder each other', async () => {
  const first = await claim()
  const second = await claim({ source: '/srv/b', mode: shell('other') })
  await first.remove()
  await second.remove()
})

test('a mirror of an application that is stuck in its mode is refused, and the lease named', async () => {
  const first = await claim()
  await first.entering()
  await first.giveUp()
  await assert.rejects(claim(), { code: 'leave-failed' })
  assert.equal((await leases()).length, 1)
})

test('of many that claim at once one gets it', async () => {
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => claim()))
  const got = outcomes.filter(outcome => outcome.status === 'fulfilled')
  assert.equal(got.length, 1)
  for (const { value } of got) await value.remove()
})

const damages: readonly (readonly [what: string, text: string, left: number])[] = [
  ['empty, as a race with its owner leaves it', '', 0],
  ['cut short before anything was entered', '{"format":1,"since', 0],
  ['of a later version, and entered', '{"format":2,"how":"unknown"}\n{"entering":true}\n', 1],
  ['of a later version, and only claimed', '{"format":2,"how":"unknown"}\n', 0],
]
for (const [what, text, left] of damages) {
  test(`a lease that is ${what} is ${left === 0 ? 'removed' : 'named, and kept'}`, async () => {
    await fs.mkdir(join(root, 'leases'))
    await fs.writeFile(join(root, 'leases/0.json'), text)
    const events = await recover()
    assert.equal(events.length, left)
    assert.equal((await leases()).length, left)
  })
}

test('what a mirror that was killed while it claimed left is cleared away', async () => {
  await fs.mkdir(join(root, 'leases'))
  await fs.writeFile(join(root, 'leases/0.json.tmp'), '{"for')
  await recover()
  assert.deepEqual(await fs.readdir(join(root, 'leases')), [])
})

test('half of the note that entering began is enough to leave', async () => {
  const lease = await claim()
  await lease.giveUp()
  await fs.appendFile(lease.path, '{"ent')
  let found = 0
  for await (const dead of deadLeases(nodeStorage, root)) {
    found++
    assert.equal(dead.record?.source, '/srv/a')
    await dead.lease.remove()
  }
  assert.equal(found, 1)
})

test('a command to enter that outlives its mirror is ended before the mode is left', async () => {
  const lease = await claim()
  await lease.entering()
  const child = spawn('sh', ['-c', `sleep 0.5; touch ${flag}; sleep 20`], { detached: true, stdio: 'ignore' })
  const stat = await fs.readFile(`/proc/${child.pid}/stat`, 'latin1')
  const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  await lease.running({ pid: child.pid ?? 0, startTicks })
  await lease.giveUp()
  const ended = once(child, 'exit')
  assert.equal((await recover()).at(-1)?.event, 'left-late')
  assert.equal((await ended)[1], 'SIGTERM')
  await assert.rejects(fs.access(flag))
})

test('another process that got the number of a command that has ended is let be', async () => {
  const lease = await claim()
  await lease.entering()
  const child = spawn('sleep', ['20'], { detached: true, stdio: 'ignore' })
  await lease.running({ pid: child.pid ?? 0, startTicks: '1' })
  await lease.giveUp()
  assert.equal((await recover()).at(-1)?.event, 'left-late')
  assert.equal(child.exitCode ?? child.signalCode, null)
  child.kill()
})

test('without a state directory nothing is found, and nothing made', async () => {
  const missing = join(root, 'missing')
  await recoverLeases({ storage: nodeStorage, clock, stateDirectory: missing, onEvent: () => assert.fail() })
  await assert.rejects(fs.access(missing))
})

test('leases are kept where the environment says, or where such things belong', () => {
  assert.equal(stateDirectory({ HOTSPARE_STATE_DIR: '/x/y' }), '/x/y')
  assert.equal(stateDirectory({ HOTSPARE_STATE_DIR: 'y' }), join(process.cwd(), 'y'))
  if (process.getuid?.() === 0) assert.equal(stateDirectory({ XDG_STATE_HOME: '/z' }), '/var/lib/hotspare')
  else assert.equal(stateDirectory({ XDG_STATE_HOME: '/z' }), '/z/hotspare')
})
