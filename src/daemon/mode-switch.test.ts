import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { parse } from 'valibot'
import { nodeStorage } from '../os/node-storage.ts'
import { applications } from './applications.ts'
import { type Mode, modeSchema } from './mode.ts'
import type { ModeSwitch } from './mode-switch.ts'
import { openSwitch } from './open-switch.ts'

let root: string
const never = new AbortController().signal

beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-mode-'))
})
afterEach(() => fs.rm(root, { recursive: true }))

const printed: string[] = []
const open = (mode: Mode): Promise<ModeSwitch> | ModeSwitch =>
  openSwitch(mode, {
    storage: nodeStorage,
    source: '/srv/s',
    target: '/backup/t',
    onOutput: (step, output) => printed.push(`${step}: ${output}`),
  })
const commands = (more: Partial<Extract<Mode, { kind: 'commands' }>>) =>
  open({ kind: 'commands', enter: { run: 'true' }, leave: { run: 'true' }, ...more })

test('commands know the source, the target, and whether the window is open', async () => {
  const out = join(root, 'out')
  const say = { run: `echo $HOTSPARE_SOURCE $HOTSPARE_TARGET $HOTSPARE_WINDOW >> ${out}` }
  const mode = await commands({ enter: say, leave: say })
  await mode.enter(never)
  await mode.leave(never)
  assert.equal(await fs.readFile(out, 'utf8'), '/srv/s /backup/t before\n/srv/s /backup/t inside\n')
})

const asRoot = process.getuid?.() === 0 ? false : 'needs root: only root may run commands as another user'
test('commands run as the user that is asked for, and know of the window', { skip: asRoot }, async () => {
  const mode = await commands({
    enter: { run: 'id -un; echo $HOTSPARE_WINDOW', user: 'nobody', directory: '/' },
  })
  printed.length = 0
  await mode.enter(never)
  assert.deepEqual(printed, ['enter: nobody\nbefore'])
  await assert.rejects(
    async () => (await commands({ leave: { run: 'true', user: 'no-such-user' } })).leave(never),
    {
      code: 'leave-failed',
      message: /no-such-user/,
    },
  )
})

test('a command that fails is told with its status and the last of what it said', async () => {
  const mode = await commands({ enter: { run: 'seq 100; echo no database >&2; exit 4' } })
  await assert.rejects(async () => mode.enter(never), {
    code: 'enter-failed',
    message: /status 4.*99 \| 100 \| no database/,
  })
})

test('a program that is not there, or cannot be started, is a failure', async () => {
  await assert.rejects(async () => (await commands({ enter: { run: ['/no/such'] } })).enter(never), {
    code: 'enter-failed',
  })
  const nowhere = { run: 'true', directory: '/no/such' }
  await assert.rejects(async () => (await commands({ leave: nowhere })).leave(never), {
    code: 'leave-failed',
  })
})

test('a command that is told to end ends with all that it started, before it is said to have ended', async () => {
  const out = join(root, 'out')
  const script = `trap '' TERM; (sleep 30; echo late >> ${out}) & echo $! > ${root}/child; wait; sleep 30`
  const mode = await commands({ enter: { run: script } })
  const stop = new AbortController()
  const entering = Promise.resolve(mode.enter(stop.signal))
  entering.catch(() => undefined)
  let child = ''
  while (child === '') {
    child = await fs.readFile(join(root, 'child'), 'utf8').catch(() => '')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  stop.abort()
  await assert.rejects(entering, { code: 'enter-failed' })
  // gone, or waiting for somebody to ask how it ended
  const stat = await fs.readFile(`/proc/${child.trim()}/stat`, 'utf8').catch(() => ') Z')
  assert.match(stat, /\) [ZX]/)
})

test('what a command leaves running does not keep it from having ended', async () => {
  const mode = await commands({ enter: { run: 'sleep 20 & echo $!' } })
  printed.length = 0
  await mode.enter(never)
  const [, pid] = /enter: (\d+)/.exec(printed.join()) ?? []
  process.kill(Number(pid))
})

const verdicts: readonly (readonly [run: string, more: object, verdict: boolean | 'unknown'])[] = [
  ['exit 0', {}, true],
  ['exit 1', {}, false],
  ['exit 127', {}, 'unknown'],
  ['no-such-program', {}, 'unknown'],
  ['kill -9 $$', {}, 'unknown'],
  ['exit 3', { on: { exit: 3 }, off: { exit: 0 } }, true],
  ['exit 0', { on: { exit: 3 }, off: { exit: 0 } }, false],
  ['exit 1', { on: { exit: 3 }, off: { exit: 0 } }, 'unknown'],
  ['echo is currently enabled', { on: { prints: 'currently enabled' }, off: { prints: 'disabled' } }, true],
  ['echo is currently disabled', { on: { prints: 'currently enabled' }, off: { prints: 'disabled' } }, false],
  ['echo what', { on: { prints: 'currently enabled' }, off: { prints: 'disabled' } }, 'unknown'],
  ['echo enabled; exit 1', { on: { prints: 'enabled' }, off: { prints: 'disabled' } }, 'unknown'],
]
for (const [run, more, verdict] of verdicts) {
  test(`verified by '${run}' ${JSON.stringify(more)}: ${verdict}`, async () => {
    const { verify } = await commands({ verify: { run, ...more } })
    assert.ok(verify)
    if (verdict === 'unknown') await assert.rejects(verify(never), { code: 'mode-unknown' })
    else assert.equal(await verify(never), verdict)
  })
}

test('a flag file of ours is made, seen, and taken away', async () => {
  const path = join(root, 'flag')
  const mode = await open({ kind: 'flag-file', path, text: 'closed for a moment' })
  assert.equal(await mode.verify?.(never), false)
  assert.equal(await mode.enter(never), 'ours')
  assert.equal(await fs.readFile(path, 'utf8'), 'closed for a moment\n')
  assert.equal((await fs.stat(path)).mode & 0o777, 0o644)
  assert.equal(await mode.verify?.(never), true)
  await mode.leave(never)
  assert.equal(await mode.verify?.(never), false)
  await mode.leave(never)
})

test('a flag file of somebody else is neither written to nor taken away', async () => {
  const path = join(root, 'flag')
  await fs.writeFile(path, 'by hand')
  const mode = await open({ kind: 'flag-file', path, text: 'closed for a moment' })
  assert.equal(await mode.enter(never), 'theirs')
  await mode.leave(never)
  assert.equal(await fs.readFile(path, 'utf8'), 'by hand')
})

test('a flag file that was cut short by a crash is ours all the same', async () => {
  const path = join(root, 'flag')
  await fs.writeFile(path, 'closed f')
  await (await open({ kind: 'flag-file', path, text: 'closed for a moment' })).leave(never)
  await assert.rejects(fs.access(path))
})

test('a flag file in a directory that is not there cannot be made', async () => {
  const mode = await open({ kind: 'flag-file', path: join(root, 'no/flag'), text: 'x' })
  await assert.rejects(async () => mode.enter(never), { code: 'enter-failed' })
})

/** An application that is switched over HTTP, by who knows the password. */
async function application(): Promise<{
  server: Server
  url: string
  state: { on: boolean; status: number }
}> {
  const state = { on: false, status: 0 }
  const server = createServer((request, response) => {
    const known = request.headers.authorization === 'Bearer secret'
    if (request.method === 'POST' && known) state.on = request.url === '/on'
    const answer = request.method === 'POST' ? 204 : state.on ? 200 : 404
    response.writeHead(state.status || (known ? answer : 401)).end('{"ok":true}')
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, state }
}

test('a mode is switched over HTTP, with headers that only their owner can read', async () => {
  const { server, url, state } = await application()
  try {
    const headersFile = join(root, 'headers')
    const spec: Mode = {
      kind: 'http',
      enter: `${url}/on`,
      leave: `${url}/off`,
      status: `${url}/state`,
      headersFile,
    }
    await assert.rejects(async () => open(spec), { code: 'usage' })
    await fs.writeFile(headersFile, 'Authorization: Bearer secret\n', { mode: 0o644 })
    await assert.rejects(async () => open(spec), { code: 'usage', message: /chmod 600/ })
    await fs.chmod(headersFile, 0o600)
    const mode = await open(spec)
    assert.equal(await mode.verify?.(never), false)
    assert.equal(await mode.enter(never), 'ours')
    assert.equal(state.on, true)
    assert.equal(await mode.verify?.(never), true)
    await mode.leave(never)
    assert.equal(state.on, false)

    state.status = 302
    await assert.rejects(async () => mode.enter(never), { code: 'enter-failed', message: /status 302/ })
    state.status = 503
    await assert.rejects(async () => mode.leave(never), { code: 'leave-failed' })
    await assert.rejects(async () => mode.verify?.(never), { code: 'mode-unknown' })
    await fs.writeFile(headersFile, 'secret\n')
    await assert.rejects(
      async () => open(spec),
      (error: Error) => !error.message.includes('secret'),
    )
  } finally {
    server.close()
  }
  const mode = await open({ kind: 'http', enter: `${url}/on`, leave: `${url}/off` })
  await assert.rejects(async () => mode.enter(never), { code: 'enter-failed', message: /ECONNREFUSED/ })
})

test('every known application can be put into a lease, and has a way to see whether its mode is on', async () => {
  for (const { name, mode } of applications) {
    const application = mode({ directory: '/srv/app', user: 'www-data' })
    assert.deepEqual(parse(modeSchema, JSON.parse(JSON.stringify(application.mode))), application.mode, name)
    const opened = await open(application.mode)
    assert.ok(opened.verify, name)
    assert.notEqual(opened.leaveByHand, '', name)
    assert.equal(opened.refresh !== undefined, application.expiresMs !== undefined, name)
  }
})
