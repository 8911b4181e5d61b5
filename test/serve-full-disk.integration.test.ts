/** A standby, and a primary, whose disk fills up under a writer: it is said, nothing is lost, and it goes on by itself. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Random } from '../src/os/testing/random.ts'
import { Run } from './cli/hotspare.ts'
import { Application, database, packs } from './serve/application.ts'
import { configureSet, isComplete, type ServeProcess, type SmallDisk } from './serve/server-set.ts'

const here = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
const skip =
  here || process.env.HOTSPARE_REQUIRE_ENGINES === '1'
    ? false
    : 'needs root and mount namespaces: run as root, with util-linux installed'
const kinds = [database, packs]
const stores = kinds.map(({ plan }) => plan)
const waitMs = 60_000

/** A tmpfs in a mount namespace that a sleeping process holds open. */
async function smallDisk(t: TestContext, root: string): Promise<SmallDisk> {
  const there = join(root, 'disk')
  await fs.mkdir(there)
  const script = `mount -t tmpfs -o size=256m,mode=0755 none '${there}' && echo '{"event":"mounted"}' && exec sleep 600`
  const holder = new Run('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script])
  t.after(() => holder.end('SIGKILL'))
  await holder.event('mounted')
  const { pid } = holder.process
  return { there, here: `/proc/${pid}/root${there}`, enter: ['nsenter', '-t', String(pid), '-m'] }
}

function fill(disk: SmallDisk): void {
  // until there is no room; then a little, so that it is met in the middle of something
  const filling = join(disk.here, 'filling')
  spawnSync('dd', ['if=/dev/zero', `of=${filling}`, 'bs=4k'])
  spawnSync('truncate', ['-s', '-256k', filling])
}

async function world(t: TestContext, full: 'alpha' | 'beta') {
  const root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-full-')))
  const application = new Application(new Random(3), join(root, 'writers'), kinds)
  const servers: ServeProcess[] = []
  t.after(async () => {
    await application.end()
    for (const server of servers) await server.end('SIGKILL')
    await fs.rm(root, { recursive: true, maxRetries: 5 })
  })
  const disk = await smallDisk(t, root)
  servers.push(
    ...(await configureSet(root, [
      { name: 'alpha', stores, ...(full === 'alpha' ? { disk } : {}) },
      { name: 'beta', upstream: 'alpha', stores, ...(full === 'beta' ? { disk } : {}) },
    ])),
  )
  const [alpha, beta] = servers
  assert.ok(alpha && beta)
  await application.start(kind => alpha.path(kind.plan.name))
  for (const server of servers) await server.start()
  await beta.until('complete', isComplete)
  return { alpha, beta, disk, application }
}

for (const full of ['alpha', 'beta'] as const) {
  const role = full === 'alpha' ? 'primary' : 'standby'
  test(`the disk of a ${role} fills up: it is said, and when there is room all goes on by itself, and nothing is lost`, {
    skip,
    timeout: 240_000,
  }, async t => {
    const { alpha, beta, disk, application } = await world(t, full)
    const server = full === 'alpha' ? alpha : beta
    const said = () =>
      server.messages().filter(({ code }) => code === 'disk-full' || code === 'log-full').length
    for (let round = 0; round < 2; round++) {
      await alpha.ask({ request: 'wait', peer: 'beta' }, waitMs)
      const before = said()
      fill(disk)
      await server.until('full', () => said() > before)
      // in this state it may be killed as well
      if (round === 1) {
        await server.end('SIGKILL')
        await fs.rm(join(disk.here, 'filling'))
        await server.start()
      } else await fs.rm(join(disk.here, 'filling'))
      const promised = kinds.map(kind => application.committed(kind))
      await alpha.ask({ request: 'wait', peer: 'beta' }, waitMs)
      await beta.until('complete', isComplete)
      assert.ok(promised.every(number => number > 0))
    }
    const committed = new Map(kinds.map(kind => [kind, application.committed(kind)]))
    await application.end()
    await alpha.ask({ request: 'wait', peer: 'beta' }, waitMs)
    await alpha.until('applied there', ({ log, links }) => (links[0]?.applied ?? 0) >= log.durable)
    for (const one of [alpha, beta]) await one.end('SIGTERM')
    // SQLite takes the path into the other namespace for one in this one
    const seen = join(alpha.directory, 'seen')
    for (const kind of kinds) {
      await fs.mkdir(seen, { recursive: true })
      spawnSync('sh', ['-c', `cp -r "${beta.path(kind.plan.name)}"* "${seen}"`])
      kind.judge(alpha.path(kind.plan.name), committed.get(kind) ?? 0)
      kind.assertEqual(alpha.path(kind.plan.name), join(seen, kind.plan.name))
    }
    const codes = [...alpha.messages(), ...beta.messages()].filter(({ level }) => level === 'error')
    const allowed = ['disk-full', 'log-full', 'link-broken']
    assert.deepEqual(
      codes.filter(({ code }) => !allowed.includes(String(code))),
      [],
    )
    t.diagnostic([...new Set(codes.map(({ message }) => message))].join('\n'))
  })
}
