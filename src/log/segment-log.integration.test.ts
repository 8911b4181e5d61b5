/** The log on a real file system: processes that are killed, and a disk that is full. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import test from 'node:test'
import { systemClock } from '../os/clock.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { systemRandom } from '../os/random.ts'
import type { Log } from './log.ts'
import { openLog } from './segment-log.ts'
import { append, roomy, storeA, transactions } from './testing/log-harness.ts'

const writer = new URL('./testing/endless-appender.ts', import.meta.url).pathname

function open(directory: string): Promise<Log> {
  return openLog({
    storage: nodeStorage,
    clock: systemClock,
    random: systemRandom,
    directory,
    limits: { ...roomy, keepBytes: 1 << 30 },
    segmentBytes: 200_000,
    onNotice: notice => assert.fail(notice.message),
  })
}

async function checkContent(log: Log): Promise<void> {
  const byStore = new Map<string, number>()
  for (const { number, store, position, entries } of await transactions(log)) {
    const before = byStore.get(store) ?? 0
    assert.equal(position, String(before + 1), `transaction ${number} of '${store}'`)
    byStore.set(store, before + 1)
    const [write] = entries
    assert.ok(write?.type === 'write' && write.data.every(byte => byte === (before + 1) % 251))
  }
  for (const [store, count] of byStore)
    assert.equal(log.mark(store as typeof storeA)?.position, String(count))
}

test('a process that is killed at any moment leaves all that it was told is durable, and no damage', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-log-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  for (let round = 0; round < 12; round++) {
    const child = spawn(process.execPath, [writer, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    const lines = createInterface(child.stdout)
    let durable = 0
    let heard = 0
    const killAfter = 1 + ((round * 37) % 90)
    lines.on('line', line => {
      durable = Number(line)
      if (++heard === killAfter) child.kill('SIGKILL')
    })
    await Promise.all([once(child, 'exit'), once(lines, 'close')])
    assert.ok(durable > 0)
    const log = await open(directory)
    assert.deepEqual(log.damage, [])
    assert.ok(log.durable >= durable, `${log.durable} of ${durable}`)
    await checkContent(log)
    await log.close()
  }
})

test('a disk that fills refuses, loses nothing that was durable, and goes on when there is space', async t => {
  if (process.getuid?.() !== 0)
    return t.skip('needs root, to mount a small tmpfs: sudo npm run test:integration')
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-log-full-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', directory], {
    encoding: 'utf8',
  })
  t.after(() => {
    spawnSync('umount', [directory])
    rmSync(directory, { recursive: true, force: true })
  })
  if (mounted.status !== 0) {
    assert.notEqual(process.env.HOTSPARE_REQUIRE_ENGINES, '1', mounted.stderr)
    return t.skip(`no tmpfs can be mounted here: ${mounted.stderr}`)
  }
  const ballast = join(directory, 'ballast')
  mkdirSync(join(directory, 'log'))
  writeFileSync(ballast, Buffer.alloc(1_200_000))
  const log = await open(join(directory, 'log'))
  let durable = 0
  const fill = async () => {
    for (let i = 1; i <= 200; i++) {
      await append(log, storeA, i, 10_000)
      await log.sync()
      durable = i
    }
  }
  await assert.rejects(fill(), { code: 'disk-full' })
  assert.ok(durable > 20)
  assert.ok(log.durable >= durable)
  rmSync(ballast)
  await log.sync()
  const { next } = log
  await append(log, storeA, next, 10_000)
  await log.sync()
  assert.equal(log.durable, next)
  await log.close()
  const again = await open(join(directory, 'log'))
  assert.deepEqual(
    (await transactions(again)).map(({ position }) => position),
    Array.from({ length: next }, (_, i) => String(i + 1)),
  )
  await again.close()
})
