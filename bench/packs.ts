import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Benchmark, Setting } from './bench.ts'
import { type Latency, latency, readTimes } from './latency.ts'
import { end, ended, median, run } from './measure.ts'

const process_ = (name: string) => fileURLToPath(new URL(`processes/${name}.ts`, import.meta.url))
const rateBytes = 50e6

/** Appends at 50 MB/s, to durable at the copy; lsyncd's copy is measured as soon as it shows, durable or not. */
export const packsLatency: Benchmark = {
  name: 'packs-latency',
  peers: { lsyncd: 'lsyncd', rsync: 'rsync' },
  async run(setting) {
    const ours = await ourLatency(setting)
    const theirs = await lsyncdLatency(setting)
    const reached = ours.p50 <= 3 && ours.p99 <= 25 && ours.missed === 0
    return [
      {
        what: 'packs: append to durable at the copy, 50 MB/s',
        against: 'lsyncd, delay 0',
        figure: `p50 ${ours.p50.toFixed(2)} ms, p99 ${ours.p99.toFixed(2)} ms; lsyncd ${theirs.p50.toFixed(0)} and ${theirs.p99.toFixed(0)} ms`,
        value: ours.p50,
        toReach: 'p50 at most 3 ms, p99 at most 25 ms',
        reached,
        details: { ours, lsyncd: theirs, ratioP50: ours.p50 / theirs.p50 },
      },
    ]
  },
}

async function ourLatency({ scale, directory }: Setting): Promise<Latency> {
  const source = join(directory, 'live')
  mkdirSync(source)
  writeFileSync(join(source, '0001.pack'), '')
  const times = join(directory, 'durable')
  const follower = spawn(
    process.execPath,
    [process_('follower'), 'packs', source, join(directory, 'copy'), times],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await once(follower.stdout, 'data')
  const writer = await writePack(join(source, '0001.pack'), join(directory, 'written'), scale.seconds)
  await sleep(500)
  await end(follower)
  return latency(writer, readTimes(times), 500)
}

async function lsyncdLatency({ scale, directory }: Setting): Promise<Latency> {
  const source = join(directory, 'lsyncd-live')
  const target = join(directory, 'lsyncd-copy')
  mkdirSync(source)
  mkdirSync(target)
  const pack = join(source, '0001.pack')
  const copy = join(target, '0001.pack')
  writeFileSync(pack, '')
  const settings = join(directory, 'lsyncd.lua')
  writeFileSync(
    settings,
    `settings { nodaemon = true, inotifyMode = "CloseWrite or Modify" }
sync { default.rsync, source = "${source}", target = "${target}", delay = 0, rsync = { archive = true, inplace = true, whole_file = true } }
`,
  )
  const lsyncd = spawn('lsyncd', ['-nodaemon', settings], { stdio: 'ignore' })
  const notes: number[] = []
  let size = 0
  const look = setInterval(() => {
    const now = statSync(copy, { throwIfNoEntry: false })?.size ?? 0
    if (now <= size) return
    size = now
    notes.push(now, performance.timeOrigin + performance.now())
  }, 1)
  try {
    while (statSync(copy, { throwIfNoEntry: false }) === undefined) {
      if (lsyncd.exitCode !== null) throw new Error(`lsyncd ended with status ${lsyncd.exitCode}`)
      await sleep(20)
    }
    const writer = await writePack(pack, join(directory, 'lsyncd-written'), scale.seconds)
    const untilMs = performance.now() + 20_000
    while (size < (writer.at(-2) ?? 0) && performance.now() < untilMs) await sleep(20)
    return latency(writer, new Float64Array(notes), 500)
  } finally {
    clearInterval(look)
    await end(lsyncd)
  }
}

async function writePack(path: string, times: string, seconds: number): Promise<Float64Array> {
  const given = [
    process_('pack-writer'),
    path,
    times,
    '--seconds',
    String(seconds),
    '--rate',
    String(rateBytes),
  ]
  const writer: ChildProcess = spawn(process.execPath, given, { stdio: 'inherit' })
  await ended(writer)
  if (writer.exitCode !== 0) throw new Error(`the writer ended with status ${writer.exitCode}`)
  return readTimes(times)
}

/** A whole backlog of packs, both sides durable at their end. */
export const packsBacklog: Benchmark = {
  name: 'packs-backlog',
  async run({ scale, directory, hotspare }) {
    const source = join(directory, 'backlog')
    mkdirSync(source)
    const packBytes = Math.ceil(scale.bytes / 8)
    for (let i = 1; i <= 8; i++) makePack(join(source, `${i}`.padStart(4, '0')), packBytes)
    const ratios: number[] = []
    // the first run warms up memory and disk, and does not count
    for (let i = scale.runs === 1 ? 1 : 0; i <= scale.runs; i++) {
      const cp = await run('cp', ['-r', source, join(directory, `cp-${i}`)])
      const names = Array.from({ length: 8 }, (_, n) =>
        join(directory, `cp-${i}`, `${n + 1}`.padStart(4, '0')),
      )
      const synced = await run('sync', names)
      const target = join(directory, `copy-${i}`)
      const given = ['follow', '--once', '-q', '--driver', 'packs', '--profile', 'generic', source, target]
      const ours = await run(process.execPath, [hotspare, ...given])
      if (i === 0) continue
      ratios.push((cp.seconds + synced.seconds) / ours.seconds)
    }
    const ratio = median(ratios)
    return [
      {
        what: `packs: backlog of ${(scale.bytes / 2 ** 30).toFixed(2)} GiB`,
        against: 'cp -r, and sync of the copies',
        figure: `${ratio.toFixed(2)} of its rate`,
        value: ratio,
        toReach: 'at least 0.8',
        reached: ratio >= 0.8,
        details: { ratios },
      },
    ]
  },
}

function makePack(path: string, bytes: number): void {
  const block = Buffer.alloc(1024 * 1024)
  for (let i = 0; i < block.length; i += 4) block.writeUInt32LE((i * 2654435761) >>> 0, i)
  const fd = openSync(path, 'w')
  for (let written = 0; written < bytes; written += block.length) {
    block.writeUInt32LE(written >>> 0, 0)
    writeSync(fd, block)
  }
  closeSync(fd)
}
