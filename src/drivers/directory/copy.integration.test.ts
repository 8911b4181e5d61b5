import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { Random } from '../../os/testing/random.ts'
import { seed } from '../../os/testing/seed.ts'
import { type Change, type EntryPath, entryPathFromText, storeName } from '../../stream/entry.ts'
import type { CopyOptions } from '../driver.ts'
import { checkDirectoryCopy, cloneDirectoryCopy } from './copy-reading.ts'
import { openDirectoryReplica } from './copy-replica.ts'
import { snapshotDirectoryCopy } from './copy-snapshot.ts'
import { describeTree } from './testing/copy-model.ts'
import { assertShows, type CopyPlace, commit, makePlace, openEngine } from './testing/copy-place.ts'
import { scriptOf } from './testing/copy-script.ts'

const copier = fileURLToPath(new URL('./testing/scripted-copier.ts', import.meta.url))
const store = storeName('tree')
const machine = { storage: nodeStorage, clock: systemClock }

let place: CopyPlace
beforeEach(() => {
  place = makePlace()
})
afterEach(async () => {
  // also of a test that failed: their threads would keep this process from its end
  await Promise.allSettled(opened.splice(0).map(one => one.close()))
  place.remove()
})

const opened: { close(): Promise<void> }[] = []

async function toBeClosed<T extends { close(): Promise<void> }>(opening: Promise<T>): Promise<T> {
  const one = await opening
  opened.push(one)
  return one
}

function copyOptions(): CopyOptions {
  const { target: path, sidecar } = place
  const signal = new AbortController().signal
  return { ...machine, store, path, sidecar, signal, onProgress: () => {}, onNotice: () => {} }
}

function openReplica() {
  const { target: path, sidecar } = place
  return toBeClosed(
    openDirectoryReplica({
      ...machine,
      store,
      path,
      sidecar,
      resync: false,
      noDelete: false,
      onNotice: () => {},
    }),
  )
}

test(`SIGKILL at random moments leaves a whole pass, what was synced, and goes on (HOTSPARE_SEED=${seed})`, async () => {
  const count = 120
  const random = new Random(seed)
  const passes = [...scriptOf(seed, count)]
  let kills = 0
  for (let reached = 0; reached < count; ) {
    const child = spawn(process.execPath, [copier, place.target, String(seed), String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let synced = reached
    child.stdout.on('data', data => {
      const last = String(data).trim().split('\n').at(-1)
      synced = Number(last)
      // from the first pass on, at any moment of those that follow
      if (killed === undefined) killed = setTimeout(() => child.kill('SIGKILL'), random.below(60))
    })
    let killed: NodeJS.Timeout | undefined
    const [exit] = await new Promise<[number | null, string | null]>(resolve =>
      child.on('close', (code, signal) => resolve([code, signal])),
    )
    clearTimeout(killed)
    assert.ok(exit === null || exit === 0, `the copier ended with ${exit}`)
    if (exit === null) kills++
    const engine = openEngine(place)
    const position = engine.status.commit?.position
    engine.close()
    reached = position === undefined ? 0 : JSON.parse(position).pass
    assert.ok(reached >= synced, `pass ${synced} was durable, and the copy has ${reached}`)
    assertShows(place.target, passes[reached - 1]?.shows, `after ${kills} kills, at pass ${reached}`)
  }
  assert.ok(kills > 3, `only ${kills} kills`)
  const report = await checkDirectoryCopy(copyOptions())
  assert.deepEqual(
    report.findings.filter(({ ok }) => !ok),
    [],
  )
})

test(`clones, checks and snapshots made while passes are applied are each one whole pass (HOTSPARE_SEED=${seed})`, async () => {
  const passes = [...scriptOf(seed, 60)]
  const replica = await openReplica()
  const shown = new Set<string>()
  let stopped = false
  const readers = (async () => {
    for (let n = 0; !stopped; n++) {
      if (!fs.existsSync(place.target)) {
        await new Promise(resolve => setTimeout(resolve, 5))
        continue
      }
      const destination = join(place.root, `clone-${n}`)
      const { commit: cloned } = await cloneDirectoryCopy({ ...copyOptions(), destination })
      const { shows } = passes[JSON.parse(cloned.position).pass - 1] as (typeof passes)[0]
      assert.deepEqual(Object.fromEntries(describeTree(destination, shows)), Object.fromEntries(shows ?? []))
      shown.add(cloned.position)
      const checked = await checkDirectoryCopy(copyOptions())
      assert.deepEqual(
        checked.findings.filter(({ ok }) => !ok),
        [],
      )
      const snapshot = await toBeClosed(snapshotDirectoryCopy(copyOptions()))
      let entries = 0
      for await (const batch of snapshot.batches()) {
        for (const entry of batch.entries)
          if (entry.kind === 'file' && entry.stream) for await (const piece of entry.stream()) piece.length
        entries += batch.entries.length
        batch.release()
      }
      assert.equal(entries, snapshot.totalEntries)
    }
  })()
  // whatever failed is said below, and ends the other side too
  readers.catch(() => undefined)
  try {
    for (const { entries } of passes) {
      for (const entry of entries) await replica.write(entry)
      await Promise.race([replica.sync(), readers])
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  } finally {
    stopped = true
    await readers
  }
  await replica.close()
  assert.ok(shown.size > 2, `clones saw ${shown.size} passes`)
  assertShows(place.target, passes.at(-1)?.shows)
})

const file = (path: string, bytes: number): Change[] => [
  { type: 'write', store, path: entryPathFromText(path), offset: 0, data: Buffer.alloc(bytes, path) },
  {
    type: 'attributes',
    store,
    path: entryPathFromText(path),
    mode: 0o644,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtimeNs: 1_700_000_000_000_000_001n,
  },
]

test('a snapshot gives every entry in order, whole, and what the record says of it', async () => {
  const replica = await openReplica()
  const names = ['a', 'a.b', 'a/x', 'a/y', 'a0', 'big', 'sparse', 'empty']
  const changes: Change[] = [
    { type: 'node', store, path: entryPathFromText('a'), node: { kind: 'directory' } },
    ...names
      .filter(name => !['a', 'big', 'sparse', 'empty'].includes(name))
      .flatMap(name => file(name, 1000)),
    ...file('big', 1_048_576),
    {
      type: 'write',
      store,
      path: entryPathFromText('big'),
      offset: 1_048_576,
      data: Buffer.alloc(5_000_00, 'z'),
    },
    ...file('sparse', 10),
    { type: 'truncate', store, path: entryPathFromText('sparse'), size: 9_000_000 },
    ...file('empty', 0),
    {
      type: 'node',
      store,
      path: entryPathFromText('link'),
      node: { kind: 'hardlink', to: entryPathFromText('a/x') },
    },
  ]
  for (const change of changes) await replica.write(change)
  await replica.write(commit(1, 'held'))
  await replica.sync()
  const snapshot = await toBeClosed(snapshotDirectoryCopy(copyOptions()))
  assert.equal(snapshot.consistent, true)
  const given: string[] = []
  for await (const batch of snapshot.batches()) {
    for (const entry of batch.entries) {
      const content: Uint8Array[] = []
      if (entry.kind === 'file') {
        if (entry.content !== undefined) content.push(Buffer.from(entry.content))
        else for await (const piece of entry.stream?.() ?? []) content.push(Buffer.from(piece))
        const bytes = Buffer.concat(content)
        const whole = fs.readFileSync(join(place.target, entry.path))
        const extents = entry.extents ?? [{ offset: 0, length: whole.length }]
        const wanted = Buffer.concat(
          extents.map(({ offset, length }) => whole.subarray(offset, offset + length)),
        )
        assert.ok(bytes.equals(wanted), entry.path)
        assert.equal(entry.size, whole.length)
      }
      given.push(`${entry.kind} ${entry.path}${entry.kind === 'hardlink' ? ` ${entry.to}` : ''}`)
    }
    batch.release()
  }
  assert.deepEqual(given, [
    'directory ',
    'file a.b',
    'directory a',
    'file a/x',
    'file a/y',
    'file a0',
    'file big',
    'file empty',
    'hardlink link a/x',
    'file sparse',
  ])
  await replica.close()
})

test('what is changed in place after it was opened is read from what was kept of it, also where others compare digests', async () => {
  const replica = await openReplica()
  const bytes = 3_000_000
  const blocks = [0, 1, 2].map(block => Math.min(1_048_576, bytes - block * 1_048_576))
  for (const [block, length] of blocks.entries()) {
    const data = Buffer.alloc(length, `before ${block} `)
    await replica.write({
      type: 'write',
      store,
      path: entryPathFromText('large'),
      offset: block * 1_048_576,
      data,
    })
  }
  await replica.write(commit(1, 'held'))
  await replica.sync()
  const before = fs.readFileSync(join(place.target, 'large'))
  for (const provedLater of [false, true]) {
    const snapshot = await toBeClosed(snapshotDirectoryCopy({ ...copyOptions(), provedLater }))
    const names = provedLater ? ['moved', 'large'] : ['large', 'moved']
    const read: Buffer[] = []
    for await (const batch of snapshot.batches()) {
      // the batch holds it open: it gets another name, and other bytes in the same inode
      const inode = fs.statSync(join(place.target, names[0] as string)).ino
      const [path, to] = names.map(entryPathFromText) as [EntryPath, EntryPath]
      await replica.write({ type: 'rename', store, path, to })
      const data = Buffer.from(`after ${provedLater}`)
      await replica.write({ type: 'write', store, path: to, offset: 1_500_000, data })
      await replica.write(commit(provedLater ? 3 : 2, 'held'))
      await replica.sync()
      assert.equal(fs.statSync(join(place.target, names[1] as string)).ino, inode)
      for (const entry of batch.entries)
        if (entry.kind === 'file')
          for await (const piece of entry.stream?.() ?? []) read.push(Buffer.from(piece))
      batch.release()
    }
    await snapshot.close()
    before.write(provedLater ? 'after false' : '', 1_500_000)
    assert.ok(Buffer.concat(read).equals(before), `provedLater: ${provedLater}`)
  }
  await replica.close()
})

// ---- what needs root

const root = process.getuid?.() === 0
const mounts = root && spawnSync('unshare', ['-m', 'true']).status === 0
const skip =
  mounts || process.env.HOTSPARE_REQUIRE_ENGINES === '1' ? false : 'needs root and mount namespaces'
let disk: { path: string; end(): void } | undefined

before(async () => {
  if (skip !== false) return
  const parent = fs.mkdtempSync('/tmp/hotspare-disk-')
  // seen from here through the root of a process in a mount namespace of its own
  const holder = spawn('unshare', [
    '-m',
    '--propagation',
    'private',
    'sh',
    '-c',
    `mount -t tmpfs -o size=8m none ${parent} && echo mounted && exec sleep 600`,
  ])
  await new Promise(resolve => holder.stdout.once('data', resolve))
  disk = {
    path: `/proc/${holder.pid}/root${parent}`,
    end: () => {
      holder.kill('SIGKILL')
      fs.rmSync(parent, { recursive: true })
    },
  }
})
after(() => disk?.end())

/** For a process that is not root. */
const nobody = 65534

for (const readOnly of [1, 2, 3]) {
  test(`who is not root keeps all but owners, also in directories that may not be written (HOTSPARE_SEED=${readOnly})`, {
    skip,
  }, () => {
    spawnSync('chown', ['-R', `${nobody}:${nobody}`, place.root])
    const made = spawnSync(process.execPath, [copier, place.target, String(readOnly), '40'], {
      uid: nobody,
      gid: nobody,
      encoding: 'utf8',
      env: { ...process.env, SCRIPT_SHOWS: join(place.root, 'shows.json') },
    })
    assert.equal(made.status, 0, made.stderr)
    const shows = JSON.parse(fs.readFileSync(join(place.root, 'shows.json'), 'utf8'))
    assertShows(place.target, new Map<string, string>(shows))
  })
}

test('a disk that fills is said with its code, shows nothing torn, and when there is space it goes on', {
  skip,
}, async () => {
  const there = makePlace(disk?.path)
  place.remove()
  place = there
  let replica = await openReplica()
  const send = async (...changes: Change[]) => {
    for (const change of changes) await replica.write(change)
  }
  await send(...file('a', 100_000), ...file('b', 100_000))
  await replica.write(commit(1, 'held'))
  await replica.sync()
  const before = describeTree(place.target)
  const filling = join(place.root, 'filling')
  for (let pass = 2; pass < 6; pass++) {
    fs.writeFileSync(filling, '')
    const { bavail, bsize } = fs.statfsSync(place.root)
    fs.writeFileSync(filling, Buffer.alloc(Math.max(0, bavail * bsize - pass * 150_000), 1))
    const failed = (async () => {
      for (let n = 0; n < 20; n++) await send(...file(`new-${pass}-${n}`, 90_000))
      await replica.write(commit(pass, 'held'))
      await replica.sync()
    })()
    await assert.rejects(failed, error => (error as { code?: string }).code === 'disk-full')
    await replica.close()
    assert.deepEqual(describeTree(place.target), before)
    fs.rmSync(filling)
    replica = await openReplica()
    assert.equal(JSON.parse((await replica.position(store)) as string).pass, 1)
  }
  await send(...file('new', 1_000_000))
  await replica.write(commit(6, 'held'))
  await replica.sync()
  assert.equal(fs.statSync(join(place.target, 'new')).size, 1_000_000)
  await replica.close()
})
