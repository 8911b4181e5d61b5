import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { driverConformance } from '../conformance.ts'
import { judgePacks } from './testing/pack-store.ts'
import { prometheusInstalled, startPrometheus } from './testing/prometheus.ts'
import { judgeRedis, redisInstalled, startRedis, stopRedis } from './testing/redis-store.ts'

const hotspare = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
const packWriter = fileURLToPath(new URL('./testing/pack-writer.ts', import.meta.url))
const redisWriter = fileURLToPath(new URL('./testing/redis-writer.ts', import.meta.url))
const enginesRequired = process.env.HOTSPARE_REQUIRE_ENGINES === '1'
const packBytes = 1024 * 1024
/** Longer than a follower is ever away. */
const keepMs = 30_000
/** Seconds of it are copied in no time, also on a machine that is busy with something else. */
const bytesPerSecond = 20_000_000

driverConformance({
  name: 'packs, profile rdm',
  prepare: async (_t, directory) => join(directory, 'live.rdm'),
  writer: source => ({
    command: process.execPath,
    arguments: [packWriter, source, String(packBytes), String(keepMs), String(bytesPerSecond)],
  }),
  judge: async store => ({ last: judgePacks(store) }),
})

if (redisInstalled || enginesRequired) {
  let live: Awaited<ReturnType<typeof startRedis>> | undefined
  driverConformance({
    name: 'packs, profile redis-aof',
    async prepare(t, directory) {
      const source = join(directory, 'appendonlydir')
      const started = await startRedis(source)
      live = started
      t.after(() => stopRedis(started.server))
      return source
    },
    writer: () => ({ command: process.execPath, arguments: [redisWriter, live!.socketPath] }),
    judge: async store => ({ last: await judgeRedis(store) }),
    quiesce: () => stopRedis(live!.server),
    followArguments: ['--driver', 'packs', '--profile', 'redis-aof'],
    kills: 10,
  })
} else {
  test('packs, profile redis-aof', {
    skip: 'redis-server is missing: apt-get install -y redis-server',
  }, () => {})
}

const prometheusMissing = prometheusInstalled || enginesRequired ? false : 'apt-get install -y prometheus'

test('packs, profile prometheus-wal: killed at any moment, a real server replays the copy', {
  skip: prometheusMissing,
  timeout: 120_000,
}, async t => {
  const directory = fs.mkdtempSync(join(tmpdir(), 'hotspare-prometheus-'))
  t.after(() => fs.rmSync(directory, { recursive: true, force: true, maxRetries: 3 }))
  const live = await startPrometheus(join(directory, 'live'), true)
  t.after(() => live.stop())
  const source = join(directory, 'live', 'wal')
  const target = join(directory, 'wal')
  const profile = ['--driver', 'packs', '--profile', 'prometheus-wal']
  const run = (...given: string[]) =>
    spawn(process.execPath, [hotspare, ...given], { stdio: ['ignore', 'ignore', 'inherit'] })
  const exit = async (child: ReturnType<typeof run>) => {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    return child.exitCode
  }
  const samplesOf = async (name: string): Promise<number> => {
    const data = join(directory, name)
    fs.cpSync(target, join(data, 'wal'), { recursive: true })
    const server = await startPrometheus(data, false)
    try {
      assert.doesNotMatch(server.log(), /corrupt|level=error/i)
      return await server.samples()
    } finally {
      await server.stop()
    }
  }
  let floor = 0
  for (let kill = 1; kill <= 3; kill++) {
    const follower = run('follow', source, target, '-q', ...profile)
    const before = await live.samples()
    while ((await live.samples()) < before + 10) {
      assert.equal(follower.exitCode, null, 'the follower ended by itself')
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    follower.kill('SIGKILL')
    await exit(follower)
    if (!fs.existsSync(target)) continue
    const samples = await samplesOf(`killed-${kill}`)
    assert.ok(samples >= floor && samples <= (await live.samples()), `${samples} samples, ${floor} before`)
    floor = samples
  }
  const atLeast = await live.samples()
  assert.equal(await exit(run('follow', source, target, '--once', '-q', ...profile)), 0)
  const samples = await samplesOf('end')
  assert.ok(samples >= atLeast, `${samples} samples, the live server had ${atLeast}`)
  assert.equal(await exit(run('check', target, '--against', source, '-q')), 0)
})
