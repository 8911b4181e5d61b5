import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Clock, systemClock } from '../../os/clock.ts'
import type { ErrorCode } from '../../os/errors.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { type Position, storeName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import type { Sink } from '../../stream/sink.ts'
import type { Notice } from '../driver.ts'
import { PacksSource } from './packs-source.ts'
import type { Profile } from './profile.ts'
import { genericProfile } from './profile-generic.ts'
import { prometheusWalProfile } from './profile-prometheus-wal.ts'
import { rdmProfile } from './profile-rdm.ts'
import { redisAofProfile } from './profile-redis-aof.ts'
import { DirectorySink } from './testing/directory-sink.ts'

const store = storeName('store')

interface World {
  readonly source: string
  readonly sink: DirectorySink
  readonly notices: Notice[]
  open(profile?: Profile): Promise<PacksSource>
  /** All there is, through one source, which looks at everything again because time has passed. */
  once(source: PacksSource, into?: Sink): Promise<void>
}

function world(t: TestContext, profile: Profile = rdmProfile): World {
  const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-packs-'))
  t.after(() => fs.rmSync(root, { recursive: true }))
  const source = join(root, 'source')
  fs.mkdirSync(source)
  const sink = new DirectorySink(join(root, 'target'))
  const notices: Notice[] = []
  let passedMs = 0
  const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + passedMs }
  return {
    source,
    sink,
    notices,
    async open(other) {
      const opened = await PacksSource.open({
        storage: nodeStorage,
        clock,
        store,
        root: source,
        profile: other ?? profile,
        onNotice: notice => notices.push(notice),
      })
      t.after(() => opened.close())
      return opened
    },
    async once(opened, into = sink) {
      passedMs += 6000
      await pump({
        store,
        source: opened,
        sink: into,
        clock,
        signal: AbortSignal.timeout(10_000),
        once: true,
      })
    },
  }
}

function content(root: string): Record<string, string> {
  const files = fs.readdirSync(root, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  return Object.fromEntries(
    files
      .map(entry => join(entry.parentPath, entry.name))
      .map(path => [path.slice(root.length + 1), fs.readFileSync(path, 'latin1')] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}

function failure(code: ErrorCode, details: Record<string, unknown>) {
  return (error: unknown) => {
    assert.equal((error as { code: unknown }).code, code, String(error))
    const found = (error as { details: Record<string, unknown> }).details
    for (const [key, value] of Object.entries(details))
      assert.deepEqual(found[key], value, `${key} in ${error}`)
    return true
  }
}

test('a first copy has all packs, other files, and one consistent commit', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '0002.pack'), 'two')
  fs.writeFileSync(join(source, '0001.pack'), 'one')
  fs.writeFileSync(join(source, '0003.pack'), '')
  fs.writeFileSync(join(source, 'a.idindex'), 'index')
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
  assert.deepEqual(
    sink.commits.map(commit => commit.consistent),
    [true],
  )
})

test('appends, new packs and deletions follow; each drain is one consistent commit', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '1.pack'), 'one')
  const opened = await open()
  await once(opened)
  fs.appendFileSync(join(source, '1.pack'), ' more')
  await once(opened)
  assert.deepEqual(content(sink.root), content(source))
  fs.appendFileSync(join(source, '1.pack'), ' end')
  fs.writeFileSync(join(source, '2.pack'), 'two')
  await once(opened)
  assert.deepEqual(content(sink.root), content(source))
  fs.unlinkSync(join(source, '1.pack'))
  await once(opened)
  assert.deepEqual(content(sink.root), { '2.pack': 'two' })
  assert.ok(sink.commits.every(commit => commit.consistent))
})

test('a pack that is deleted after it was seen is still finished, and removed after its successors', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '1.pack'), 'one')
  const opened = await open()
  await once(opened)
  fs.appendFileSync(join(source, '1.pack'), ' and the rest')
  fs.writeFileSync(join(source, '2.pack'), 'two')
  fs.unlinkSync(join(source, '1.pack'))
  let finished = ''
  const write = sink.write.bind(sink)
  sink.write = async entry => {
    if (entry.type === 'remove') {
      finished = fs.readFileSync(join(sink.root, '1.pack'), 'utf8')
      assert.equal(fs.readFileSync(join(sink.root, '2.pack'), 'utf8'), 'two')
    }
    await write(entry)
  }
  await once(opened)
  assert.equal(finished, 'one and the rest')
  assert.deepEqual(content(sink.root), { '2.pack': 'two' })
})

test('a new run goes on from what the copy has, and sends nothing twice', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '1.pack'), Buffer.alloc(3_000_000, 1))
  fs.writeFileSync(join(source, '2.pack'), 'two')
  await once(await open())
  fs.appendFileSync(join(source, '2.pack'), ' more')
  const before = sink.entries.length
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
  assert.deepEqual(
    sink.entries
      .slice(before)
      .map(entry => (entry.type === 'write' ? `write at ${entry.offset}` : entry.type)),
    ['write at 3', 'commit'],
  )
})

test('an interrupted first copy goes on where it stopped', async t => {
  const { source, sink, open, once } = world(t)
  const big = Buffer.alloc(70 * 1024 * 1024, 'abc')
  fs.writeFileSync(join(source, '1.pack'), big)
  fs.writeFileSync(join(source, '2.pack'), 'two')
  const opened = await open()
  const options = { signal: new AbortController().signal, inventory: () => sink.inventory() }
  for await (const entry of opened.read(undefined, options)) {
    await sink.write(entry)
    if (entry.type === 'commit') break
  }
  assert.deepEqual(
    sink.commits.map(commit => commit.consistent),
    [false],
  )
  const before = sink.entries.length
  await once(await open())
  assert.ok(sink.entries.slice(before).filter(entry => entry.type === 'write').length < 12)
  assert.deepEqual(content(sink.root), content(source))
  assert.equal(sink.commits.at(-1)!.consistent, true)
})

const faults: {
  title: string
  code: ErrorCode
  details: Record<string, unknown>
  /** In the run that copied, or also when it happens between two runs. */
  where: 'running' | 'both'
  stoppedCode?: ErrorCode
  stoppedDetails?: Record<string, unknown>
  harm(source: string): void
}[] = [
  {
    title: 'the newest pack is truncated',
    code: 'source-changed',
    details: { pack: '2.pack', offset: 5, copied: 10 },
    where: 'both',
    stoppedCode: 'diverged',
    harm: source => fs.truncateSync(join(source, '2.pack'), 5),
  },
  {
    title: 'a finished pack is truncated',
    code: 'source-changed',
    details: { pack: '1.pack', offset: 5, copied: 10 },
    where: 'both',
    stoppedCode: 'diverged',
    harm: source => fs.truncateSync(join(source, '1.pack'), 5),
  },
  {
    title: 'a finished pack grows',
    code: 'source-changed',
    details: { pack: '1.pack', offset: 10, size: 11 },
    where: 'both',
    stoppedCode: 'diverged',
    stoppedDetails: { pack: '1.pack', offset: 10 },
    harm: source => fs.appendFileSync(join(source, '1.pack'), 'x'),
  },
  {
    title: 'the newest pack is changed in the middle',
    code: 'source-changed',
    details: { pack: '2.pack', offset: 3 },
    where: 'both',
    stoppedCode: 'diverged',
    stoppedDetails: { pack: '2.pack', offset: 0 },
    harm: source => overwrite(join(source, '2.pack'), 3),
  },
  {
    title: 'a finished pack is changed in the middle',
    code: 'source-changed',
    details: { pack: '1.pack', offset: 0 },
    where: 'both',
    stoppedCode: 'diverged',
    harm: source => overwrite(join(source, '1.pack'), 3),
  },
  {
    title: 'another file is renamed over a pack',
    code: 'source-changed',
    details: { pack: '1.pack' },
    where: 'running',
    harm: source => {
      fs.writeFileSync(join(source, 'new'), '0123456789')
      fs.renameSync(join(source, 'new'), join(source, '1.pack'))
    },
  },
  {
    title: 'a number is missing in the sequence',
    code: 'gap',
    details: { first: 3, last: 4 },
    where: 'both',
    harm: source => fs.writeFileSync(join(source, '5.pack'), 'five'),
  },
  {
    title: 'a pack appears below the newest',
    code: 'source-changed',
    details: { pack: '0.pack' },
    where: 'both',
    stoppedCode: 'diverged',
    harm: source => fs.writeFileSync(join(source, '0.pack'), 'zero'),
  },
]

function overwrite(path: string, offset: number): void {
  const fd = fs.openSync(path, 'r+')
  fs.writeSync(fd, '#', offset)
  fs.closeSync(fd)
}

for (const fault of faults) {
  for (const when of fault.where === 'both' ? (['running', 'stopped'] as const) : (['running'] as const)) {
    test(`${fault.title} while ${when}: named, and nothing of it reaches the copy`, async t => {
      const { source, sink, open, once } = world(t)
      fs.writeFileSync(join(source, '1.pack'), '0123456789')
      fs.writeFileSync(join(source, '2.pack'), '0123456789')
      let opened = await open()
      await once(opened)
      const before = content(sink.root)
      if (when === 'stopped') await opened.close()
      fault.harm(source)
      if (when === 'stopped') opened = await open()
      const code = when === 'stopped' ? (fault.stoppedCode ?? fault.code) : fault.code
      const details =
        when === 'stopped' ? (fault.stoppedDetails ?? { pack: fault.details.pack }) : fault.details
      await assert.rejects(once(opened), failure(code, fault.code === 'gap' ? fault.details : details))
      assert.deepEqual(content(sink.root), before)
    })
  }
}

test('a change in the middle of a pack that was followed is found when the pack is finished', async t => {
  const { source, open, once } = world(t)
  fs.writeFileSync(join(source, '1.pack'), Buffer.alloc(200_000, 'a'))
  const opened = await open()
  await once(opened)
  overwrite(join(source, '1.pack'), 100)
  fs.appendFileSync(join(source, '1.pack'), 'more')
  await once(opened)
  fs.writeFileSync(join(source, '2.pack'), 'two')
  await assert.rejects(
    async () => {
      await once(opened)
      await once(opened)
    },
    failure('source-changed', { pack: '1.pack', offset: 0 }),
  )
})

test('what goes on from where it was asks the sink for what it has to look again only, and takes no for an answer', async t => {
  const { source, sink, open, once } = world(t)
  const asked: unknown[] = []
  const log: Sink = {
    position: () => sink.position(),
    write: entry => sink.write(entry),
    sync: () => sink.sync(),
    close: () => sink.close(),
    inventory: async (_store, purpose) => {
      asked.push(purpose)
      return undefined
    },
  }
  fs.writeFileSync(join(source, '1.pack'), 'one')
  const opened = await open()
  await once(opened, log)
  asked.length = 0
  for (let number = 1; number < 5; number++) {
    fs.appendFileSync(join(source, `${number}.pack`), 'more')
    fs.writeFileSync(join(source, `${number + 1}.pack`), 'next')
    await once(opened, log)
  }
  assert.notEqual(asked.length, 0)
  assert.deepEqual(
    asked.filter(purpose => purpose !== 'verification'),
    [],
  )
})

test('a read that is stopped among several new packs is followed by one that gives them in order', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '00000001.pack'), 'one')
  const opened = await open()
  await once(opened)
  for (const number of [2, 3, 4]) fs.writeFileSync(join(source, `0000000${number}.pack`), `pack ${number}`)
  const begun: string[] = []
  const read = async (signal: AbortSignal, onWrite = () => {}) => {
    const from = await sink.position()
    for await (const entry of opened.read(from, { signal, inventory: async () => undefined })) {
      if (entry.type === 'write' && entry.offset === 0 && entry.data.length === 0) begun.push(entry.path)
      await sink.write(entry)
      if (entry.type === 'write') onWrite()
    }
    await sink.sync()
  }
  const stop = new AbortController()
  await read(stop.signal, () => stop.abort())
  assert.deepEqual(begun, ['00000002.pack'])
  await read(new AbortController().signal)
  assert.deepEqual(begun, ['00000002.pack', '00000003.pack', '00000004.pack'])
  assert.deepEqual(content(sink.root), content(source))
})

test('packs that vanished while nobody followed are a gap, which is named', async t => {
  const { source, sink, open, once } = world(t)
  fs.writeFileSync(join(source, '1.pack'), 'one')
  const opened = await open()
  await once(opened)
  await opened.close()
  fs.unlinkSync(join(source, '1.pack'))
  fs.writeFileSync(join(source, '4.pack'), 'four')
  await assert.rejects(once(await open()), failure('gap', { pack: '1.pack' }))
  assert.deepEqual(content(sink.root), { '1.pack': 'one' })
})

test('packs that were copied whole and deleted while nobody followed are removed', async t => {
  const { source, sink, open, once } = world(t)
  for (const number of [1, 2, 3]) fs.writeFileSync(join(source, `${number}.pack`), `${number}`)
  const opened = await open()
  await once(opened)
  await opened.close()
  fs.unlinkSync(join(source, '1.pack'))
  fs.unlinkSync(join(source, '2.pack'))
  fs.writeFileSync(join(source, '4.pack'), '4')
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
})

test('with resync only what differs is sent, as one transaction', async t => {
  const { source, sink, open, once } = world(t)
  const big = Buffer.alloc(3 * 1024 * 1024, 'x')
  fs.writeFileSync(join(source, '5.pack'), big)
  fs.writeFileSync(join(source, '6.pack'), 'short')
  fs.writeFileSync(join(source, '7.pack'), 'new')
  fs.writeFileSync(join(source, 'index'), 'index')
  big[1024 * 1024 + 7] = 1
  fs.writeFileSync(join(sink.root, '5.pack'), big)
  fs.writeFileSync(join(sink.root, '6.pack'), 'shortened')
  fs.writeFileSync(join(sink.root, '1.pack'), 'old')
  fs.writeFileSync(join(sink.root, 'index'), 'index')
  sink.forgetPosition()
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
  assert.equal(sink.commits.length, 1)
  assert.deepEqual(
    sink.entries.map(entry => ('path' in entry ? `${entry.type} ${entry.path}` : entry.type)),
    [
      'remove 1.pack',
      'write 5.pack',
      'write 6.pack',
      'truncate 6.pack',
      'write 7.pack',
      'write 7.pack',
      'commit',
    ],
  )
  fs.appendFileSync(join(source, '7.pack'), 'er')
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
})

for (const [what, cutTo] of [
  ['in what the copy has', 5],
  ['in what it lacks', 2 * 1024 * 1024],
] as const) {
  test(`with resync a pack that is cut ${what} while it is compared is named: no commit says that the copy has it`, async t => {
    const { source, sink, open, once } = world(t)
    const pack = join(source, '1.pack')
    fs.writeFileSync(pack, Buffer.alloc(3 * 1024 * 1024, 'x'))
    fs.writeFileSync(join(source, '2.pack'), 'two')
    fs.writeFileSync(join(sink.root, '1.pack'), Buffer.alloc(1024 * 1024, 'x'))
    sink.forgetPosition()
    const inventory = sink.inventory.bind(sink)
    sink.inventory = async () => {
      const found = await inventory()
      return found && { ...found, file: path => found.file(path).finally(() => fs.truncateSync(pack, cutTo)) }
    }
    await assert.rejects(once(await open()), failure('source-changed', { pack: '1.pack', size: cutTo }))
    assert.equal(sink.commits.length, 0)
  })
}

for (const when of ['between two looks', 'while a long pack is copied'] as const) {
  test(`a file that takes the name of a finished pack ${when} is named by the next look, without a wait for the safety poll`, async t => {
    const { source, open } = world(t)
    fs.writeFileSync(join(source, '1.pack'), 'one')
    fs.writeFileSync(join(source, '2.pack'), Buffer.alloc(3 * 1024 * 1024, 'x'))
    fs.mkdirSync(join(source, '..', 'elsewhere'))
    fs.writeFileSync(join(source, '..', 'elsewhere', 'new'), 'one')
    const opened = await open()
    const signal = AbortSignal.timeout(10_000)
    let from: Position | undefined
    let isReplaced = false
    const replace = async () => {
      if (isReplaced) return
      isReplaced = true
      fs.renameSync(join(source, '..', 'elsewhere', 'new'), join(source, '1.pack'))
      await opened.wait(signal)
    }
    const read = async () => {
      for await (const entry of opened.read(from, { signal, inventory: async () => undefined })) {
        if (entry.type === 'commit') from = entry.position
        const isLong = entry.type === 'write' && entry.data.length > 1000
        if (isLong && when === 'while a long pack is copied') await replace()
      }
    }
    await read()
    if (when === 'between two looks') {
      await read()
      await replace()
    }
    await assert.rejects(read(), failure('source-changed', { pack: '1.pack' }))
    assert.ok(isReplaced)
  })
}

test('zeros that were allocated in advance are taken only when something follows or the pack is finished', async t => {
  const { source, sink, open, once } = world(t, genericProfile('*.wal'))
  const path = join(source, '1.wal')
  fs.writeFileSync(path, Buffer.alloc(5_000_000))
  const opened = await open()
  await once(opened)
  assert.equal(fs.statSync(join(sink.root, '1.wal')).size, 0)
  const fd = fs.openSync(path, 'r+')
  t.after(() => fs.closeSync(fd))
  fs.writeSync(fd, 'record', 0)
  await once(opened)
  assert.equal(fs.readFileSync(join(sink.root, '1.wal'), 'utf8'), 'record')
  fs.writeSync(fd, 'after zeros', 10_000)
  await opened.close()
  const again = await open()
  await once(again)
  assert.equal(fs.statSync(join(sink.root, '1.wal')).size, 10_011)
  fs.writeFileSync(join(source, '2.wal'), 'next')
  await once(again)
  assert.deepEqual(content(sink.root), content(source))
})

test('redis-aof: files first, manifest last, and what the manifest no longer names after it', async t => {
  const { source, sink, open, once } = world(t, redisAofProfile)
  const manifest = (text: string) => {
    fs.writeFileSync(join(source, 'temp-a.manifest'), text)
    fs.renameSync(join(source, 'temp-a.manifest'), join(source, 'a.manifest'))
  }
  fs.writeFileSync(join(source, 'a.1.base.rdb'), 'base1')
  fs.writeFileSync(join(source, 'a.1.incr.aof'), 'incr1')
  manifest('file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\n')
  const opened = await open()
  await once(opened)
  assert.deepEqual(content(sink.root), content(source))
  fs.appendFileSync(join(source, 'a.1.incr.aof'), '+')
  fs.writeFileSync(join(source, 'a.2.incr.aof'), 'incr2')
  fs.writeFileSync(join(source, 'a.2.base.rdb'), 'base2')
  fs.writeFileSync(join(source, 'temp-rewriteaof.aof'), 'temporary')
  manifest('file a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\nfile a.2.incr.aof seq 2 type i\n')
  const before = sink.entries.length
  await once(opened)
  const order = sink.entries
    .slice(before)
    .map(entry => ('path' in entry ? `${entry.type} ${entry.path}` : entry.type))
  assert.deepEqual(
    order.filter((line, index) => line !== order[index - 1]),
    [
      'write a.2.base.rdb',
      'write a.2.incr.aof',
      'replace a.manifest',
      'write a.manifest',
      'replaced a.manifest',
      'remove a.1.base.rdb',
      'remove a.1.incr.aof',
      'commit',
    ],
  )
  fs.truncateSync(join(source, 'a.2.incr.aof'), 3)
  await once(opened)
  assert.equal(fs.readFileSync(join(sink.root, 'a.2.incr.aof'), 'utf8'), 'inc')
  await opened.close()
  fs.truncateSync(join(source, 'a.2.incr.aof'), 1)
  fs.appendFileSync(join(source, 'a.2.incr.aof'), '!')
  await once(await open())
  assert.equal(fs.readFileSync(join(sink.root, 'a.2.incr.aof'), 'utf8'), 'i!')
})

test('prometheus-wal: a checkpoint appears whole, and stands for segments that are gone', async t => {
  const { source, sink, open, once } = world(t, prometheusWalProfile)
  for (const number of [0, 1, 2]) fs.writeFileSync(join(source, `0000000${number}`), `segment ${number}`)
  const opened = await open()
  await once(opened)
  fs.mkdirSync(join(source, 'checkpoint.00000001.tmp'))
  fs.writeFileSync(join(source, 'checkpoint.00000001.tmp/00000000'), 'checkpoint 1')
  await once(opened)
  assert.deepEqual(Object.keys(content(sink.root)), ['00000000', '00000001', '00000002'])
  fs.renameSync(join(source, 'checkpoint.00000001.tmp'), join(source, 'checkpoint.00000001'))
  for (const number of [0, 1]) fs.unlinkSync(join(source, `0000000${number}`))
  await once(opened)
  assert.deepEqual(content(sink.root), content(source))
  await opened.close()
  fs.mkdirSync(join(source, 'checkpoint.00000005'))
  fs.writeFileSync(join(source, 'checkpoint.00000005/00000000'), 'checkpoint 5')
  fs.rmSync(join(source, 'checkpoint.00000001'), { recursive: true })
  fs.unlinkSync(join(source, '00000002'))
  fs.writeFileSync(join(source, '00000006'), 'segment 6')
  await once(await open())
  assert.deepEqual(content(sink.root), content(source))
  await once(await open())
  assert.equal(sink.entries.at(-1)!.type, 'commit')
})
