import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { assertError, hotspare, killStarted, main, Run } from './hotspare.ts'
import { type LiveStore, storeKinds } from './stores.ts'

/**
 * A small disk of its own: a tmpfs in a private mount namespace, which a sleeping process holds open. What runs there
 * is entered with nsenter; the source lies outside, on the machine's own disk.
 */
const needed = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
const skip =
  needed || process.env.HOTSPARE_REQUIRE_ENGINES === '1'
    ? false
    : 'needs root and mount namespaces: run as root, with util-linux installed'

let root: string
let holder: Run
const stores: LiveStore[] = []

before(async () => {
  if (skip !== false) return
  root = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'hotspare-full-')))
  await fs.mkdir(join(root, 'disk'))
  const script = `mount -t tmpfs -o size=6m,mode=0755 none '${root}/disk' && echo '{"event":"mounted"}' && exec sleep 600`
  holder = new Run('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script])
  await holder.event('mounted')
})
afterEach(() => {
  killStarted()
  for (const store of stores.splice(0)) store.close()
})
after(async () => {
  if (skip !== false) return
  await holder.end('SIGKILL')
  await fs.rm(root, { recursive: true })
})

const inside = (...command: string[]) => ['-t', String(holder.process.pid), '-m', ...command]
const there = (...args: string[]) => new Run('nsenter', inside(process.execPath, main, ...args))

function sh(script: string): string {
  const { stdout, stderr, status } = spawnSync('nsenter', inside('sh', '-c', script), { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  return stdout
}

for (const kind of storeKinds) {
  test(`${kind.name}: a full disk is said, harms nothing, and when it is cleared following goes on by itself`, {
    skip,
  }, async () => {
    const live = join(root, `live-${kind.name}`)
    const disk = join(root, 'disk')
    const target = join(disk, 'copy.rdm')
    await fs.mkdir(live)
    sh(`rm -rf ${disk}/*`)
    const store = kind(live)
    stores.push(store)
    for (let n = 0; n < 200; n++) store.add()
    const run = there('follow', store.path, target, '--json')
    await run.event('live')

    // no room but for a few pages, then more than that is written
    sh(`dd if=/dev/zero of=${disk}/filling bs=4k 2>/dev/null; truncate -s -64k ${disk}/filling`)
    for (let n = 0; n < 2_000; n++) store.add()
    const retrying = await run.event('retrying', 'disk-full')
    assert.match(String(retrying.message), /Free some space/)
    const status = there('status', target, '--json')
    assert.equal((await status.end()).exit, 0)
    assert.equal(status.lines[0]?.running, true)

    sh(`rm ${disk}/filling`)
    await run.event('caught-up')
    const clone = join(disk, 'clone')
    assert.equal((await there('clone', target, clone).end()).exit, 0)
    sh(`cp -r ${clone} ${root}/seen-${kind.name} 2>/dev/null || cp ${clone} ${root}/seen-${kind.name}`)
    assert.equal(store.count(join(root, `seen-${kind.name}`)), 2_200)
    const checked = there('check', target, '--against', store.path, '--json')
    assert.equal((await checked.end()).exit, 0)
    assert.equal((await run.end('SIGTERM')).exit, 0)
  })

  test(`${kind.name}: with once, a full disk is an error, and a new start completes the copy`, {
    skip,
  }, async () => {
    const live = join(root, `once-${kind.name}`)
    const disk = join(root, 'disk')
    const target = join(disk, 'copy.rdm')
    await fs.mkdir(live)
    sh(`rm -rf ${disk}/*`)
    const store = kind(live)
    stores.push(store)
    for (let n = 0; n < 2_000; n++) store.add()
    sh(`dd if=/dev/zero of=${disk}/filling bs=4k 2>/dev/null; truncate -s -256k ${disk}/filling`)
    assertError(await there('follow', store.path, target, '--once').end(), 'disk-full')
    sh(`rm ${disk}/filling`)
    assert.equal((await there('follow', store.path, target, '--once').end()).exit, 0)
    assert.equal((await there('check', target, '--against', store.path).end()).exit, 0)
  })
}

const nobody = 65_534

for (const kind of storeKinds) {
  test(`${kind.name}: no permission for source or target is said, with its status, and harms nothing`, {
    skip,
  }, async () => {
    const place = join(root, `private-${kind.name}`)
    await fs.mkdir(place)
    await fs.mkdir(join(place, 'theirs'))
    await fs.chown(join(place, 'theirs'), nobody, nobody)
    for (const directory of [root, place]) await fs.chmod(directory, 0o755)
    const store = kind(place)
    stores.push(store)
    for (let n = 0; n < 5; n++) store.add()
    const asNobody = (...args: string[]) =>
      new Run('setpriv', [
        `--reuid=${nobody}`,
        `--regid=${nobody}`,
        '--clear-groups',
        process.execPath,
        main,
        ...args,
      ]).end()

    await fs.chmod(store.path, 0)
    assertError(await asNobody('follow', store.path, join(place, 'theirs/copy.rdm')), 'permission-denied')
    assert.equal(store.count(store.path), 5)

    await fs.chmod(store.path, 0o755)
    assertError(await asNobody('follow', store.path, join(place, 'copy.rdm'), '--once'), 'permission-denied')
    assert.equal((await fs.readdir(place)).includes('copy.rdm.hotspare'), false)

    assert.equal((await hotspare('follow', store.path, join(place, 'copy.rdm'), '--once')).exit, 0)
    assertError(await asNobody('follow', store.path, join(place, 'copy.rdm'), '--once'), 'permission-denied')
    assertError(await asNobody('status', join(place, 'copy.rdm')), 'permission-denied')
  })
}
