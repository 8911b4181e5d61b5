import assert from 'node:assert/strict'
import {
  appendFile,
  chmod,
  symlink as makeSymlink,
  mkdir,
  mkdtemp,
  rename as moveFile,
  readdir,
  readFile,
  rm,
  stat,
  truncate as truncateFile,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Notice, Replica, ReplicaOptions } from '../drivers/driver.ts'
import { systemClock } from '../os/clock.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { FaultyStorage } from '../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../os/testing/memory-disk.ts'
import { type Change, entryPath, position } from '../stream/entry.ts'
import { cloneFileCopy } from './clone.ts'
import { openRecordedCopy } from './file-inventory.ts'
import { openFileReplica } from './file-replica.ts'
import { checkRecorded } from './recorded-check.ts'
import {
  change,
  directory,
  hardlink,
  type PlainChange,
  rename,
  modelStore as store,
  symlink,
  truncate,
  write as writeBytes,
} from './testing/copy-model.ts'

const write = (path: string, offset: number, data: string | Buffer) =>
  writeBytes(path, offset, Buffer.from(data as string))

type Applies = 'in-order' | 'atomic'

async function scratch(t: TestContext) {
  const base = await mkdtemp(join(tmpdir(), 'hotspare-replica-'))
  t.after(() => rm(base, { recursive: true, force: true }))
  const target = join(base, 'copy')
  const sidecar = `${target}.hotspare`
  await mkdir(sidecar)
  const notices: Notice[] = []
  const shared = { storage: nodeStorage, clock: systemClock, store, path: target, sidecar }
  return {
    base,
    target,
    sidecar,
    notices,
    open: (applies: Applies = 'in-order', more: Partial<ReplicaOptions> = {}) =>
      openFileReplica(
        { ...shared, resync: false, noDelete: false, onNotice: notice => notices.push(notice), ...more },
        { applies, blockBytes: 4096 },
      ),
    clone: (destination: string) =>
      cloneFileCopy({
        ...shared,
        destination,
        signal: AbortSignal.timeout(20_000),
        onProgress() {},
        onNotice() {},
      }),
    check: () =>
      checkRecorded({
        ...shared,
        signal: AbortSignal.timeout(20_000),
        onProgress() {},
        onNotice() {},
      }),
  }
}

async function send(
  replica: Replica,
  at: string,
  changes: readonly PlainChange[],
  consistent = true,
): Promise<void> {
  for (const one of changes) await replica.write({ ...one, store } as Change)
  await replica.write({ type: 'commit', store, position: position(at), consistent, timeMs: 1 })
  await replica.sync()
}

test('a first copy takes its name when it is consistent, and is gone on with after a stop', async t => {
  const { target, open } = await scratch(t)
  let replica = await open()
  assert.equal(await replica.position(store), undefined)
  await send(replica, 'a', [write('p/1', 0, 'hello ')], false)
  assert.equal(await nodeStorage.stat(target), undefined)
  await replica.close()
  replica = await open()
  assert.equal(await replica.position(store), 'a')
  assert.equal(replica.consistent(), undefined)
  await send(replica, 'b', [write('p/1', 6, 'world')])
  assert.equal(await readFile(join(target, 'p/1'), 'utf8'), 'hello world')
  assert.equal(replica.consistent()?.position, 'b')
  await replica.close()
  replica = await open()
  assert.equal(await replica.position(store), 'b')
  await send(replica, 'c', [write('p/1', 11, '!'), write('p/2', 0, Buffer.alloc(10_000, 3))])
  await replica.close()
  assert.equal(await readFile(join(target, 'p/1'), 'utf8'), 'hello world!')
})

test('a store that is one file is a file at the target', async t => {
  const { target, open, clone, base } = await scratch(t)
  for (const applies of ['atomic', 'in-order'] as const) {
    let replica = await open(applies)
    await send(replica, `1 ${applies}`, [write('', 0, `${applies} one`)])
    await send(replica, `2 ${applies}`, [write('', 3, 'X'), truncate('', 6)])
    await replica.close()
    replica = await open(applies)
    assert.equal(await replica.position(store), `2 ${applies}`)
    await replica.close()
  }
  assert.equal(await readFile(target, 'utf8'), 'in-Xrd')
  await clone(join(base, 'clone'))
  assert.equal(await readFile(join(base, 'clone'), 'utf8'), 'in-Xrd')
})

test('an empty store is an empty directory', async t => {
  const { target, open } = await scratch(t)
  const replica = await open()
  await send(replica, 'a', [])
  await replica.close()
  assert.deepEqual(await readdir(target), [])
  await (await open()).close()
})

test('what exists and is not ours is not touched, and an empty directory is taken', async t => {
  const { target, open } = await scratch(t)
  await mkdir(target)
  await writeFile(join(target, 'x'), 'theirs')
  await assert.rejects(open(), { code: 'target-foreign' })
  assert.equal(await readFile(join(target, 'x'), 'utf8'), 'theirs')
  await unlink(join(target, 'x'))
  const replica = await open()
  await send(replica, 'a', [write('1', 0, 'ours')])
  await replica.close()
  assert.equal(await readFile(join(target, '1'), 'utf8'), 'ours')
})

const damages: Record<string, (target: string) => Promise<void>> = {
  'bytes were appended': target => appendFile(join(target, 'new'), 'mine'),
  'the newest file was cut': target => truncateFile(join(target, 'new'), 5),
  'an old file was cut': target => truncateFile(join(target, 'old'), 9000),
  'a byte of an old file was changed': async target => {
    const bytes = await readFile(join(target, 'old'))
    bytes[100] = 99
    await writeFile(join(target, 'old'), bytes)
  },
  'a byte was changed and the time set back': async target => {
    const { atime, mtime } = await stat(join(target, 'old'))
    const bytes = await readFile(join(target, 'old'))
    bytes[100] = 99
    await writeFile(join(target, 'old'), bytes)
    await utimes(join(target, 'old'), atime, mtime)
  },
  'a file was added': target => writeFile(join(target, 'theirs'), ''),
  'a file was removed': target => unlink(join(target, 'old')),
  'a file was renamed': target => moveFile(join(target, 'old'), join(target, 'older')),
  'a directory was added': target => mkdir(join(target, 'd/e')),
  'a link leads elsewhere': async target => {
    await unlink(join(target, 'link'))
    await makeSymlink('/etc', join(target, 'link'))
  },
  'a file became a directory': async target => {
    await unlink(join(target, 'old'))
    await mkdir(join(target, 'old'))
  },
  'the whole copy is gone': target => rm(target, { recursive: true }),
}
for (const [what, damage] of Object.entries(damages)) {
  for (const applies of ['in-order', 'atomic'] as const) {
    test(`${applies}: a copy is recognised as changed, and left as it is, when ${what}; with resync it becomes whole`, async t => {
      const { target, open } = await scratch(t)
      const old = Buffer.alloc(10_000, 'old')
      let replica = await open(applies)
      await send(replica, 'a', [write('old', 0, old), directory('d'), symlink('link', 'old')])
      await send(replica, 'b', [write('new', 0, 'newest')])
      await replica.close()
      await damage(target)
      const before = await fingerprint(target)
      await assert.rejects(open(applies), { code: 'target-changed' })
      assert.deepEqual(await fingerprint(target), before)

      replica = await open(applies, { resync: true })
      assert.equal(await replica.position(store), undefined)
      const inventory = await replica.inventory?.(store)
      const extra: PlainChange[] = []
      for await (const { path } of inventory?.files() ?? [])
        if (!['old', 'new'].includes(path)) extra.push(change('remove', path))
      await send(replica, 'c', [
        ...extra,
        change('remove', 'd/e'),
        directory('d'),
        symlink('link', 'old'),
        change('replace', 'old'),
        write('old', 0, old),
        change('replaced', 'old'),
        write('new', 0, 'newest'),
        truncate('new', 6),
      ])
      await replica.close()
      assert.deepEqual((await readdir(target)).sort(), ['d', 'link', 'new', 'old'])
      assert.ok((await readFile(join(target, 'old'))).equals(old))
      assert.equal(await readFile(join(target, 'new'), 'utf8'), 'newest')
      await (await open(applies)).close()
    })
  }
}

async function fingerprint(target: string): Promise<readonly (readonly unknown[])[]> {
  if ((await nodeStorage.stat(target)) === undefined) return []
  const names = (await readdir(target, { recursive: true })).sort()
  return Promise.all(
    names.map(async name => {
      const found = await nodeStorage.stat(join(target, name))
      const bytes = found?.kind === 'file' ? (await readFile(join(target, name))).toString('hex') : ''
      return [name, found?.kind, found?.mtimeNs, bytes] as const
    }),
  )
}

test('a file that was only touched is not taken for changed', async t => {
  const { target, open } = await scratch(t)
  let replica = await open()
  await send(replica, 'a', [write('1', 0, Buffer.alloc(20_000, 7))])
  await replica.close()
  await utimes(join(target, '1'), 1, 1)
  await chmod(join(target, '1'), 0o644)
  replica = await open()
  assert.equal(await replica.position(store), 'a')
  await replica.close()
})

test('what follows a commit that waits in the journal is no repetition of what came before that commit', async t => {
  const { target, open } = await scratch(t)
  let replica = await open()
  await send(replica, 'a', [write('1', 0, 'first')])
  const version = (data: string) => [change('replace', '1'), write('1', 0, data), change('replaced', '1')]
  // the name changes directly, the bytes in place wait in the journal
  await send(replica, 'b', [...version('second'), write('1', 0, 'S')], false)
  await replica.close()
  replica = await open()
  assert.equal(await replica.position(store), 'b')
  await send(replica, 'c', [...version('third'), write('2', 0, 'other')])
  assert.equal(await replica.position(store), 'c')
  await replica.close()
  assert.equal(await readFile(join(target, '1'), 'utf8'), 'third')
})

test('what somebody appended after a kill is not overwritten, and our own lost tail is gone over', async t => {
  const { target, sidecar, open, notices } = await scratch(t)
  let replica = await open()
  await send(replica, 'a', [write('1', 0, 'recorded ')])
  // a kill: written, and not recorded
  await replica.write({ ...write('1', 9, 'tail'), store } as Change)
  const state = await readFile(join(sidecar, 'state.log'))
  await replica.close()
  await writeFile(join(sidecar, 'state.log'), state)

  replica = await open()
  assert.equal(notices[0]?.code, 'unrecorded-tail')
  await send(replica, 'b', [write('1', 9, 'tail and more')])
  assert.equal(await replica.position(store), 'b')
  assert.equal(await readFile(join(target, '1'), 'utf8'), 'recorded tail and more')
  const stateAtB = await readFile(join(sidecar, 'state.log'))
  await replica.close()

  await writeFile(join(sidecar, 'state.log'), stateAtB)
  await appendFile(join(target, '1'), ' theirs')
  replica = await open()
  await assert.rejects(send(replica, 'c', [write('1', 22, ' source')]), { code: 'target-changed' })
  await replica.close()
  replica = await open()
  await send(replica, 'c', [write('2', 0, 'other')])
  await assert.rejects(replica.position(store), { code: 'target-changed' })
  await replica.close()
  assert.equal(await readFile(join(target, '1'), 'utf8'), 'recorded tail and more theirs')
})

test('no entry reaches out of the copy, not through a link that is part of it either', async t => {
  const { base, open } = await scratch(t)
  const outside = join(base, 'outside')
  await mkdir(outside)
  await writeFile(join(outside, 'f'), 'theirs')
  const attempts: PlainChange[] = [
    write('out/f', 0, 'ours'),
    truncate('out/f', 0),
    change('remove', 'out/f'),
    directory('out/d'),
    symlink('out/s', 'x'),
    hardlink('h', 'out/f'),
    hardlink('out/h', 'a'),
    rename('a', 'out/a'),
    rename('out/f', 'f'),
    { type: 'attributes', path: entryPath('out/f'), mode: 0o777 },
    write('out', 0, 'ours'),
  ]
  for (const applies of ['in-order', 'atomic'] as const) {
    for (const attempt of attempts) {
      const replica = await open(applies)
      await send(replica, 'a', [write('a', 0, 'a'), symlink('out', outside)])
      const refused = attempt.type === 'remove' ? undefined : { code: 'entry-invalid' }
      const sending = send(replica, 'b', [attempt])
      if (refused === undefined) await sending
      else await assert.rejects(sending, refused, JSON.stringify(attempt))
      await replica.close()
      assert.deepEqual(await readdir(outside), ['f'])
      assert.equal(await readFile(join(outside, 'f'), 'utf8'), 'theirs')
      assert.equal((await stat(join(outside, 'f'))).mode & 0o777, 0o644)
    }
  }
})

test('attributes, links and names that are not UTF-8 are carried', async t => {
  const { base, open, clone, target } = await scratch(t)
  const odd = Buffer.from([0xff, 0x41]).toString('latin1')
  for (const applies of ['in-order', 'atomic'] as const) {
    const replica = await open(applies)
    await send(replica, applies, [
      write(odd, 0, 'odd'),
      write('plain', 0, applies),
      hardlink('hard', 'plain'),
      symlink('soft', odd),
      {
        type: 'attributes',
        path: entryPath('plain'),
        mode: 0o640,
        mtimeNs: 1_234_567_890_123_456_789n,
        xattrs: { 'user.hotspare': Buffer.from(applies) },
      },
      { type: 'attributes', path: entryPath('soft'), mtimeNs: 5_000_000_001n },
    ])
    await replica.close()
  }
  await clone(join(base, 'clone'))
  for (const place of [target, join(base, 'clone')]) {
    const plain = await nodeStorage.stat(join(place, 'plain'))
    assert.equal(plain?.mode, 0o640)
    assert.equal(plain?.mtimeNs, 1_234_567_890_123_456_789n)
    assert.equal(plain?.inode, (await nodeStorage.stat(join(place, 'hard')))?.inode)
    assert.equal((await nodeStorage.xattrs(join(place, 'plain')))['user.hotspare']?.toString(), 'atomic')
    assert.equal((await nodeStorage.readlink(join(place, 'soft'))).toString('latin1'), odd)
    assert.ok((await nodeStorage.list(place)).includes(odd))
  }
  assert.equal((await nodeStorage.stat(join(target, 'soft')))?.mtimeNs, 5_000_000_001n)
  assert.equal((await readFile(join(target, 'hard'), 'utf8')).slice(0, 6), 'atomic')
})

test('with noDelete what the source removed stays', async t => {
  const { target, open } = await scratch(t)
  const replica = await open('in-order', { noDelete: true })
  await send(replica, 'a', [write('1', 0, 'one'), write('2', 0, 'two')])
  await send(replica, 'b', [change('remove', '1')])
  await replica.close()
  assert.deepEqual((await readdir(target)).sort(), ['1', '2'])
  await (await open()).close()
})

test('records are refused, and so is what belongs to another store', async t => {
  const { open } = await scratch(t)
  let replica = await open()
  const record = { type: 'record', store, path: entryPath('a'), key: Buffer.from('k') } as const
  await assert.rejects(replica.write(record), { code: 'unsupported' })
  await assert.rejects(replica.sync(), { code: 'unsupported' }, 'after a fault nothing goes on')
  await replica.close()
  replica = await open()
  await assert.rejects(replica.write({ ...record, store: 'other' as typeof store }), {
    code: 'entry-invalid',
  })
  await replica.close()
})

test('the memory of a write is given back once, when it is not needed any more', async t => {
  const { target, open } = await scratch(t)
  for (const applies of ['in-order', 'atomic'] as const) {
    const replica = await open(applies)
    let given = 0
    const chunk = (path: string, offset: number): Change => {
      const data = Buffer.alloc(5000, applies)
      return {
        ...write(path, offset, data),
        data,
        store,
        recycle: () => {
          given++
          data.fill(0)
        },
      } as Change
    }
    await replica.write(chunk('a', 0))
    await replica.write({ ...change('replace', 'b'), store } as Change)
    await replica.write(chunk('b', 0))
    await replica.write({ ...change('replaced', 'b'), store } as Change)
    await send(replica, `1 ${applies}`, [])
    await replica.write(chunk('a', 100))
    await send(replica, `2 ${applies}`, [])
    await replica.close()
    assert.equal(given, 3)
    const expected = Buffer.alloc(5000, applies)
    assert.ok((await readFile(join(target, 'b'))).equals(expected))
    assert.ok((await readFile(join(target, 'a'))).subarray(100).equals(expected))
  }
})

for (const applies of ['in-order', 'atomic'] as const) {
  test(`${applies}: a transaction of very many names is recorded whole`, async () => {
    const storage = new FaultyStorage(new MemoryDisk())
    await storage.makeDirectory('/data/copy.hotspare')
    const open = () =>
      openFileReplica(
        {
          storage,
          clock: systemClock,
          store,
          path: '/data/copy',
          sidecar: '/data/copy.hotspare',
          resync: false,
          noDelete: false,
          onNotice() {},
        },
        { applies },
      )
    const count = 10_050
    const files = Array.from({ length: count }, (_, i) => write(`d${i % 50}/f${i}`, 0, `file ${i}`))
    let replica = await open()
    await send(replica, 'a', applies === 'atomic' ? [write('first', 0, 'x')] : files)
    if (applies === 'atomic') await send(replica, 'b', [change('remove', 'first'), ...files])
    await replica.close()
    replica = await open()
    let found = 0
    for await (const { size } of (await replica.inventory?.(store))?.files() ?? []) {
      found++
      assert.ok(size >= 6)
    }
    assert.equal(found, count)
    await replica.close()
  })
}

test('a target that cannot be renamed onto is told as that', async () => {
  const storage = new FaultyStorage(new MemoryDisk())
  await storage.makeDirectory('/data/copy.hotspare')
  storage.replan(step =>
    step.call === 'rename' && step.path.endsWith('-> /data/copy')
      ? { kind: 'fail', code: 'EXDEV', done: 'nothing' }
      : { kind: 'go' },
  )
  const replica = await openFileReplica(
    {
      storage,
      clock: systemClock,
      store,
      path: '/data/copy',
      sidecar: '/data/copy.hotspare',
      resync: false,
      noDelete: false,
      onNotice() {},
    },
    { applies: 'in-order' },
  )
  await assert.rejects(send(replica, 'a', [write('1', 0, 'x')]), { code: 'target-mount' })
  await replica.close()
})

test('a clone is the last consistent commit, while the follower goes on', async t => {
  const { base, open, clone } = await scratch(t)
  await assert.rejects(clone(join(base, 'clone')), { code: 'target-missing' })
  const replica = await open()
  await send(replica, 'a', [write('1', 0, Buffer.alloc(9000, 1))], false)
  await assert.rejects(clone(join(base, 'clone')), { code: 'target-incomplete' })
  await send(replica, 'b', [write('2', 0, 'two')])
  await replica.write({ ...write('1', 9000, 'not committed'), store } as Change)
  const report = await clone(join(base, 'clone'))
  assert.equal(report.commit.position, 'b')
  assert.equal(report.bytes, 9003)
  assert.ok((await readFile(join(base, 'clone/1'))).equals(Buffer.alloc(9000, 1)))
  await assert.rejects(clone(join(base, 'clone')), { code: 'target-foreign' })
  await send(replica, 'c', [])
  await replica.close()
  assert.deepEqual((await readdir(base)).sort(), ['clone', 'copy', 'copy.hotspare'])
})

test('rot in a copy is found by its check, and not carried into a clone', async t => {
  const { base, target, open, check, clone } = await scratch(t)
  const replica = await open()
  await send(replica, 'a', [write('1', 0, Buffer.alloc(9000, 1)), write('2', 0, 'two')])
  assert.deepEqual((await check()).faults, [])
  const bytes = await readFile(join(target, '1'))
  bytes[5000] = 2
  await writeFile(join(target, '1'), bytes)
  assert.deepEqual(
    (await check()).faults.map(fault => [fault.path, /from 4096/.test(fault.what)]),
    [['1', true]],
  )
  await assert.rejects(clone(join(base, 'clone')), { code: 'digest-mismatch' })
  await replica.close()
  assert.deepEqual((await readdir(base)).sort(), ['copy', 'copy.hotspare'])
})

test('what a copy has can be read from beside its follower', async t => {
  const { sidecar, open } = await scratch(t)
  assert.equal(await openRecordedCopy(nodeStorage, sidecar), undefined)
  const replica = await open()
  await send(replica, 'a', [write('b', 0, Buffer.alloc(9000, 1)), write('a-b', 0, 'x'), write('a/b', 0, '')])
  const recorded = await openRecordedCopy(nodeStorage, sidecar)
  const files: (readonly unknown[])[] = []
  for await (const { path, size, blockBytes } of recorded?.inventory.files() ?? [])
    files.push([path, size, blockBytes])
  assert.deepEqual(files, [
    ['a-b', 1, 4096],
    ['a/b', 0, 4096],
    ['b', 9000, 4096],
  ])
  assert.equal(recorded?.position, 'a')
  await replica.close()
})

test('a change in place waits for a clone, and a clone for it', async t => {
  const { open, base, clone } = await scratch(t)
  const replica = await open('atomic')
  const one = Buffer.alloc(3_000_000, 1)
  await send(replica, '1', [write('a', 0, one), write('b', 0, one)])
  for (let i = 2; i < 12; i++) {
    const bytes = Buffer.alloc(3_000_000, i)
    const sending = send(replica, String(i), [write('a', 0, bytes), write('b', 0, bytes)])
    const report = await clone(join(base, `clone-${i}`))
    const [a, b] = await Promise.all(['a', 'b'].map(name => readFile(join(base, `clone-${i}`, name))))
    const expected = Buffer.alloc(3_000_000, Number(report.commit.position))
    assert.ok(a?.equals(expected) && b?.equals(expected), `clone of ${report.commit.position}`)
    await sending
  }
  await replica.close()
})
