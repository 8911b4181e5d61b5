import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { mapShared } from '../../os/syscalls.ts'
import type { Commit, Position } from '../../stream/entry.ts'
import { TreeHints } from './hints.ts'
import type { DirectorySource } from './source.ts'
import { NaiveSink } from './testing/naive-sink.ts'
import { openTree, scratch } from './testing/source-fixture.ts'
import { treeState } from './testing/tree-state.ts'
import { TreeFile } from './tree-index.ts'
import { type LoadedTree, loadTree } from './tree-load.ts'

interface Place {
  readonly live: string
  readonly index: string
  readonly sink: NaiveSink
}

function place(t: TestContext): Place {
  const base = scratch(t)
  const live = join(base, 'live')
  fs.mkdirSync(live)
  return { live, index: join(base, 'index'), sink: new NaiveSink(join(base, 'copy')) }
}

function assertSame({ live, sink }: Place): void {
  assert.deepEqual(treeState(sink.root), treeState(live))
}

/** What a pass gives, by kind and path. */
function given(sink: NaiveSink): string[] {
  return sink.changes.splice(0).map(change => `${change.type} ${change.path}`)
}

test('a pass over an unchanged tree gives nothing, not even a commit', async t => {
  const at = place(t)
  fs.mkdirSync(join(at.live, 'd'))
  fs.writeFileSync(join(at.live, 'd/f'), 'content')
  const { pass } = await openTree(t, at.live, at.index)
  await pass(at.sink)
  assertSame(at)
  assert.equal(at.sink.commits.length, 1)
  assert.equal(at.sink.commits[0]?.consistent, false)
  given(at.sink)
  await pass(at.sink)
  await pass(at.sink)
  assert.deepEqual(given(at.sink), [])
  assert.equal(at.sink.commits.length, 1)
})

test('a new file comes without `replace`, a changed one with it, a touched one as attributes, a large one by its changed blocks', async t => {
  const at = place(t)
  fs.writeFileSync(join(at.live, 'changed'), 'one')
  fs.writeFileSync(join(at.live, 'touched'), 'same')
  fs.writeFileSync(join(at.live, 'large'), Buffer.alloc(5 * 1024 * 1024, 1))
  const { pass } = await openTree(t, at.live, at.index)
  await pass(at.sink)
  given(at.sink)
  fs.writeFileSync(join(at.live, 'changed'), 'two')
  fs.utimesSync(join(at.live, 'touched'), 1, 1)
  fs.writeFileSync(join(at.live, 'new'), 'new')
  fs.writeFileSync(join(at.live, 'empty'), '')
  const fd = fs.openSync(join(at.live, 'large'), 'r+')
  fs.writeSync(fd, 'x', 3_000_000)
  fs.closeSync(fd)
  await pass(at.sink)
  const writes = at.sink.changes.filter(change => change.type === 'write' && change.path === 'large')
  assert.deepEqual(
    writes.map(write => (write.type === 'write' ? [write.offset, write.data.length] : [])),
    [[2 * 1024 * 1024, 1024 * 1024]],
  )
  assert.deepEqual(given(at.sink), [
    'replace changed',
    'write changed',
    'attributes changed',
    'replaced changed',
    'write empty',
    'attributes empty',
    'write large',
    'attributes large',
    'write new',
    'attributes new',
    'attributes touched',
    'attributes ',
  ])
  assertSame(at)
})

test('content that changed within one tick, with the size and times of before, is found by the next pass', async t => {
  const at = place(t)
  const { pass } = await openTree(t, at.live, at.index)
  const file = join(at.live, 'f')
  for (let round = 0; round < 20; round++) {
    fs.writeFileSync(file, `a${round}`)
    await pass(at.sink)
    fs.writeFileSync(file, `b${round}`)
    fs.utimesSync(file, 1000, 1000)
    await pass(at.sink)
    fs.writeFileSync(file, `c${round}`)
    fs.utimesSync(file, 1000, 1000)
    await pass(at.sink)
    assertSame(at)
  }
})

test('a pass that was abandoned after a commit goes on from there, in the same process and in another', async t => {
  const at = place(t)
  for (let i = 0; i < 100; i++) fs.writeFileSync(join(at.live, `f${i}`), Buffer.alloc(1_000_000, i))
  let opened = await openTree(t, at.live, at.index)
  for (const way of ['same', 'other', 'other']) {
    const from = await at.sink.position()
    const signal = new AbortController().signal
    for await (const entry of opened.source.read(from, { signal, inventory: async () => undefined })) {
      await at.sink.write(entry)
      if (entry.type === 'commit') break
    }
    // void: it comes after the last commit
    const after = await at.sink.position()
    assert.equal((JSON.parse(after as string) as { complete: boolean }).complete, way !== 'same')
    if (way === 'other') {
      await opened.source.close()
      opened = await openTree(t, at.live, at.index)
    }
    fs.rmSync(join(at.live, 'f99'), { force: true })
  }
  const sent = at.sink.changes.filter(change => change.type === 'write').length
  assert.ok(sent < 120, `${sent} writes for 100 files`)
  await opened.pass(at.sink)
  assertSame(at)
})

test('a commit that the copy did not take is given again, and what was hinted before it', async t => {
  const at = place(t)
  fs.writeFileSync(join(at.live, 'f'), 'one')
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  await pass(at.sink)
  fs.writeFileSync(join(at.live, 'f'), 'two')
  const entries = await readAll(source, await at.sink.position())
  assert.ok(entries > 0)
  // the sink has seen none of it
  await pass(at.sink)
  assertSame(at)
})

test('acknowledgements in the middle of a pass leave an index that knows the whole tree', async t => {
  const at = place(t)
  // more files than one commit takes, bytes that are synced at once, an index that is large enough to be written anew
  const name = 'n'.repeat(200)
  const content = Buffer.alloc(500, 'x')
  for (let d = 0; d < 21; d++) {
    fs.mkdirSync(join(at.live, `d${d}`))
    for (let i = 0; i < 1000; i++) fs.writeFileSync(join(at.live, `d${d}/${name}${i}`), content)
  }
  const first = await openTree(t, at.live, at.index)
  await first.pass(at.sink)
  assert.ok(at.sink.commits.length > 1, 'a pass of more than one commit')
  await first.source.close()
  given(at.sink)
  for (const d of [0, 10, 20]) fs.writeFileSync(join(at.live, `d${d}/${name}0`), 'changed')
  const second = await openTree(t, at.live, at.index)
  await second.pass(at.sink)
  assertSame(at)
  // and did so without comparing all content anew
  assert.deepEqual(second.notices, [])
  assert.equal(given(at.sink).filter(what => what.startsWith('write')).length, 3)
})

test('a source that has read for another copy since does not go on from the one before without comparing', async t => {
  const at = place(t)
  const other = { ...at, sink: new NaiveSink(join(at.live, '../other')) }
  fs.writeFileSync(join(at.live, 'first'), '1')
  const { pass } = await openTree(t, at.live, at.index)
  await pass(at.sink)
  fs.mkdirSync(join(at.live, 'd'))
  fs.writeFileSync(join(at.live, 'd/second'), '2')
  await pass(other.sink)
  assertSame(other)
  const positions = [at, other].map(({ sink }) => sink.commits.at(-1)?.position)
  assert.notEqual(positions[0], positions[1])
  // this copy cannot be compared with: it must hear so, and not that nothing has changed
  await assert.rejects(pass(at.sink), { code: 'diverged' })
})

test('an index that says nothing of a directory that the copy has is not used', async t => {
  const at = place(t)
  fs.mkdirSync(join(at.live, 'd'))
  fs.writeFileSync(join(at.live, 'd/f'), 'one')
  const first = await openTree(t, at.live, at.index)
  await first.pass(at.sink)
  await first.source.close()
  const file = join(at.index, 'index')
  const { index, group } = loadTree(file) as LoadedTree
  index.directories.delete('d')
  TreeFile.create(file, group.header, index, { durable: false }).close()
  fs.writeFileSync(join(at.live, 'd/f'), 'two')
  const second = await openTree(t, at.live, at.index)
  at.sink.tellsInventory = true
  await second.pass(at.sink)
  assertSame(at)
  assert.deepEqual(
    second.notices.map(({ code }) => code),
    ['index-lost'],
  )
})

async function readAll(source: DirectorySource, from: Position | undefined): Promise<number> {
  let count = 0
  const signal = new AbortController().signal
  for await (const _ of source.read(from, { signal, inventory: async () => undefined })) count++
  return count
}

test('with hints a pass gives what changed, however it was changed', async t => {
  const at = place(t)
  for (let d = 0; d < 50; d++) {
    fs.mkdirSync(join(at.live, `d${d}`))
    for (let f = 0; f < 20; f++) fs.writeFileSync(join(at.live, `d${d}/f${f}`), `${f}`)
  }
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  await pass(at.sink)
  given(at.sink)
  fs.writeFileSync(join(at.live, 'd7/f3'), 'changed')
  await pass(at.sink)
  assert.deepEqual(given(at.sink), [
    'replace d7/f3',
    'write d7/f3',
    'attributes d7/f3',
    'replaced d7/f3',
    'attributes d7',
  ])
  fs.renameSync(join(at.live, 'd8'), join(at.live, 'd7/moved'))
  fs.writeFileSync(join(at.live, 'd7/moved/f1'), 'changed after the move')
  fs.chmodSync(join(at.live, 'd9/f1'), 0o600)
  fs.mkdirSync(join(at.live, 'new/deeper/still'), { recursive: true })
  fs.writeFileSync(join(at.live, 'new/deeper/still/file'), 'x')
  fs.chmodSync(at.live, 0o711)
  await pass(at.sink)
  assertSame(at)
  // what was moved and made since is watched too
  fs.writeFileSync(join(at.live, 'd7/moved/f2'), 'again')
  fs.writeFileSync(join(at.live, 'new/deeper/still/file'), 'again')
  await pass(at.sink)
  assertSame(at)
  fs.rmSync(join(at.live, 'new'), { recursive: true })
  fs.mkdirSync(join(at.live, 'd8'))
  fs.writeFileSync(join(at.live, 'd8/f1'), 'another directory under a former name')
  await pass(at.sink)
  assertSame(at)
})

test('what was written through a name is found under the others, though the directory of that name is gone', async t => {
  const at = place(t)
  for (const name of ['a', 'd', 'd/deeper']) fs.mkdirSync(join(at.live, name))
  for (const name of ['f', 'g']) fs.writeFileSync(join(at.live, 'a', name), 'before')
  fs.linkSync(join(at.live, 'a/f'), join(at.live, 'd/f'))
  fs.linkSync(join(at.live, 'a/g'), join(at.live, 'd/deeper/g'))
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  await pass(at.sink)
  for (const name of ['d/f', 'd/deeper/g']) fs.appendFileSync(join(at.live, name), 'after')
  fs.rmSync(join(at.live, 'd'), { recursive: true })
  await pass(at.sink)
  assertSame(at)
})

test('a symbolic link that was changed through one of its names is so under the others', async t => {
  const at = place(t)
  fs.symlinkSync('elsewhere', join(at.live, 'one'))
  fs.linkSync(join(at.live, 'one'), join(at.live, 'two'))
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  await pass(at.sink)
  fs.lutimesSync(join(at.live, 'one'), 1000, 1000)
  await pass(at.sink)
  assertSame(at)
})

test('a file that changes without an event is found by the look at everything, and from then on always', async t => {
  const at = place(t)
  const file = join(at.live, 'mapped')
  fs.writeFileSync(file, Buffer.alloc(4096, 1))
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  const fd = fs.openSync(file, 'r+')
  const mapping = mapShared(fd, 0, 4096)
  const bytes = new Uint8Array(mapping.bytes)
  // the file's times follow when the page is written back, as they do by themselves after a while
  const store = (value: number): void => {
    fs.fsyncSync(fd)
    bytes[100] = value
    fs.fsyncSync(fd)
  }
  try {
    await pass(at.sink)
    store(2)
    await pass(at.sink)
    assert.equal(fs.readFileSync(join(at.sink.root, 'mapped'))[100], 1)
    source.watch()
    await pass(at.sink)
    assertSame(at)
    store(3)
    await pass(at.sink)
    assertSame(at)
    store(4)
    const hold = await source.hold()
    await pass(at.sink)
    await hold.release()
    assertSame(at)
  } finally {
    mapping.unmap()
    fs.closeSync(fd)
  }
})

test('a burst beyond the queue of the kernel makes it look at everything', async t => {
  const at = place(t)
  const queued = Number(fs.readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'))
  for (const name of ['a', 'b']) fs.writeFileSync(join(at.live, name), 'x')
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  await pass(at.sink)
  await pass(at.sink)
  // two kinds of event in turn, since the kernel joins equal ones
  for (let i = 0; i < queued; i++) {
    fs.truncateSync(join(at.live, 'a'), i % 2)
    fs.chmodSync(join(at.live, 'b'), i % 2 === 0 ? 0o600 : 0o644)
  }
  fs.writeFileSync(join(at.live, 'after the overflow'), 'x')
  await pass(at.sink)
  assertSame(at)
})

test('when no more watches are allowed it says so and polls', async t => {
  const at = place(t)
  fs.mkdirSync(join(at.live, 'd'))
  const { source, notices, pass } = await openTree(t, at.live, at.index)
  // the kernel refuses the watch, as at its limit, which belongs to all processes of a user
  const nothing = fs.openSync('/dev/null', 'r')
  t.after(() => fs.closeSync(nothing))
  t.mock.getter(TreeHints.prototype, 'fd', () => nothing)
  source.watch()
  await pass(at.sink)
  const stop = new AbortController()
  const waiting = source.wait(stop.signal)
  stop.abort()
  await waiting
  assert.deepEqual(
    notices.map(({ code }) => code),
    ['polling'],
  )
  assert.match(notices[0]?.message ?? '', /max_user_watches/)
  fs.writeFileSync(join(at.live, 'd/f'), 'x')
  await pass(at.sink)
  assertSame(at)
})

test('a wait ends when something changes, and not before', { timeout: 20_000 }, async t => {
  const at = place(t)
  fs.mkdirSync(join(at.live, 'd'))
  const { source, pass } = await openTree(t, at.live, at.index)
  const stop = new AbortController()
  t.after(() => stop.abort())
  await pass(at.sink)
  // the first only begins to watch
  await source.wait(stop.signal)
  await pass(at.sink)
  let ended = false
  const waiting = source.wait(stop.signal).then(() => {
    ended = true
  })
  await new Promise(resolve => setTimeout(resolve, 100))
  assert.equal(ended, false)
  fs.writeFileSync(join(at.live, 'd/f'), 'x')
  await waiting
  await pass(at.sink)
  assertSame(at)
})

for (const watched of [false, true]) {
  const how = watched ? 'with hints' : 'without hints'
  test(`a held read of a tree that holds still is consistent, also when nothing changed, ${how}`, async t => {
    const at = place(t)
    fs.writeFileSync(join(at.live, 'f'), 'one')
    const { source, pass } = await openTree(t, at.live, at.index)
    if (watched) source.watch()
    await pass(at.sink)
    fs.writeFileSync(join(at.live, 'f'), 'two')
    for (let time = 0; time < 2; time++) {
      const hold = await source.hold()
      await pass(at.sink)
      assert.deepEqual(await hold.changed(), [])
      await hold.release()
      assert.equal(at.sink.commits.at(-1)?.consistent, true)
      const said = JSON.parse(at.sink.commits.at(-1)?.position as string) as Record<string, unknown>
      assert.equal(said.held, true)
      assert.equal(said.complete, true)
      assertSame(at)
    }
    await pass(at.sink)
    assert.equal(at.sink.commits.length, 3)
  })

  test(`what is written while writers are held is named, ${how}`, async t => {
    const at = place(t)
    fs.mkdirSync(join(at.live, 'd'))
    fs.writeFileSync(join(at.live, 'd/f'), 'one')
    fs.writeFileSync(join(at.live, 'g'), 'one')
    const { source, pass } = await openTree(t, at.live, at.index)
    if (watched) source.watch()
    await pass(at.sink)
    fs.writeFileSync(join(at.live, 'g'), 'before the hold')
    await new Promise(resolve => setTimeout(resolve, 30))
    const hold = await source.hold()
    await new Promise(resolve => setTimeout(resolve, 30))
    fs.writeFileSync(join(at.live, 'd/f'), 'two')
    await pass(at.sink)
    assert.deepEqual(await hold.changed(), ['d/f'])
    await hold.release()
    assertSame(at)
  })

  test(`a tree that never holds still is not consistent, and its files are named, ${how}`, async t => {
    const at = place(t)
    fs.writeFileSync(join(at.live, 'f'), '0')
    fs.writeFileSync(join(at.live, 'still'), '0')
    const { source, notices } = await openTree(t, at.live, at.index)
    if (watched) source.watch()
    const hold = await source.hold()
    let commit: Commit | undefined
    let number = 0
    const signal = new AbortController().signal
    const write = () => fs.appendFileSync(join(at.live, 'f'), `${++number}`)
    for await (const entry of source.read(undefined, { signal, inventory: async () => undefined })) {
      await at.sink.write(entry)
      if (entry.type === 'commit') commit = entry
      else write()
    }
    assert.equal(commit?.consistent, false)
    assert.ok((await hold.changed()).includes('f'))
    await hold.release()
    const notice = notices.find(({ code }) => code === 'never-still')
    assert.deepEqual(notice?.details?.paths, watched ? ['f'] : ['f'])
  })
}

test('a directory that may not be read is an error that names it, never a hole', async t => {
  const at = place(t)
  fs.mkdirSync(join(at.live, 'secret'), { mode: 0o000 })
  fs.writeFileSync(join(at.live, 'f'), 'x')
  if (process.geteuid?.() === 0) {
    // root may read everything: another user has to try
    fs.chmodSync(scratchParent(at), 0o755)
    fs.chmodSync(at.live, 0o755)
    const script = `
      import { openDirectorySource } from ${JSON.stringify(new URL('./source.ts', import.meta.url).href)}
      import { nodeStorage } from ${JSON.stringify(new URL('../../os/node-storage.ts', import.meta.url).href)}
      import { systemClock } from ${JSON.stringify(new URL('../../os/clock.ts', import.meta.url).href)}
      process.setgid(65534)
      process.setuid(65534)
      const source = await openDirectorySource({ storage: nodeStorage, clock: systemClock, store: 's',
        path: ${JSON.stringify(at.live)}, driverOptions: {}, scratch: '/nowhere', onNotice() {} })
      try {
        for await (const _ of source.read(undefined, { signal: new AbortController().signal, inventory: async () => undefined }));
        console.log('no error')
      } catch (error) { console.log(error.code, error.details?.path ?? error.stack) }
      await source.close()`
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
    assert.equal(said.trim(), `permission-denied ${at.live}/secret`)
    return
  }
  const { source } = await openTree(t, at.live, at.index)
  await assert.rejects(readAll(source, undefined), { code: 'permission-denied', message: /secret/ })
})

function scratchParent({ live }: Place): string {
  return join(live, '..')
}

test('pipes and sockets are named, not copied', async t => {
  const at = place(t)
  execFileSync('mkfifo', [join(at.live, 'pipe')])
  fs.writeFileSync(join(at.live, 'f'), 'x')
  const { notices, pass } = await openTree(t, at.live, at.index)
  await pass(at.sink)
  await pass(at.sink)
  assert.deepEqual(
    notices.map(({ code, details }) => [code, details?.paths]),
    [['special-skipped', ['pipe']]],
  )
  assert.deepEqual(fs.readdirSync(at.sink.root), ['f'])
})

test('an empty directory in place of a full one is not taken for a tree that was emptied', async t => {
  const at = place(t)
  fs.writeFileSync(join(at.live, 'f'), 'x')
  const { pass } = await openTree(t, at.live, at.index)
  await pass(at.sink)
  fs.renameSync(at.live, `${at.live}-away`)
  await assert.rejects(pass(at.sink), { code: 'source-missing' })
  fs.mkdirSync(at.live)
  await assert.rejects(pass(at.sink), { code: 'source-missing', message: /mounted/ })
  fs.rmdirSync(at.live)
  fs.renameSync(`${at.live}-away`, at.live)
  await pass(at.sink)
  assertSame(at)
})

test('directories that are moved while they are walked are found', { timeout: 60_000 }, async t => {
  const at = place(t)
  for (let d = 0; d < 200; d++) {
    fs.mkdirSync(join(at.live, `d${d}/a/b`), { recursive: true })
    fs.writeFileSync(join(at.live, `d${d}/a/b/f`), `${d}`)
  }
  const { source, pass } = await openTree(t, at.live, at.index)
  source.watch()
  const mover = execMover(at.live)
  t.after(() => mover.kill('SIGKILL'))
  for (let i = 0; i < 15; i++) await pass(at.sink)
  mover.kill('SIGKILL')
  await new Promise(resolve => mover.once('exit', resolve))
  await pass(at.sink)
  assertSame(at)
})

function execMover(live: string) {
  const script = `
    import fs from 'node:fs'
    for (let i = 0; ; i++) {
      const d = i % 200
      const [from, to] = [${JSON.stringify(live)} + '/d' + d, ${JSON.stringify(live)} + '/m' + d]
      fs.renameSync(from, to)
      fs.renameSync(to + '/a', to + '/c')
      fs.writeFileSync(to + '/c/b/f', String(i))
      fs.renameSync(to + '/c', to + '/a')
      fs.renameSync(to, from)
    }`
  return spawnNode(script)
}

function spawnNode(script: string): ChildProcess {
  return spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' })
}

test('a tree of a hundred levels, and names of 255 bytes', async t => {
  const at = place(t)
  const name = 'n'.repeat(255)
  const start = process.cwd()
  try {
    process.chdir(at.live)
    for (let level = 0; level < 100; level++) {
      fs.mkdirSync(name)
      process.chdir(name)
      if (level % 10 === 0) fs.writeFileSync('f', `${level}`)
    }
  } finally {
    process.chdir(start)
  }
  const { source } = await openTree(t, at.live, at.index)
  const signal = new AbortController().signal
  const kinds = new Map<string, number>()
  for await (const entry of source.read(undefined, { signal, inventory: async () => undefined })) {
    const kind = entry.type === 'node' ? entry.node.kind : entry.type
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  }
  assert.deepEqual(Object.fromEntries(kinds), { directory: 100, write: 10, attributes: 111, commit: 1 })
})
