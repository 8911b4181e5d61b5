/** A message board at full speed that honours its maintenance mode, mirrored; an administrator who does not; disks that fill. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { BoardReport } from '../../src/cli/demo/board-writer.ts'
import { maintenanceCommands } from '../../src/cli/demo/maintenance-flag.ts'
import { judgeBoard } from '../../src/cli/demo/message-board-judge.ts'
import { Random } from '../../src/os/testing/random.ts'
import { seed } from '../../src/os/testing/seed.ts'
import { assertError, hotspare, killStarted, main, object, Run, start } from './hotspare.ts'

const stateBefore = process.env.HOTSPARE_STATE_DIR

let root: string
let live: string
let target: string
let flag: string
let writer: ChildProcess | undefined
let report: BoardReport | undefined
let mode: string[]

beforeEach(() => {
  root = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'hotspare-mirror-')))
  live = join(root, 'live')
  target = join(root, 'copy')
  flag = join(root, 'flag')
  const commands = maintenanceCommands({ flag, acknowledgement: join(root, 'ack') })
  mode = ['--enter', commands.enter, '--leave', commands.leave, '--verify', commands.verify]
  process.env.HOTSPARE_STATE_DIR = join(root, 'state')
})
afterEach(async () => {
  killStarted()
  if (writer?.exitCode === null && writer.signalCode === null) {
    writer.kill('SIGKILL')
    await once(writer, 'exit')
  }
  writer = undefined
  report = undefined
  if (stateBefore === undefined) delete process.env.HOTSPARE_STATE_DIR
  else process.env.HOTSPARE_STATE_DIR = stateBefore
  fs.rmSync(root, { recursive: true, force: true, maxRetries: 5 })
})

async function startWriter(...options: string[]): Promise<void> {
  const script = join(import.meta.dirname, '../writers/board-writer.ts')
  const files = ['--flag', flag, '--acknowledgement', join(root, 'ack')]
  const args = [script, live, '--prefill', '3000', ...files, ...options]
  writer = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: writer.stdout! })
  lines.on('line', line => {
    report = JSON.parse(line) as BoardReport
  })
  while ((report?.committed ?? 0) <= 3_000) await once(lines, 'line')
}

const leases = () => fs.readdirSync(join(root, 'state/leases')).filter(name => name.endsWith('.json'))

function assertLeft(): void {
  assert.equal(fs.existsSync(flag), false)
  assert.deepEqual(leases(), [])
}

/** The copy is a board that agrees with itself, with so many posts. */
function wholePosts(): number {
  const { tears, posts } = judgeBoard(target)
  assert.deepEqual(tears, [])
  return posts
}

for (const followed of [false, true]) {
  test(`a board that is posted to at full speed is whole in its mirror, ${followed ? 'with a running follower' : 'without a follower'}`, async () => {
    await startWriter()
    const follower = followed ? start('follow', live, target, '--driver', 'directory', '--json') : undefined
    await follower?.event('live')
    let before = 3_000
    for (let window = 0; window < 5; window++) {
      const run = start('mirror', live, target, ...mode, '--json')
      const { exit, stderr } = await run.end()
      assert.equal(exit, 0, stderr)
      const result = run.lines.at(-1)
      assert.equal(result?.followed, followed)
      assert.equal(result?.changedCount, 0)
      const posts = wholePosts()
      assert.ok(posts > before, `${posts} after ${before}`)
      before = posts
      assertLeft()
    }
    await sleep(300)
    // what a follower brings without a window is kept back
    assert.equal(wholePosts(), before)
    if (follower !== undefined) assert.equal((await follower.end('SIGTERM')).exit, 0)
    assert.equal((await object('check', target)).valid, true)
  })
}

test('an archive is made of the copy when the application goes on again, and it is a whole board', async () => {
  await startWriter()
  const file = join(root, 'board.tar.zst')
  const run = start('mirror', live, target, ...mode, '--archive', file, '--json')
  const { exit, stderr } = await run.end()
  assert.equal(exit, 0, stderr)
  const events = run.lines.map(line => line.event)
  assert.ok(events.indexOf('left') < events.indexOf('archived'))
  const { archive } = run.lines.at(-1) as { archive?: { consistent: boolean } }
  assert.equal(archive?.consistent, true)
  const extracted = join(root, 'extracted')
  fs.mkdirSync(extracted)
  execFileSync('tar', ['-xf', file, '-C', extracted])
  const board = judgeBoard(extracted)
  assert.deepEqual(board.tears, [])
  assert.equal(board.posts, wholePosts())

  // known before anybody is held
  for (const [place, code] of [
    ['board.zip', 'usage'],
    ['no/such/board.tar', 'target-missing'],
  ] as const) {
    const refused = start('mirror', live, target, ...mode, '--archive', join(root, place), '--json')
    assertError(await refused.end(), code)
    assert.equal(
      refused.lines.some(line => line.event === 'entered'),
      false,
    )
  }
})

test('what an administrator writes in the window is named, or the mirror says that it never held still', async () => {
  await startWriter('--administrator-ms', '1')
  const first = await hotspare('mirror', live, target, ...mode)
  assert.ok(first.exit === 0 || /never-still|hold-exceeded/.test(first.stderr), first.stderr)
  let named = 0
  for (let window = 0; window < 10; window++) {
    // long enough for the administrator to write in it
    const run = start(
      'mirror',
      live,
      target,
      ...mode,
      '--inside',
      'sleep 0.05',
      '--max-hold',
      '10s',
      '--json',
    )
    const ended = await run.end()
    assertLeft()
    if (ended.exit !== 0) {
      const { code } = JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '').error
      assert.ok(['never-still', 'hold-exceeded'].includes(code), ended.stderr)
      named++
      continue
    }
    const { changed, changedCount } = run.lines.at(-1) as unknown as {
      changed: string[]
      changedCount: number
    }
    assert.equal(changed.length, Math.min(changedCount, 20))
    for (const path of changed) assert.match(path, /^(logs|messages)(\/|$)/)
    if (changedCount > 0) named++
  }
  assert.ok(named > 0)
})

test('a mirror that is killed at any moment leaves a whole copy, and its mode to the next command', async () => {
  await startWriter()
  assert.equal((await hotspare('mirror', live, target, ...mode)).exit, 0)
  const leftOn: boolean[] = []
  const random = new Random(seed)
  for (let kill = 0; kill < 12; kill++) {
    const run = start('mirror', live, target, ...mode, '--inside', 'sleep 0.1', '--json')
    await run.event(kill % 2 === 0 ? 'started' : 'entered')
    await sleep(random.below(kill % 2 === 0 ? 250 : 80))
    await run.end('SIGKILL')
    leftOn.push(fs.existsSync(flag))
    assert.equal((await hotspare('drivers')).exit, 0)
    // an enter that outlived its mirror would come late
    await sleep(20)
    assertLeft()
    wholePosts()
  }
  assert.ok(leftOn.includes(true), 'no kill came inside a window')
  assert.equal((await hotspare('mirror', live, target, ...mode)).exit, 0)
  wholePosts()
  assertLeft()
})

test('when leaving fails again and again it is said loudest of all, and a later command leaves', async () => {
  fs.mkdirSync(live)
  fs.writeFileSync(join(live, 'a'), 'a')
  const allowed = join(root, 'allowed')
  const leave = `test -e ${allowed} && rm -f ${flag}`
  const args = ['--enter', `touch ${flag}`, '--leave', leave]
  const ended = await hotspare('mirror', live, target, ...args)
  assertError(ended, 'leave-failed')
  assert.match(ended.stderr, /MAINTENANCE MODE MAY STILL BE ON.*Run this by hand: .*rm -f/)
  // it was read while the mode was on, so the copy counts
  assert.equal(fs.readFileSync(join(target, 'a'), 'utf8'), 'a')
  assert.notEqual((await object('status', target)).consistent, undefined)
  assert.equal(leases().length, 1)

  // still not: each command tries, says so, and does its own work
  const tried = await hotspare('drivers')
  assert.equal(tried.exit, 0)
  assert.match(tried.stderr, /MAINTENANCE MODE MAY STILL BE ON/)
  assertError(await hotspare('mirror', live, target, ...args), 'leave-failed')

  fs.writeFileSync(allowed, '')
  assert.equal((await hotspare('status', target)).exit, 0)
  assertLeft()
  assert.equal((await hotspare('mirror', live, target, ...args)).exit, 0)
})

const needed = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
const skip =
  needed || process.env.HOTSPARE_REQUIRE_ENGINES === '1'
    ? false
    : 'needs root and mount namespaces: run as root, with util-linux installed'

for (const followed of [false, true]) {
  test(`when the disk of the copy fills inside the window, the application is released first, ${followed ? 'with a follower' : 'without one'}`, {
    skip,
  }, async () => {
    const disk = join(root, 'disk')
    fs.mkdirSync(disk)
    fs.mkdirSync(live)
    fs.writeFileSync(join(live, 'a'), 'a'.repeat(1000))
    const script = `mount -t tmpfs -o size=8m,mode=0755 none '${disk}' && echo '{"event":"mounted"}' && exec sleep 600`
    const runs: Run[] = []
    const holder = new Run('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script])
    try {
      await holder.event('mounted')
      const inside = ['-t', String(holder.process.pid), '-m']
      const there = (...args: string[]) => {
        const run = new Run('nsenter', [...inside, process.execPath, main, ...args])
        runs.push(run)
        return run
      }
      const sh = (text: string) => spawnSync('nsenter', [...inside, 'sh', '-c', text], { encoding: 'utf8' })
      const copy = join(disk, 'copy')
      const plain = ['--enter', `touch ${flag}`, '--leave', `rm -f ${flag}`]
      const follower = followed ? there('follow', live, copy, '--driver', 'directory', '--json') : undefined
      await follower?.event('live')
      assert.equal((await there('mirror', live, copy, ...plain).end()).exit, 0)

      // the application's last word is more than there is room for
      const enter = `dd if=/dev/zero of=${disk}/filling bs=64k count=1000 2>/dev/null; head -c 4000000 /dev/urandom > ${live}/b; touch ${flag}`
      const leave = `test -e ${disk}/filling && date > ${root}/left; rm -f ${flag}`
      const run = there('mirror', live, copy, '--enter', enter, '--leave', leave, '--json')
      const ended = await run.end()
      assertError(ended, 'disk-full')
      assert.equal(fs.existsSync(join(root, 'left')), true)
      assert.ok(run.lines.some(line => line.event === 'left'))
      assertLeft()
      assert.match(sh(`cat ${copy}/a`).stdout, /^a+$/)
      assert.notEqual(sh(`test -e ${copy}/b`).status, 0)

      sh(`rm ${disk}/filling`)
      if (follower !== undefined) {
        await follower.line(line => line.event === 'retrying' && line.code === 'disk-full', 'retrying')
        await follower.event('caught-up')
      }
      assert.equal((await there('mirror', live, copy, ...plain).end()).exit, 0)
      assert.equal(sh(`cmp ${live}/b ${copy}/b`).status, 0)
      if (follower !== undefined) assert.equal((await follower.end('SIGTERM')).exit, 0)
    } finally {
      for (const run of runs) run.process.kill('SIGKILL')
      await holder.end('SIGKILL')
    }
  })
}
