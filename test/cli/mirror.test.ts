import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { HotspareError, type MirrorEvent, mirror } from '../../src/index.ts'
import { assertError, type Ended, hotspare, killStarted, object, type Run, start } from './hotspare.ts'

let root: string
let source: string
let target: string
let flag: string
const stateBefore = process.env.HOTSPARE_STATE_DIR

beforeEach(async () => {
  root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-mirror-')))
  source = join(root, 'live')
  target = join(root, 'copy')
  flag = join(root, 'flag')
  await fs.mkdir(join(source, 'pages'), { recursive: true })
  await fs.writeFile(join(source, 'log'), 'one\n')
  await fs.writeFile(join(source, 'pages/1.html'), 'one')
  // of this test alone: a command acts on what others left
  process.env.HOTSPARE_STATE_DIR = join(root, 'state')
})
afterEach(async () => {
  killStarted()
  if (stateBefore === undefined) delete process.env.HOTSPARE_STATE_DIR
  else process.env.HOTSPARE_STATE_DIR = stateBefore
  await fs.rm(root, { recursive: true, force: true, maxRetries: 5 })
})

const exists = (path: string) =>
  fs.access(path).then(
    () => true,
    () => false,
  )
const leases = async () =>
  (await fs.readdir(join(root, 'state/leases'))).filter(name => name.endsWith('.json'))

/** The mode is on while the flag is there. */
const byFlag = () => ['--enter', `touch ${flag}`, '--leave', `rm -f ${flag}`, '--verify', `test -e ${flag}`]
const startMirror = (...args: string[]): Run => start('mirror', source, target, '--json', ...args)
const runMirror = (...args: string[]): Promise<Ended> => startMirror(...args).end()

async function untilFlag(): Promise<void> {
  while (!(await exists(flag))) await new Promise(resolve => setTimeout(resolve, 2))
}

async function assertLeft(): Promise<void> {
  assert.equal(await exists(flag), false)
  assert.deepEqual(await leases(), [])
}

async function assertCopied(): Promise<void> {
  for (const name of ['log', 'pages/1.html']) {
    assert.equal(await fs.readFile(join(target, name), 'utf8'), await fs.readFile(join(source, name), 'utf8'))
  }
}

test('a mirror copies what there is, in a window, and tells of each step in its order', async () => {
  const run = startMirror(...byFlag())
  const { exit, stderr } = await run.end()
  assert.equal(exit, 0, stderr)
  const events = run.lines.map(line => line.event).filter(event => event !== 'progress')
  // on a busy machine there is a second pass before the window
  assert.deepEqual(
    events.filter((event, n) => event !== events[n - 1]),
    ['started', 'pass', 'entered', 'held', 'left', 'durable', 'result'],
  )
  const result = run.lines.at(-1)
  assert.equal(result?.entered, true)
  assert.equal(result?.followed, false)
  assert.ok(Number(result?.heldMs) > 0)
  await assertLeft()
  await assertCopied()
})

test('what changed since the pass before is read inside the window, and counted', async () => {
  await fs.rm(join(source, 'pages/1.html'))
  assert.equal((await runMirror(...byFlag())).exit, 0)
  // the application's last word before it stops
  const enter = `echo two >> ${source}/log && echo one > ${source}/pages/1.html && touch ${flag}`
  const run = startMirror('--enter', enter, '--leave', `rm ${flag}`)
  assert.equal((await run.end()).exit, 0)
  const { inside } = run.lines.at(-1) as { inside?: { files: number } }
  assert.equal(inside?.files, 2)
  await assertCopied()
})

test('when entering fails, the mode is left, and the copy is as it was', async () => {
  assert.equal((await runMirror(...byFlag())).exit, 0)
  await fs.writeFile(join(source, 'log'), 'two\n')
  const enter = `touch ${flag}; echo no database >&2; exit 7`
  const ended = await runMirror('--enter', enter, '--leave', `rm -f ${flag}`, '--verify', `test -e ${flag}`)
  assertError(ended, 'enter-failed')
  assert.match(ended.stderr, /status 7.*no database/)
  await assertLeft()
  assert.equal(await fs.readFile(join(target, 'log'), 'utf8'), 'one\n')
})

test('when the mode is off after entering, nothing is read inside, and it is left', async () => {
  const left = join(root, 'left')
  const ended = await runMirror('--enter', 'true', '--leave', `touch ${left}`, '--verify', `test -e ${flag}`)
  assertError(ended, 'mode-off')
  assert.equal(await exists(left), true)
  assert.deepEqual(await leases(), [])
})

test('when it cannot be told whether the mode is on, nothing is entered', async () => {
  const ended = await runMirror(
    '--enter',
    `touch ${flag}`,
    '--leave',
    `rm ${flag}`,
    '--verify',
    'no-such-program',
  )
  assertError(ended, 'mode-unknown')
  await assertLeft()
})

test('a mode that was on already is neither entered nor left', async () => {
  await fs.writeFile(flag, 'by hand')
  const run = startMirror(...byFlag())
  assert.equal((await run.end()).exit, 0)
  assert.equal(run.lines.at(-1)?.entered, false)
  assert.equal(await fs.readFile(flag, 'utf8'), 'by hand')
  assert.deepEqual(await leases(), [])
  await assertCopied()
})

test('at the limit the mode is left, whatever is still being done', async () => {
  const ended = await runMirror(...byFlag(), '--inside', 'sleep 60', '--max-hold', '400ms')
  assertError(ended, 'hold-exceeded')
  await assertLeft()
})

test('a step that hangs is ended at its limit, and the mode left', async () => {
  const enter = `touch ${flag}; sleep 60`
  const ended = await runMirror('--enter', enter, '--leave', `rm -f ${flag}`, '--command-timeout', '300ms')
  assertError(ended, 'enter-failed')
  await assertLeft()
})

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} inside the window ends the mirror, and the mode is left`, async () => {
    const run = startMirror(...byFlag(), '--inside', 'sleep 60')
    await run.event('entered')
    const { exit } = await run.end(signal)
    assert.equal(exit, 130)
    await assertLeft()
  })
}

const nextCommands: readonly (readonly string[])[] = [
  ['drivers'],
  ['--version'],
  ['follow', '--help'],
  ['status', '/no/such/copy'],
]
for (const command of nextCommands) {
  test(`what a mirror that was killed inside its window left on, 'hotspare ${command.join(' ')}' leaves`, async () => {
    const run = startMirror(...byFlag(), '--inside', 'exec sleep 20')
    await run.event('entered')
    await run.end('SIGKILL')
    assert.equal(await exists(flag), true)
    assert.equal((await leases()).length, 1)
    const { stderr } = await hotspare(...command)
    assert.match(stderr, /that was killed left maintenance mode on/)
    await assertLeft()
    assert.doesNotMatch((await hotspare(...command)).stderr, /maintenance/)
  })
}

test('of commands that start at once after a mirror was killed, one leaves', async () => {
  const log = join(root, 'left')
  const leave = `echo left >> ${log}; rm -f ${flag}; sleep 0.3`
  const run = startMirror('--enter', `touch ${flag}`, '--leave', leave, '--inside', 'exec sleep 20')
  await run.event('entered')
  await run.end('SIGKILL')
  await Promise.all(Array.from({ length: 4 }, () => hotspare('drivers')))
  assert.equal(await fs.readFile(log, 'utf8'), 'left\n')
  await assertLeft()
})

test('the next mirror after one that was killed leaves its mode first, and then holds a window of its own', async () => {
  const run = startMirror(...byFlag(), '--inside', 'exec sleep 20')
  await run.event('entered')
  await run.end('SIGKILL')
  const next = startMirror(...byFlag())
  assert.equal((await next.end()).exit, 0)
  assert.equal(next.lines.at(-1)?.entered, true)
  await assertLeft()
})

test('a second mirror of an application whose first is inside its window is refused, and harms it not', async () => {
  const go = join(root, 'go')
  const first = startMirror(...byFlag(), '--inside', `until test -e ${go}; do sleep 0.02; done`)
  await first.event('entered')
  assertError(await hotspare('mirror', source, join(root, 'other'), ...byFlag()), 'window-busy')
  await fs.writeFile(go, '')
  assert.equal((await first.end()).exit, 0)
  assert.equal(first.lines.at(-1)?.entered, true)
  await assertLeft()
})

test('a second mirror of a target is refused', async () => {
  const first = startMirror(...byFlag(), '--inside', 'exec sleep 30')
  await first.event('entered')
  const state = join(root, 'state2')
  const second = mirror({
    source,
    target,
    mode: { kind: 'flag-file', path: join(root, 'flag2') },
    stateDirectory: state,
    signal: AbortSignal.timeout(500),
  })
  await assert.rejects(second)
  assert.equal((await first.end('SIGTERM')).exit, 130)
})

test('a mode that ends by itself is refreshed while the window is open, and not after', async () => {
  const log = join(root, 'refreshed')
  const refresh = ['--refresh', `echo again >> ${log}`, '--refresh-every', '100ms']
  const run = startMirror(...byFlag(), ...refresh, '--inside', 'sleep 0.55')
  assert.equal((await run.end()).exit, 0)
  const times = (await fs.readFile(log, 'utf8')).split('\n').length - 1
  const told = run.lines.filter(line => line.event === 'refreshed').length
  // one may be ended by the end of the window before it is told
  assert.ok(times >= 1 && times - told <= 1, `${times}, ${told} told`)
})

test('a flag file in the source is not in the copy: a copy that is put to use is not in maintenance mode', async () => {
  const path = join(source, 'pages/lock')
  const run = startMirror('--flag-file', path, '--inside', `cp ${path} ${root}/seen`, '--flag-text', 'closed')
  assert.equal((await run.end()).exit, 0)
  assert.equal(await fs.readFile(join(root, 'seen'), 'utf8'), 'closed\n')
  assert.equal(await exists(path), false)
  assert.equal(await exists(join(target, 'pages/lock')), false)
  await assertCopied()
})

test('a known application is switched as its table says', async () => {
  const path = join(source, 'images/lock_yBgMBwiR')
  await fs.mkdir(join(source, 'images'))
  const run = startMirror('--app', 'mediawiki', '--settle', '0', '--inside', `cp ${path} ${root}/seen`)
  const { exit, stderr } = await run.end()
  assert.equal(exit, 0, stderr)
  assert.match(await fs.readFile(join(root, 'seen'), 'utf8'), /backup/)
  assert.equal(await exists(path), false)
  assertError(await runMirror('--app', 'no-such'), 'usage')
})

test('an application is switched over HTTP', async () => {
  const seen: string[] = []
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`)
    response.writeHead(request.method === 'POST' || seen.at(-2) === 'POST /on' ? 200 : 404).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    const addresses = [
      '--http-enter',
      `${url}/on`,
      '--http-leave',
      `${url}/off`,
      '--http-status',
      `${url}/is`,
    ]
    const { exit, stderr } = await runMirror(...addresses)
    assert.equal(exit, 0, stderr)
    assert.deepEqual(seen, ['GET /is', 'POST /on', 'GET /is', 'POST /off', 'GET /is'])
  } finally {
    server.close()
  }
})

test('with a running follower the passes are its own, and it goes on afterwards', async () => {
  const follower = start('follow', source, target, '--driver', 'directory', '--json')
  await follower.event('live')
  assert.equal((await follower.event('notice', 'window-needed')).code, 'window-needed')
  assert.equal((await object('status', target)).consistent, undefined)
  const enter = `echo two >> ${source}/log && touch ${flag}`
  const run = startMirror('--enter', enter, '--leave', `rm ${flag}`)
  const { exit, stderr } = await run.end()
  assert.equal(exit, 0, stderr)
  assert.equal(run.lines.at(-1)?.followed, true)
  await assertLeft()
  await assertCopied()
  for (let consistent: unknown; consistent === undefined; )
    consistent = (await object('status', target)).consistent
  assert.equal((await hotspare('mirror', source, target, ...byFlag())).exit, 0)
  assert.equal((await follower.end('SIGTERM')).exit, 0)
  assert.equal(follower.lines.at(-1)?.consistent, true)
})

test('a follower whose socket cannot be opened says so, and follows all the same', async () => {
  await fs.mkdir(`${target}.hotspare/control/in-the-way`, { recursive: true })
  const follower = start('follow', source, target, '--driver', 'directory', '--json')
  await follower.event('notice', 'control-unavailable')
  await follower.event('live')
  assert.equal((await follower.end('SIGTERM')).exit, 0)
  await assertCopied()
})

test('a mirror that is killed inside its window harms no follower, and its read does not count', async () => {
  const follower = start('follow', source, target, '--driver', 'directory', '--json')
  await follower.event('live')
  const run = startMirror(...byFlag(), '--inside', 'exec sleep 20')
  await run.event('entered')
  await run.end('SIGKILL')
  const status = await object('status', target)
  assert.equal(status.running, true)
  assert.equal(status.consistent, undefined)
  assert.equal((await runMirror(...byFlag())).exit, 0)
  await assertLeft()
  assert.equal((await follower.end('SIGTERM')).exit, 0)
})

test('a follower that is killed inside the window fails the mirror, and the mode is left', async () => {
  const follower = start('follow', source, target, '--driver', 'directory', '--json')
  await follower.event('live')
  const run = startMirror(...byFlag(), '--inside', 'sleep 60')
  await run.event('entered')
  await untilFlag()
  await follower.end('SIGKILL')
  assertError(await run.end(), 'target-busy')
  await assertLeft()
  assert.equal((await runMirror(...byFlag())).exit, 0)
  await assertCopied()
})

const mistakes: readonly (readonly [what: string, args: readonly string[]])[] = [
  ['no mode', []],
  ['two modes', ['--app', 'drupal', '--enter', 'a', '--leave', 'b']],
  ['enter without leave', ['--enter', 'a']],
  ['verify without enter', ['--flag-file', 'f', '--verify', 'v']],
  ['a password in an address', ['--http-enter', 'http://u:p@h/', '--http-leave', 'http://h/']],
  ['an address that is none', ['--http-enter', 'ftp://h/', '--http-leave', 'http://h/']],
  ['a time that is none', ['--enter', 'a', '--leave', 'b', '--max-hold', 'soon']],
]
for (const [what, args] of mistakes) {
  test(`${what} is a mistake that is told, and nothing is done`, async () => {
    assertError(await runMirror(...args), 'usage')
    assert.equal(await exists(target), false)
  })
}

test('the known applications are listed with what they run', async () => {
  const { stdout } = await hotspare('mirror', '--apps')
  for (const name of [
    'nextcloud',
    'drupal',
    'wordpress',
    'mediawiki',
    'moodle',
    'phpbb',
    'discourse',
    'discus',
    'dokuwiki',
  ]) {
    assert.match(stdout, new RegExp(`--app ${name} `))
  }
  assert.match(stdout, /php occ maintenance:mode --on/)
})

test('the library mirrors too, and an abort leaves the mode', async () => {
  const events: MirrorEvent[] = []
  const mode = { kind: 'flag-file', path: flag } as const
  const report = await mirror({ source, target, mode, settleMs: 0, onEvent: event => events.push(event) })
  assert.equal(report.entered, true)
  assert.equal(events.at(-1)?.event, 'durable')
  const stop = new AbortController()
  const running = mirror({ source, target, mode, settleMs: 60_000, signal: stop.signal })
  await untilFlag()
  stop.abort()
  await assert.rejects(running, { name: 'AbortError' })
  await assertLeft()
  await assert.rejects(mirror({ source: join(root, 'none'), target, mode }), (error: HotspareError) => {
    assert.ok(error instanceof HotspareError)
    return error.code === 'source-missing'
  })
})
