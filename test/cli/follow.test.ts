import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { assertError, hotspare, killStarted, object, start } from './hotspare.ts'
import { type LiveStore, packsStore, sqliteStore, storeKinds } from './stores.ts'

let root: string
let target: string
const opened: LiveStore[] = []

beforeEach(async () => {
  root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-follow-')))
  await fs.mkdir(join(root, 'live'))
  target = join(root, 'copy')
})
afterEach(async () => {
  killStarted()
  for (const store of opened.splice(0)) store.close()
  await fs.rm(root, { recursive: true, force: true, maxRetries: 5 })
})

function make(kind: (directory: string) => LiveStore, commits: number): LiveStore {
  const store = kind(join(root, 'live'))
  if (store.kind === 'packs') target = join(root, 'copy.rdm')
  opened.push(store)
  for (let n = 0; n < commits; n++) store.add()
  return store
}

/** A follower that is live, with `kill` or `end` to come. */
async function followLive(store: LiveStore, ...options: string[]) {
  const run = start('follow', store.path, target, '--json', ...options)
  await run.event('live')
  return run
}

async function clonedCount(store: LiveStore, name: string): Promise<number> {
  const clone = join(root, name)
  await object('clone', target, clone)
  return store.count(clone)
}

for (const kind of storeKinds) {
  const { name } = kind

  test(`${name}: once brings the copy up to date, and the next once adds what is new`, async () => {
    const store = make(kind, 5)
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    assert.equal(await clonedCount(store, 'first'), 5)
    store.add()
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    assert.equal(await clonedCount(store, 'second'), 6)
    const checked = await object('check', target, '--against', store.path)
    assert.equal(checked.valid, true)
  })

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${name}: ${signal} ends a follower after the current commit with status 0, the copy a valid store`, async () => {
      const store = make(kind, 5)
      const run = await followLive(store)
      store.add()
      const { exit, stderr } = await run.end(signal)
      assert.equal(exit, 0, stderr)
      const last = run.lines.at(-1)
      assert.equal(last?.event, 'stopped')
      assert.equal(last?.reason, 'aborted')
      assert.equal(last?.consistent, true)
      assert.ok((await clonedCount(store, 'clone')) >= 5)
    })
  }

  test(`${name}: a second follower of a target is refused, and the first goes on`, async () => {
    const store = make(kind, 5)
    const run = await followLive(store)
    assertError(await hotspare('follow', store.path, target), 'target-busy')
    store.add()
    await run.line(line => line.event === 'progress' && line.live === true, 'progress of the first')
    assert.equal((await run.end('SIGTERM')).exit, 0)
    assert.equal(await clonedCount(store, 'clone'), 6)
  })

  test(`${name}: a copy that somebody changed is refused and left as it is, until --resync`, async () => {
    const store = make(kind, 30)
    await hotspare('follow', store.path, target, '--once')
    store.tamper(target)
    const tampered = store.count(target)
    assertError(await hotspare('follow', store.path, target, '--once'), 'target-changed')
    assert.equal(store.count(target), tampered)
    const resynced = await hotspare('follow', store.path, target, '--once', '--resync')
    assert.equal(resynced.exit, 0, resynced.stderr)
    assert.equal((await object('check', target, '--against', store.path)).valid, true)
  })

  test(`${name}: a target that exists and is not ours is refused and left as it is`, async () => {
    const store = make(kind, 5)
    if (store.kind === 'sqlite') await fs.writeFile(target, 'mine')
    else {
      await fs.mkdir(target)
      await fs.writeFile(join(target, 'mine'), 'mine')
    }
    assertError(await hotspare('follow', store.path, target, '--once'), 'target-foreign')
    const left = store.kind === 'sqlite' ? target : join(target, 'mine')
    assert.equal(await fs.readFile(left, 'utf8'), 'mine')
    assert.equal((await fs.readdir(root)).includes(`${target}.hotspare`.slice(root.length + 1)), false)
  })

  test(`${name}: a source that is not there yet is waited for, and followed when it appears`, async () => {
    const path = join(root, 'live', kind === sqliteStore ? 'app.db' : 'events.rdm')
    const run = start('follow', path, target, '--json')
    await run.event('retrying', 'source-missing')
    const store = make(kind, 3)
    await run.event('live')
    store.add()
    const catchUp = start('status', target, '--json')
    assert.equal((await catchUp.end()).exit, 0)
    assert.equal((await run.end('SIGTERM')).exit, 0)
    assert.ok((await clonedCount(store, 'clone')) >= 3)
  })

  test(`${name}: with once, a source that is not there is an error, and nothing is made`, async () => {
    const path = join(root, 'live', kind === sqliteStore ? 'app.db' : 'events.rdm')
    assertError(await hotspare('follow', path, target, '--once'), 'source-missing')
    assert.deepEqual(await fs.readdir(root), ['live'])
  })

  test(`${name}: status tells a follower that runs from one that was killed or stopped`, async () => {
    const store = make(kind, 5)
    const run = await followLive(store)
    const running = await object('status', target)
    assert.equal(running.running, true)
    assert.equal(running.driver, store.kind)
    assert.equal(running.source, store.path)
    await run.end('SIGKILL')
    const killed = await object('status', target)
    assert.equal(killed.running, false)
    assert.equal((await hotspare('follow', store.path, target, '--once')).exit, 0)
    const stopped = await object('status', target)
    assert.equal(stopped.state, 'stopped')
    assert.equal(stopped.lagBytes, 0)
    assert.equal(stopped.lagMs, 0)
    assert.equal(typeof stopped.position, 'string')
    assert.ok(stopped.consistent)
  })

  test(`${name}: a follower that was killed goes on where the copy stands`, async () => {
    const store = make(kind, 40)
    await (await followLive(store)).end('SIGKILL')
    store.add()
    const again = await followLive(store)
    const begun = await again.event('started')
    assert.equal(begun.resumed, true)
    await again.end('SIGTERM')
    assert.equal(await clonedCount(store, 'clone'), 41)
  })

  test(`${name}: the copy of one source does not become that of another by a mistyped name`, async () => {
    const store = make(kind, 5)
    await hotspare('follow', store.path, target, '--once')
    await fs.mkdir(join(root, 'other'))
    const other = kind(join(root, 'other'))
    opened.push(other)
    other.add()
    assertError(await hotspare('follow', other.path, target, '--once'), 'target-other-source')
    assert.equal(await clonedCount(store, 'clone'), 5)
  })

  test(`${name}: a clone goes to a free name only, and outside of the copy`, async () => {
    const store = make(kind, 5)
    await hotspare('follow', store.path, target, '--once')
    await fs.writeFile(join(root, 'taken'), 'mine')
    assertError(await hotspare('clone', target, join(root, 'taken')), 'target-foreign')
    assert.equal(await fs.readFile(join(root, 'taken'), 'utf8'), 'mine')
    assertError(await hotspare('clone', target, join(root, 'no/where')), 'target-missing')
    assertError(await hotspare('clone', join(root, 'nothing'), join(root, 'x')), 'target-missing')
  })
}

test('a target inside its source is refused before anything is made', async () => {
  const store = make(packsStore, 5)
  const before = await fs.readdir(store.path)
  assertError(await hotspare('follow', store.path, join(store.path, 'copy')), 'target-inside-source')
  assertError(await hotspare('follow', store.path, join(root, 'live')), 'target-inside-source')
  assertError(await hotspare('follow', store.path, store.path), 'target-inside-source')
  assert.deepEqual(await fs.readdir(store.path), before)
})

test('a one-file store gets its own name in a directory that exists or is asked for', async () => {
  const store = make(sqliteStore, 5)
  await fs.mkdir(join(root, 'backups'))
  for (const place of [join(root, 'backups'), join(root, 'made/')]) {
    const ended = await hotspare('follow', store.path, place, '--once')
    assert.equal(ended.exit, 0, ended.stderr)
    const report = await object('status', place)
    assert.equal(report.target, join(place, 'app.db'))
    await object('clone', place, `${join(place, 'clones')}/`)
    assert.equal(store.count(join(place, 'clones/app.db')), 5)
  }
})

test("the names of an RDM database may come without '.rdm'", async () => {
  const store = make(packsStore, 5)
  const without = store.path.replace('.rdm', '')
  assert.equal((await hotspare('follow', without, join(root, 'copy'), '--once')).exit, 0)
  assert.equal(store.count(target), 5)
  assert.equal((await object('status', join(root, 'copy'))).target, target)
  assert.equal((await object('check', join(root, 'copy'), '--against', without)).valid, true)
})

test('a directory to put the copy in must be there: an unmounted disk is not filled in silence', async () => {
  const store = make(sqliteStore, 1)
  assertError(
    await hotspare('follow', store.path, join(root, 'mnt/backup/app.db'), '--once'),
    'target-missing',
  )
  assert.deepEqual((await fs.readdir(root)).sort(), ['live'])
})

test('what no driver knows is named, and so are wrong options', async () => {
  await fs.writeFile(join(root, 'live/text'), 'only text\n'.repeat(100))
  const text = join(root, 'live/text')
  assertError(await hotspare('follow', text, target), 'source-unknown')
  assertError(await hotspare('follow', text, target, '--driver', 'nope'), 'usage')
  assertError(await hotspare('follow', text, target, '--profile', 'nope'), 'usage')
  assertError(await hotspare('follow', text, target, '--nope'), 'usage')
  assertError(await hotspare('follow', text), 'usage')
  assertError(await hotspare('nope'), 'usage')
})

test('each line of --json is an object with its time, and the events come in order', async () => {
  const store = make(sqliteStore, 5)
  const ended = await hotspare('follow', store.path, target, '--once', '--json')
  assert.equal(ended.stderr, '')
  const lines = ended.stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line))
  for (const line of lines) assert.equal(typeof line.timeMs, 'number')
  const order = lines.map(line => line.event).filter(event => event !== 'progress' && event !== 'notice')
  assert.deepEqual(order, ['started', 'live', 'stopped'])
})

test('an error with --json is one object on stderr', async () => {
  const { exit, stdout, stderr } = await hotspare('status', target, '--json')
  assert.equal(stdout, '')
  const { error } = JSON.parse(stderr)
  assert.equal(error.code, 'target-missing')
  assert.equal(error.exit, exit)
})

test('quiet says nothing when all is well', async () => {
  const store = make(packsStore, 5)
  const { exit, stdout, stderr } = await hotspare('follow', store.path, target, '--once', '--quiet')
  assert.deepEqual({ exit, stdout, stderr }, { exit: 0, stdout: '', stderr: '' })
})

test('a follower whose reader has gone ends after the current commit', async () => {
  const store = make(packsStore, 5)
  const run = await followLive(store)
  run.process.stdout?.destroy()
  store.add()
  const { exit } = await run.end()
  assert.equal(exit, 141)
  assert.ok((await clonedCount(store, 'clone')) >= 5)
})
