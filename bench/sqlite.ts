import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Benchmark, Setting } from './bench.ts'
import { type Latency, latency, readTimes } from './latency.ts'
import { end, ended, median, peakMemory } from './measure.ts'

const followerScript = fileURLToPath(new URL('processes/follower.ts', import.meta.url))
const writerScript = fileURLToPath(new URL('../test/writers/sqlite-writer.ts', import.meta.url))

interface Load {
  readonly transactionsPerSecond: number
  readonly times: Float64Array
}

/** A writer at full speed, alone and followed in turn; and, at a steady load, from its commit to durable at the copy. */
export const sqliteLoad: Benchmark = {
  name: 'sqlite-load',
  async run(setting) {
    const ratios: number[] = []
    const alone: number[] = []
    const followed: number[] = []
    const peaks: number[] = []
    for (let i = 0; i < Math.max(setting.scale.runs, 1); i++) {
      const path = join(setting.directory, `load-${i}`)
      const before = await write(`${path}-alone.db`, setting.scale.seconds, [])
      const during = await writeFollowed(setting, `${path}.db`, [])
      ratios.push(during.load.transactionsPerSecond / before.transactionsPerSecond)
      alone.push(before.transactionsPerSecond)
      followed.push(during.load.transactionsPerSecond)
      peaks.push(during.peakBytes)
    }
    const steady = await timed(setting, 'steady', ['--pause-ms', '1'])
    const fullSpeed = await timed(setting, 'full-speed', [])
    const ratio = median(ratios)
    const peak = Math.max(...peaks)
    const { p50, p99 } = steady
    return [
      {
        what: "sqlite: writer's transactions a second while followed",
        against: 'the same writer alone',
        figure: `${ratio.toFixed(2)} (${Math.round(median(followed))} of ${Math.round(median(alone))} a second)`,
        value: ratio,
        toReach: 'at least 0.9',
        reached: ratio >= 0.9,
        details: { ratios, alone, followed },
      },
      {
        what: 'sqlite: commit to durable at the copy',
        against: '-',
        figure: `p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
        value: p50,
        toReach: 'p50 at most 5 ms, p99 at most 50 ms',
        reached: p50 <= 5 && p99 <= 50,
        details: { steady, fullSpeed },
      },
      {
        what: 'memory, sqlite at full write load',
        against: '-',
        figure: `${Math.round(peak / 2 ** 20)} MiB at most`,
        value: peak,
        toReach: 'at most 150 MB',
        reached: peak <= 150e6,
        details: { peaks },
      },
    ]
  },
}

/** From each transaction's commit to its being durable at the copy. */
async function timed(setting: Setting, name: string, given: readonly string[]): Promise<Latency> {
  const times = join(setting.directory, `${name}.durable`)
  const { load } = await writeFollowed(setting, join(setting.directory, `${name}.db`), given, times)
  return latency(load.times, readTimes(times), 500)
}

/** With `times`, by a follower that notes when what was durable; without, by the command line as it is published. */
async function writeFollowed(
  { scale, hotspare }: Setting,
  path: string,
  given: readonly string[],
  times?: string,
): Promise<{ load: Load; peakBytes: number }> {
  await write(path, 0, given)
  const copy = `${path}.copy`
  const command =
    times === undefined
      ? [hotspare, 'follow', '--json', path, copy]
      : [followerScript, 'sqlite', path, copy, times]
  const follower = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  follower.stdout.on('data', data => {
    said += data
  })
  while (!said.includes('live')) {
    if (follower.exitCode !== null) throw new Error(`the follower ended with status ${follower.exitCode}`)
    await sleep(5)
  }
  const load = await write(path, scale.seconds, given)
  await sleep(500)
  const peakBytes = peakMemory(follower.pid as number)
  await end(follower)
  return { load, peakBytes }
}

async function write(path: string, seconds: number, given: readonly string[]): Promise<Load> {
  const times = `${path}.times`
  const all = [
    writerScript,
    path,
    '--seconds',
    String(seconds),
    '--times',
    times,
    '--report-ms',
    '1000',
    ...given,
  ]
  const writer = spawn(process.execPath, all, { stdio: ['ignore', 'ignore', 'inherit'] })
  await ended(writer)
  if (writer.exitCode !== 0) throw new Error(`the writer ended with status ${writer.exitCode}`)
  const pairs = readTimes(times)
  return { transactionsPerSecond: seconds === 0 ? 0 : pairs.length / 2 / seconds, times: pairs }
}
