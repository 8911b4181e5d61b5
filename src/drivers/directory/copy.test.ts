import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setXattr } from '../../os/attributes.ts'
import { systemClock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { type Change, type Entry, type EntryPath, entryPathFromText, storeName } from '../../stream/entry.ts'
import type { CheckReport, CopyOptions, Notice, Replica, ReplicaOptions } from '../driver.ts'
import { checkDirectoryCopy, cloneDirectoryCopy } from './copy-reading.ts'
import { openDirectoryReplica } from './copy-replica.ts'
import { CopyModel } from './testing/copy-model.ts'
import { assertShows, type CopyPlace, commit, makePlace } from './testing/copy-place.ts'

const store = storeName('tree')
let place: CopyPlace
let open: Replica[]
let notices: Notice[]
beforeEach(() => {
  place = makePlace()
  open = []
  notices = []
})
afterEach(async () => {
  for (const replica of open) await replica.close().catch(() => undefined)
  place.remove()
})

const machine = { storage: nodeStorage, clock: systemClock }
const at = (text: string): EntryPath => entryPathFromText(text)

async function openReplica(options: Partial<ReplicaOptions> = {}): Promise<Replica> {
  const replica = await openDirectoryReplica({
    ...machine,
    store,
    path: place.target,
    sidecar: place.sidecar,
    resync: false,
    noDelete: false,
    onNotice: notice => notices.push(notice),
    ...options,
  })
  open.push(replica)
  return replica
}

function copyOptions(): CopyOptions {
  return {
    ...machine,
    store,
    path: place.target,
    sidecar: place.sidecar,
    signal: new AbortController().signal,
    onProgress: () => {},
    onNotice: notice => notices.push(notice),
  }
}

const check = (against?: string): Promise<CheckReport> =>
  checkDirectoryCopy({ ...copyOptions(), ...(against === undefined ? {} : { against }) })

async function send(replica: Replica, ...entries: Entry[]): Promise<void> {
  for (const entry of entries) await replica.write(entry)
  await replica.sync()
}

const write = (path: string, text: string, offset = 0): Change => ({
  type: 'write',
  store,
  path: at(path),
  offset,
  data: Buffer.from(text),
})
const attributes = (path: string, mode = 0o644): Change => ({
  type: 'attributes',
  store,
  path: at(path),
  mode,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  mtimeNs: 1_600_000_000_123_456_789n,
})
const file = (path: string, text: string, mode?: number): Change[] => [
  write(path, text),
  attributes(path, mode),
]
const replaced = (path: string, text: string): Change[] => [
  { type: 'replace', store, path: at(path) },
  ...file(path, text),
  { type: 'replaced', store, path: at(path) },
]
const directory = (path: string): Change => ({
  type: 'node',
  store,
  path: at(path),
  node: { kind: 'directory' },
})
const remove = (path: string): Change => ({ type: 'remove', store, path: at(path) })
const text = (path: string) => fs.readFileSync(join(place.target, path), 'utf8')
const codeOf = (code: string) => (error: unknown) => error instanceof HotspareError && error.code === code

test('the first copy takes its name at the end of the first whole pass, and not before', async () => {
  const replica = await openReplica()
  await send(replica, directory('d'), ...file('d/a', 'one'), commit(1, 'part'))
  assert.equal(fs.existsSync(place.target), false)
  await assert.rejects(check(), codeOf('target-incomplete'))
  await send(replica, ...file('b', 'two'), attributes('d', 0o755), commit(2, 'complete'))
  assert.equal(text('d/a'), 'one')
  assert.equal(text('b'), 'two')
  assert.equal(replica.consistent(), undefined)
})

test('a first copy is gone on with after a kill: the position is the last that was synced', async () => {
  const first = await openReplica()
  await send(first, ...file('a', 'one'), commit(1, 'part'))
  for (const entry of [...file('b', 'lost'), commit(2, 'part')]) await first.write(entry)
  await first.close()
  const replica = await openReplica()
  assert.equal(JSON.parse((await replica.position(store)) as string).pass, 1)
  await send(replica, ...file('c', 'three'), commit(3, 'complete'))
  assert.deepEqual(fs.readdirSync(place.target).sort(), ['a', 'c'])
})

test('a copy that was emptied has an inventory of nothing, a copy that was never written has none', async () => {
  const replica = await openReplica()
  assert.equal(await replica.inventory?.(store), undefined)
  await send(replica, ...file('a', 'one'), commit(1, 'complete'))
  await send(replica, remove('a'), commit(2, 'complete'))
  const inventory = await replica.inventory?.(store)
  assert.ok(inventory !== undefined)
  for await (const { path } of inventory.files()) assert.fail(`it has '${path}'`)
  await replica.close()
  const again = await openReplica()
  assert.ok((await again.inventory?.(store)) !== undefined)
})

test('from the first held pass on only held passes are shown, and what others bring is durable', async () => {
  const replica = await openReplica()
  await send(replica, ...file('a', 'one'), commit(1, 'held'))
  assert.equal(JSON.parse(replica.consistent()?.position as string).pass, 1)
  await send(replica, ...replaced('a', 'two'), ...file('b', 'new'), commit(2, 'complete'))
  assert.equal(text('a'), 'one')
  await replica.close()
  const again = await openReplica()
  assert.equal(JSON.parse((await again.position(store)) as string).pass, 2)
  const inventory = await again.inventory?.(store)
  assert.equal((await inventory?.file(at('b')))?.size, 3)
  await send(again, commit(3, 'held'))
  assert.equal(text('a'), 'two')
  assert.equal(text('b'), 'new')
  assert.equal(JSON.parse(again.consistent()?.position as string).pass, 3)
})

test('two whole passes between two syncs show one after another, never a mixture', async () => {
  const replica = await openReplica()
  for (const entry of [...file('a', 'one'), commit(1, 'held'), ...replaced('a', 'two'), commit(2, 'part')])
    await replica.write(entry)
  await replica.sync()
  assert.equal(text('a'), 'one')
})

const damages: Record<string, (path: string) => void> = {
  'bytes of the same length': path => fs.writeFileSync(path, 'eno'),
  'a longer file': path => fs.appendFileSync(path, '!'),
  'another file of that name': path => {
    fs.rmSync(path)
    fs.writeFileSync(path, 'foreign')
  },
  'no file': path => fs.rmSync(path),
  'a directory': path => {
    fs.rmSync(path)
    fs.mkdirSync(path)
  },
  'a symbolic link': path => {
    fs.rmSync(path)
    fs.symlinkSync('/etc/hostname', path)
  },
  'another mode': path => fs.chmodSync(path, 0o666),
}
for (const [what, damage] of Object.entries(damages)) {
  for (const [how, changes] of Object.entries({
    replaced: replaced('d/a', 'two'),
    removed: [remove('d/a')],
    'removed with its directory': [remove('d')],
    'changed in place': [write('d/a', 'X', 1), attributes('d/a')],
  })) {
    test(`a file that somebody made ${what} is named and not overwritten when it is to be ${how}; a resync takes it as it is`, async () => {
      const replica = await openReplica()
      await send(replica, directory('d'), ...file('d/a', 'one'), ...file('b', 'b'), commit(1, 'complete'))
      damage(join(place.target, 'd/a'))
      const seen = treeOf(place.target)
      const failed = send(replica, ...changes, ...replaced('b', 'c'), commit(2, 'complete'))
      await assert.rejects(failed, error => codeOf('target-changed')(error) && /d\/a/.test(String(error)))
      assert.deepEqual(treeOf(place.target), seen)
      await replica.close()
      const again = await openReplica({ resync: true })
      assert.equal(await again.position(store), undefined)
      await send(again, remove('d'), directory('d'), ...replaced('d/a', 'two'), commit(3, 'complete'))
      assert.equal(text('d/a'), 'two')
      assert.equal((await check()).valid, true)
    })
  }
}

function treeOf(root: string): string {
  return spawnSync('find', [root, '-printf', '%P %y %m %s %i %l\\n'])
    .stdout.toString()
    .split('\n')
    .sort()
    .join('\n')
}

test('a name that somebody put where a new one is to be is not overwritten', async () => {
  const replica = await openReplica()
  await send(replica, ...file('a', 'one'), commit(1, 'complete'))
  fs.writeFileSync(join(place.target, 'b'), 'mine')
  await assert.rejects(send(replica, ...file('b', 'two'), commit(2, 'complete')), codeOf('target-changed'))
  assert.equal(text('b'), 'mine')
})

test('a directory that is to go is not removed with what somebody put into it', async () => {
  const replica = await openReplica()
  await send(replica, directory('d'), ...file('d/a', 'one'), commit(1, 'complete'))
  fs.writeFileSync(join(place.target, 'd/mine'), 'mine')
  await assert.rejects(send(replica, remove('d'), commit(2, 'complete')), error =>
    /d\/mine/.test(String(error)),
  )
  assert.equal(text('d/mine'), 'mine')
})

test('a copy that was carried to other inodes is still known by its bytes', async () => {
  const replica = await openReplica()
  await send(replica, ...file('a', 'one'), commit(1, 'complete'))
  await replica.close()
  fs.cpSync(place.target, `${place.target}2`, { recursive: true, preserveTimestamps: true })
  spawnSync('cp', ['-a', `${place.target}/.`, `${place.target}3`])
  fs.rmSync(place.target, { recursive: true })
  fs.renameSync(`${place.target}3`, place.target)
  await send(await openReplica(), ...replaced('a', 'two'), commit(2, 'complete'))
  assert.equal(text('a'), 'two')
})

test('no entry leads out of the copy, not even through links that somebody put there', async () => {
  const outside = join(place.root, 'outside')
  fs.mkdirSync(outside)
  const replica = await openReplica()
  await send(replica, directory('d'), ...file('d/a', 'one'), commit(1, 'complete'))
  fs.renameSync(join(place.target, 'd'), join(place.root, 'moved'))
  fs.symlinkSync(outside, join(place.target, 'd'))
  await assert.rejects(send(replica, ...file('d/b', 'two'), commit(2, 'complete')), codeOf('target-changed'))
  await replica.close()
  const link: Change = { type: 'node', store, path: at('l'), node: { kind: 'symlink', target: outside } }
  fs.rmSync(join(place.target, 'd'))
  fs.renameSync(join(place.root, 'moved'), join(place.target, 'd'))
  const again = await openReplica()
  await assert.rejects(
    send(again, link, ...file('l/b', 'two'), commit(2, 'complete')),
    codeOf('entry-invalid'),
  )
  assert.deepEqual(fs.readdirSync(outside), [])
})

test('with noDelete nothing is removed', async () => {
  const replica = await openReplica({ noDelete: true })
  await send(replica, ...file('a', 'one'), ...file('b', 'two'), commit(1, 'complete'))
  await send(replica, remove('a'), ...replaced('b', 'three'), commit(2, 'complete'))
  assert.equal(text('a'), 'one')
  assert.equal(text('b'), 'three')
})

test('a target that is none of ours is refused, and taken over with resync', async () => {
  fs.mkdirSync(join(place.target, 'd'), { recursive: true })
  fs.writeFileSync(join(place.target, 'd/a'), 'one')
  fs.linkSync(join(place.target, 'd/a'), join(place.target, 'b'))
  fs.symlinkSync('x', join(place.target, 'l'))
  await assert.rejects(openReplica(), codeOf('target-foreign'))
  const replica = await openReplica({ resync: true })
  const inventory = await replica.inventory?.(store)
  const files: string[] = []
  for await (const { path, size } of inventory?.files() ?? []) files.push(`${path} ${size}`)
  assert.deepEqual(files, ['b 3'])
  const others: string[] = []
  for await (const { path, kind } of inventory?.others?.() ?? []) others.push(`${path} ${kind}`)
  assert.deepEqual(others, ['d directory', 'd/a hardlink', 'l symlink'])
})

test('an empty directory at the target gives way to the first copy', async () => {
  fs.mkdirSync(place.target)
  await send(await openReplica(), ...file('a', 'one'), commit(1, 'complete'))
  assert.equal(text('a'), 'one')
})

test('a clone is what the copy shows, with all metadata, and shares nothing with it that a later pass changes', async () => {
  const model = new CopyModel()
  const replica = await openReplica()
  const big = Buffer.alloc(3_000_000, 'abc').toString()
  const changes: Change[] = [
    directory('d'),
    ...file('d/a', 'one', 0o4755),
    write('big', big.slice(0, 1_000_000)),
    write('big', 'end', 5_000_000),
    { ...attributes('big'), xattrs: { 'user.x': Buffer.from('y') } } as Change,
    { type: 'node', store, path: at('h'), node: { kind: 'hardlink', to: at('d/a') } },
    { type: 'node', store, path: at('s'), node: { kind: 'symlink', target: '/nowhere' } },
    attributes('d', 0o1777),
    attributes('', 0o750),
  ]
  for (const change of changes) model.apply(change)
  await send(replica, ...changes, commit(1, 'held'))
  assertShows(place.target, model.describe())
  const destination = join(place.root, 'clone')
  const report = await cloneDirectoryCopy({ ...copyOptions(), destination })
  assert.equal(report.bytes, 5_000_003 + 3)
  assert.equal(JSON.parse(report.commit.position).pass, 1)
  assertShows(destination, model.describe())
  const clone = model.describe()
  await send(replica, write('big', 'CHANGED', 10), attributes('big'), remove('d'), commit(2, 'held'))
  assertShows(destination, clone)
  assert.equal(rsync(place.target, destination) === '', false)
  await assert.rejects(cloneDirectoryCopy({ ...copyOptions(), destination }), codeOf('target-foreign'))
})

function rsync(from: string, to: string): string {
  return spawnSync('rsync', [
    '-aHAXn',
    '--delete',
    '-i',
    '--checksum',
    `${from}/`,
    `${to}/`,
  ]).stdout.toString()
}

test('a clone of which a byte of the copy is wrong is not made', async () => {
  await send(await openReplica(), ...file('a', 'one'), commit(1, 'complete'))
  fs.writeFileSync(join(place.target, 'a'), 'eno')
  const destination = join(place.root, 'clone')
  await assert.rejects(cloneDirectoryCopy({ ...copyOptions(), destination }), codeOf('digest-mismatch'))
  assert.deepEqual(fs.readdirSync(place.root).sort(), ['copy', 'copy.hotspare'])
})

test('check names a hard link of the source that the copy has as a file of its own, and one in the copy', async () => {
  const source = join(place.root, 'source')
  await send(await openReplica(), ...file('a', 'one'), ...file('b', 'one'), commit(1, 'complete'))
  spawnSync('cp', ['-a', place.target, source])
  assert.equal((await check(source)).valid, true)
  fs.rmSync(join(source, 'b'))
  fs.linkSync(join(source, 'a'), join(source, 'b'))
  const compared = await check(source)
  assert.equal(compared.valid, false)
  assert.match(
    JSON.stringify(compared.findings),
    /at the source 'b' is another name of 'a', and was copied as/,
  )
  fs.rmSync(join(place.target, 'b'))
  fs.linkSync(join(place.target, 'a'), join(place.target, 'b'))
  assert.match(JSON.stringify((await check()).findings), /'b' is another name of 'a', and was copied as/)
})

test('check names what differs: bytes, metadata, missing and additional names; and nothing when all is right', async () => {
  const source = join(place.root, 'source')
  const replica = await openReplica()
  await send(
    replica,
    directory('d'),
    ...file('d/a', 'one'),
    ...file('b', 'two'),
    attributes('d', 0o755),
    attributes('', 0o755),
    commit(1, 'complete'),
  )
  spawnSync('cp', ['-a', place.target, source])
  assert.deepEqual(
    (await check(source)).findings.filter(({ ok }) => !ok),
    [],
  )
  fs.writeFileSync(join(source, 'd/a'), 'eno')
  fs.writeFileSync(join(source, 'new'), '')
  const compared = await check(source)
  assert.equal(compared.valid, false)
  assert.match(JSON.stringify(compared.findings), /at the source 'new'.*'d\/a' has other bytes at the source/)
  const times = fs.statSync(join(place.target, 'd/a'))
  fs.writeFileSync(join(place.target, 'd/a'), 'eno')
  fs.utimesSync(join(place.target, 'd/a'), times.atime, times.mtime)
  fs.chmodSync(join(place.target, 'b'), 0o600)
  fs.writeFileSync(join(place.target, 'x'), '')
  const report = await check()
  assert.equal(report.valid, false)
  const said = report.findings
    .filter(({ ok }) => !ok)
    .map(({ what }) => what)
    .join('\n')
  assert.match(said, /'d\/a' differs from what was copied/)
  assert.match(said, /'b' has mode 0600/)
  assert.match(said, /'x' is not in the record/)
})

test('a wrong byte beside a change within one block is named, and not taken for right', async () => {
  const replica = await openReplica()
  await send(replica, ...file('a', 'one two three'), commit(1, 'complete'))
  const path = join(place.target, 'a')
  const { atime, mtime } = fs.statSync(path)
  fs.writeFileSync(path, 'ONE two three')
  fs.utimesSync(path, atime, mtime)
  await assert.rejects(
    send(replica, write('a', 'TWO', 4), attributes('a'), commit(2, 'part')),
    codeOf('target-changed'),
  )
})

test('nothing in a copy inherits the access lists or the group of the directory that it lies in', async t => {
  // version 2; user::rwx, user:1000:rwx, group::rwx, mask::rwx, other::---, in struct posix_acl_xattr_entry
  const acl = Buffer.from(
    '0200000001000700ffffffff02000700e803000004000700ffffffff10000700ffffffff20000000ffffffff',
    'hex',
  )
  try {
    setXattr(place.root, 'system.posix_acl_default', acl)
    setXattr(place.sidecar, 'system.posix_acl_default', acl)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EOPNOTSUPP') throw error
    t.skip('this file system has no ACLs')
    return
  }
  fs.chmodSync(place.sidecar, 0o2700)
  const model = new CopyModel()
  const replica = await openReplica()
  const passes = [
    [directory('d'), ...file('d/a', 'one'), attributes('d', 0o755), attributes('', 0o755)],
    [...replaced('d/a', 'two'), directory('e'), ...file('e/b', 'b'), attributes('e', 0o700), attributes('d')],
    // with one of its own, which what is made in it later has not either
    [{ ...attributes('e', 0o770), xattrs: { 'system.posix_acl_default': acl } } as Change],
    [directory('e/f'), ...file('e/f/c', 'c'), attributes('e/f', 0o700), attributes('e', 0o770)],
  ]
  for (const [n, changes] of passes.entries()) {
    for (const change of changes) model.apply(change)
    await send(replica, ...changes, commit(n + 1, 'complete'))
    assertShows(place.target, model.describe())
  }
  assert.equal((await check()).valid, true)
})

test('what was not synced is void after a close, also when nothing was written before', async () => {
  await send(await openReplica(), ...file('a', 'one'), commit(1, 'complete'))
  await open.pop()?.close()
  const replica = await openReplica()
  for (const entry of [...file('b', 'two'), commit(2, 'complete')]) await replica.write(entry)
  await replica.close()
  await new Promise(resolve => setImmediate(resolve))
  const again = await openReplica()
  assert.equal(JSON.parse((await again.position(store)) as string).pass, 1)
  assert.deepEqual(fs.readdirSync(place.target), ['a'])
})
