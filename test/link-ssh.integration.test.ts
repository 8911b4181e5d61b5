/** Links over ssh, with a real sshd on loopback that has keys and a configuration of its own. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { listenForStdio } from '../src/daemon/link-machine.ts'
import { Answerer, nowhere } from '../src/link/answerer.ts'
import { Caller } from '../src/link/caller.ts'
import type { Session } from '../src/link/session.ts'
import { TestTrust, testHello } from '../src/link/testing/session-pair.ts'
import { systemClock } from '../src/os/clock.ts'
import { systemRandom } from '../src/os/random.ts'
import { parseSshAddress, SshTransport } from '../src/os/ssh-transport.ts'
import { freePort } from '../src/os/testing/free-port.ts'

const sshd = '/usr/sbin/sshd'
const installed = existsSync(sshd) && spawnSync('ssh', ['-V']).error === undefined
const required = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
const hotspare = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const skip =
  installed || required ? false : 'needs sshd and ssh: apt-get install -y openssh-server openssh-client'

interface Sshd {
  readonly directory: string
  readonly process: ChildProcess
  /** ssh, with a configuration that knows that server and the key. */
  readonly ssh: readonly string[]
  /** Of the server whose state is in `directory`. */
  readonly address: string
}

async function startSshd(t: TestContext, options: { readonly profile?: string } = {}): Promise<Sshd> {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-ssh-'))
  const path = (name: string) => join(directory, name)
  for (const key of ['host', 'user'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path(key)])
  const port = await freePort()
  const user = userInfo().username
  // sshd wants it when root starts it; on a machine without the service nobody has made it
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  execFileSync('cp', [path('user.pub'), path('authorized')])
  writeFileSync(
    path('sshd_config'),
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${path('host')}`,
      `AuthorizedKeysFile ${path('authorized')}`,
      `PidFile ${path('sshd.pid')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      '',
    ].join('\n'),
  )
  const hostKey = execFileSync('cat', [path('host.pub')], { encoding: 'utf8' })
  writeFileSync(path('known'), `[127.0.0.1]:${port} ${hostKey}`)
  writeFileSync(
    path('ssh_config'),
    `Host *\n  IdentityFile ${path('user')}\n  IdentitiesOnly yes\n  UserKnownHostsFile ${path('known')}\n  StrictHostKeyChecking yes\n`,
  )
  writeFileSync(
    path('hotspare.yaml'),
    'set: shop\nname: alpha\nrole: primary\nstate: state\nstores: [{path: app.db, driver: sqlite}]\npeers: [{name: beta}]\n',
  )
  mkdirSync(path('state'), { mode: 0o700 })
  // some logins print before they run anything
  writeFileSync(
    path('hotspare'),
    `#!/bin/sh\n${options.profile ?? ''}\nexec '${process.execPath}' '${hotspare}' "$@"\n`,
  )
  chmodSync(path('hotspare'), 0o755)
  const child = spawn(sshd, ['-D', '-e', '-f', path('sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.on('data', piece => {
    said += piece
  })
  t.after(async () => {
    child.kill('SIGKILL')
    rmSync(directory, { recursive: true })
  })
  while (!(await answers(port))) {
    assert.equal(child.exitCode, null, `sshd: ${said}`)
    await delay(50)
  }
  return {
    directory,
    process: child,
    ssh: ['ssh', '-F', path('ssh_config')],
    address: `ssh://${user}@127.0.0.1:${port}${path('hotspare')}?config=${path('hotspare.yaml')}`,
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('data', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** The server over there: what it does with a session is to send back what comes. */
async function answer(t: TestContext, directory: string) {
  const sessions: Session[] = []
  const answerer = await Answerer.open({
    address: '',
    transport: nowhere,
    clock: systemClock,
    random: systemRandom,
    terms: () => ({ hello: testHello('alpha'), trust: new TestTrust() }),
    onRefused: () => {},
    async onSession(session) {
      sessions.push(session)
      const channel = session.channel('log')
      try {
        for await (const message of channel.messages()) await channel.send(message)
        channel.close()
      } catch {
        // the test has ended the session
      }
    },
  })
  const local = await listenForStdio(join(directory, 'state'), stream => answerer.accept(stream))
  const close = async () => {
    await answerer.close()
    await local.close()
  }
  t.after(close)
  return { sessions, close }
}

test('a session over ssh carries what is sent, both ways, and is called again after ssh was killed', {
  skip,
}, async t => {
  const there = await startSshd(t, { profile: 'echo welcome; printf "no newline"' })
  const { sessions } = await answer(t, there.directory)
  const opened: Session[] = []
  const wanted: ((session: Session) => void)[] = []
  const caller = new Caller({
    peer: 'alpha',
    address: there.address,
    transport: new SshTransport(there.ssh),
    clock: systemClock,
    random: systemRandom,
    terms: () => ({ hello: testHello('beta'), trust: new TestTrust() }),
    async onSession(session) {
      opened.push(session)
      wanted.shift()?.(session)
      await session.over
    },
    onLife() {},
  })
  t.after(() => caller.stop())
  const next = () => new Promise<Session>(resolve => wanted.push(resolve))
  const session = await next()
  assert.match(session.address, /^ssh /)
  const channel = session.channel('log')
  const data = Buffer.alloc(700_000, 5)
  const back = (async () => {
    let count = 0
    for await (const message of channel.messages()) {
      assert.ok(message.type === 'sync-entries' && message.data.equals(data))
      count++
    }
    return count
  })()
  for (let i = 0; i < 60; i++) await channel.send({ type: 'sync-entries', data })
  channel.close()
  assert.equal(await back, 60)
  const again = next()
  killChild('ssh')
  assert.match(String(await session.over), /ended the connection|broke/)
  await again
  assert.equal(opened.length, 2)
  assert.ok(sessions.length >= 2)
  assert.match(String(await sessions[0]?.over), /ended the connection|broke/)
})

/** The ssh that this process has started. */
function killChild(name: string): void {
  const list = execFileSync('ps', ['-o', 'pid=,comm=', '--ppid', String(process.pid)], { encoding: 'utf8' })
  const found = list
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .find(([, command]) => command === name)
  assert.ok(found?.[0], `no ${name} among the children:\n${list}`)
  process.kill(Number(found[0]), 'SIGKILL')
}

test('what is wrong over there is said by the call: no server, no key, no program', { skip }, async t => {
  const there = await startSshd(t)
  const call = (ssh: readonly string[], address: string) =>
    new SshTransport(ssh).connect(address, AbortSignal.timeout(20_000))
  await assert.rejects(
    call(there.ssh, there.address),
    /No server runs here with its state in .*server-stopped/,
  )
  await assert.rejects(call(there.ssh, there.address.replace('/hotspare?', '/nothing?')), /nothing/)
  await assert.rejects(
    call([...there.ssh, '-o', 'IdentityFile=/dev/null'], there.address.replace('@127.0.0.1:', '@localhost:')),
    /status 255/,
  )
  await assert.rejects(call(['/nobody/has/this/ssh'], there.address), /ENOENT/)
  await assert.rejects(
    new SshTransport(there.ssh).connect(there.address, AbortSignal.abort(new Error('enough'))),
    /enough/,
  )
})

test('an ssh address names user, host, port, program and configuration, and no option of ssh', () => {
  assert.deepEqual(parseSshAddress('ssh://backup@host.example:2222/opt/hotspare?config=/etc/a.yaml'), {
    user: 'backup',
    host: 'host.example',
    port: 2222,
    program: '/opt/hotspare',
    config: '/etc/a.yaml',
  })
  assert.deepEqual(parseSshAddress('ssh://host'), { host: 'host', program: 'hotspare' })
  assert.deepEqual(parseSshAddress('ssh://[::1]:22'), { host: '::1', port: 22, program: 'hotspare' })
  for (const wrong of [
    'ssh://-oProxyCommand=x',
    'ssh://-l@host',
    'ssh://',
    'tcp://host',
    'ssh://a b',
    'ssh://h/p q',
  ])
    assert.throws(() => parseSshAddress(wrong), /is no address/)
})
