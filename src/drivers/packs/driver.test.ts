import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { storeName } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import type { CheckReport } from '../driver.ts'
import { packsDriver } from './driver.ts'

const store = storeName('store')

interface World {
  readonly source: string
  readonly target: string
  write(name: string, data: string | Buffer): void
  /** A follower's run until it has caught up. */
  follow(options?: { resync?: boolean; noDelete?: boolean; profile?: string }): Promise<void>
  check(against?: boolean): Promise<CheckReport>
  clone(): Promise<string>
  assertEqual(): void
}

function world(t: TestContext): World {
  const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-packs-driver-'))
  t.after(() => fs.rmSync(root, { recursive: true }))
  const source = join(root, 'source.rdm')
  const target = join(root, 'target')
  const sidecar = join(root, 'target.hotspare')
  fs.mkdirSync(source)
  fs.mkdirSync(sidecar)
  const machine = { storage: nodeStorage, clock: systemClock, store, onNotice: () => {} }
  const signal = AbortSignal.timeout(30_000)
  const copy = { ...machine, path: target, sidecar, signal, onProgress: () => {} }
  return {
    source,
    target,
    write: (name, data) => fs.writeFileSync(join(source, name), data),
    async follow({ resync = false, noDelete = false, profile = 'rdm' } = {}) {
      const live = { ...machine, path: source, profile, driverOptions: {}, scratch: sidecar }
      const opened = await packsDriver.openSource(live)
      const sink = await packsDriver.openReplica({ ...machine, path: target, sidecar, resync, noDelete })
      try {
        await pump({ store, source: opened, sink, clock: systemClock, signal, once: true })
      } finally {
        await opened.close()
        await sink.close()
      }
    },
    check: (against = false) => packsDriver.check({ ...copy, ...(against ? { against: source } : {}) }),
    async clone() {
      const destination = join(root, 'clone')
      await packsDriver.clone({ ...copy, destination })
      return destination
    },
    assertEqual() {
      assert.deepEqual(fs.readdirSync(target).sort(), fs.readdirSync(source).sort())
      for (const name of fs.readdirSync(source)) {
        const [a, b] = [source, target].map(directory => fs.readFileSync(join(directory, name)))
        assert.ok(a!.equals(b!), name)
      }
    },
  }
}

function refuted(report: CheckReport): string[] {
  assert.equal(report.valid, false)
  return report.findings.filter(finding => !finding.ok).map(finding => finding.what)
}

function overwrite(path: string, offset: number, text: string): void {
  const fd = fs.openSync(path, 'r+')
  fs.writeSync(fd, text, offset)
  fs.closeSync(fd)
}

const mebibyte = 1024 * 1024

function twoPacks({ write }: World): void {
  write('1.pack', Buffer.alloc(2.5 * mebibyte, 'first '))
  write('2.pack', Buffer.alloc(1.5 * mebibyte, 'second '))
  write('x.idindex', 'index')
}

test('a copy that was followed is valid, equal to its source, and so is its clone', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow()
  w.assertEqual()
  const report = await w.check(true)
  assert.ok(report.valid, JSON.stringify(report.findings))
  assert.equal(report.bytes, 2 * 4 * mebibyte + 'index'.length)
  const clone = await w.clone()
  assert.deepEqual(fs.readdirSync(clone).sort(), ['1.pack', '2.pack', 'x.idindex'])
})

const harms: { title: string; harm(w: World): void; says: RegExp }[] = [
  {
    title: 'a changed byte',
    harm: w => overwrite(join(w.target, '1.pack'), mebibyte + 5, '#'),
    says: /^1\.pack differs from what was received, in the block at offset 1048576$/,
  },
  {
    title: 'a truncated pack',
    harm: w => fs.truncateSync(join(w.target, '1.pack'), 100),
    says: /^1\.pack differs .* offset 0$/,
  },
  { title: 'a missing pack', harm: w => fs.rmSync(join(w.target, '1.pack')), says: /^1\.pack is not there$/ },
  {
    title: 'a file that nobody sent',
    harm: w => fs.writeFileSync(join(w.target, '0.pack'), 'x'),
    says: /^0\.pack was put there by somebody else$/,
  },
]

for (const { title, harm, says } of harms) {
  test(`check names ${title} in the copy`, async t => {
    const w = world(t)
    twoPacks(w)
    await w.follow()
    harm(w)
    const found = refuted(await w.check())
    assert.ok(
      found.some(what => says.test(what)),
      found.join('; '),
    )
  })
}

test('check against a source that is another names the pack and the offset', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow()
  overwrite(join(w.source, '1.pack'), mebibyte + 5, '#')
  assert.deepEqual(refuted(await w.check(true)), ['pack 1.pack differs from the source at offset 1048581'])
})

test('check against a source that has gone on says how far it is ahead', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow()
  fs.appendFileSync(join(w.source, '2.pack'), '12345')
  const report = await w.check(true)
  assert.ok(report.valid)
  assert.ok(report.findings.some(({ what }) => /5 bytes ahead/.test(what)))
})

test('after a divergence resync makes the copy like the source again, and following goes on', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow()
  overwrite(join(w.source, '2.pack'), mebibyte + 5, '#')
  fs.rmSync(join(w.source, '1.pack'))
  await assert.rejects(w.follow(), { code: 'diverged' })
  await w.follow({ resync: true })
  w.assertEqual()
  w.write('3.pack', 'third')
  await w.follow()
  w.assertEqual()
  assert.ok((await w.check(true)).valid)
})

test('with no-delete the copy keeps what the source deletes, and stays a copy', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow({ noDelete: true })
  fs.rmSync(join(w.source, '1.pack'))
  w.write('3.pack', 'third')
  await w.follow({ noDelete: true })
  await w.follow({ noDelete: true })
  assert.deepEqual(fs.readdirSync(w.target).sort(), ['1.pack', '2.pack', '3.pack', 'x.idindex'])
  assert.ok((await w.check(true)).valid)
})

test('a file that is copied whole is replaced when it changes, and removed when it is gone', async t => {
  const w = world(t)
  twoPacks(w)
  await w.follow()
  w.write('x.idindex', 'a longer index')
  await w.follow()
  w.assertEqual()
  fs.rmSync(join(w.source, 'x.idindex'))
  await w.follow()
  w.assertEqual()
})

test('redis-aof: an end that the server cut off at its start is cut off the copy too', async t => {
  const w = world(t)
  w.write('a.aof.1.incr.aof', `${'command '.repeat(200_000)}torn`)
  w.write('a.aof.manifest', 'file a.aof.1.incr.aof seq 1 type i\n')
  await w.follow({ profile: 'redis-aof' })
  fs.truncateSync(join(w.source, 'a.aof.1.incr.aof'), 1_600_000)
  fs.appendFileSync(join(w.source, 'a.aof.1.incr.aof'), 'go on')
  await w.follow({ profile: 'redis-aof' })
  w.assertEqual()
})
