/**
 * Trees of many small files, beside rsync: whole processes, in turn, fresh targets each time. Nothing is removed
 * in between, and what one side left to be written is written before the other begins.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Benchmark, Result, Setting } from './bench.ts'
import { end, median, run } from './measure.ts'
import { TextTree } from './text-tree.ts'

const rsync = { rsync: 'rsync' }
const changes = 100
/** Short runs are repeated more often. */
const shortRunsFactor = 3

const command = (hotspare: string, ...given: string[]) => run(process.execPath, [hotspare, ...given])
const settle = () => run('sync', [])

function makeTree({ directory, scale }: Setting): TextTree {
  return new TextTree(join(directory, 'live'), scale.files)
}

function atMost(
  limit: number,
  given: Omit<Result, 'figure' | 'toReach' | 'reached'> & { figure?: string },
): Result {
  const figure = given.figure ?? `${given.value.toFixed(2)} of its time`
  return { ...given, figure, toReach: `at most ${limit}`, reached: given.value <= limit }
}

/** Ours is durable at its end; rsync's is not, and what a sync of its file system adds stands in the details. */
export const directoryFirstCopy: Benchmark = {
  name: 'directory-first-copy',
  peers: rsync,
  async run(setting) {
    const { directory, hotspare, scale } = setting
    const tree = makeTree(setting)
    const theirs: number[] = []
    const theirsSynced: number[] = []
    const ours: number[] = []
    const peaks: number[] = []
    // the first run warms up memory and disk, and does not count
    for (let i = scale.runs === 1 ? 1 : 0; i <= scale.runs; i++) {
      await settle()
      const copied = await run('rsync', ['-a', `${tree.path}/`, `${join(directory, `rsync-${i}`)}/`])
      const synced = await run('sync', ['-f', directory])
      await settle()
      const target = join(directory, `copy-${i}`)
      const followed = await command(hotspare, 'follow', '--once', '-q', tree.path, target)
      if (i === 0) continue
      theirs.push(copied.seconds)
      theirsSynced.push(copied.seconds + synced.seconds)
      ours.push(followed.seconds)
      peaks.push(followed.peakBytes)
    }
    const ratios = ours.map((seconds, i) => seconds / (theirs[i] as number))
    const ratiosSynced = ours.map((seconds, i) => seconds / (theirsSynced[i] as number))
    return [
      atMost(0.6, {
        what: `directory: first copy, ${tree.files} small files`,
        against: 'rsync -a',
        value: median(ratios),
        details: { ratios, ratiosToRsyncAndSync: ratiosSynced, ours, rsync: theirs, theirsSynced, peaks },
      }),
    ]
  },
}

export const directoryUnchanged: Benchmark = {
  name: 'directory-unchanged',
  peers: rsync,
  async run(setting) {
    const { directory, hotspare, scale } = setting
    const tree = makeTree(setting)
    const rsynced = join(directory, 'rsync')
    const copy = join(directory, 'copy')
    const theirs: number[] = []
    const theirsSynced: number[] = []
    const ours: number[] = []
    for (let i = 0; i <= scale.runs * shortRunsFactor; i++) {
      const compared = await run('rsync', ['-a', `${tree.path}/`, `${rsynced}/`])
      const synced = await run('sync', ['-f', directory])
      const followed = await command(hotspare, 'follow', '--once', '-q', tree.path, copy)
      // that one made the copies
      if (i === 0) await settle()
      if (i === 0) continue
      theirs.push(compared.seconds)
      theirsSynced.push(compared.seconds + synced.seconds)
      ours.push(followed.seconds)
    }
    const ratios = ours.map((seconds, i) => seconds / (theirs[i] as number))
    const ratiosSynced = ours.map((seconds, i) => seconds / (theirsSynced[i] as number))
    return [
      atMost(0.5, {
        what: `directory: nothing changed, ${tree.files} small files`,
        against: 'rsync -a',
        value: median(ratios),
        details: { ratios, ratiosToRsyncAndSync: ratiosSynced, ours, rsync: theirs, theirsSynced },
      }),
    ]
  },
}

/**
 * How long the application is held for what changed since: a whole run of rsync, or our window while a follower runs.
 * In the details also the harder case, that the last changes fall right before the window and are all read inside it.
 */
export const directoryWindow: Benchmark = {
  name: 'directory-window',
  peers: rsync,
  async run(setting) {
    const { directory, hotspare, scale } = setting
    const tree = makeTree(setting)
    const rsynced = join(directory, 'rsync')
    const copy = join(directory, 'copy')
    await run('rsync', ['-a', `${tree.path}/`, `${rsynced}/`])
    await settle()
    const follower = await follow(hotspare, tree.path, copy)
    const theirs: number[] = []
    const held: number[] = []
    const heldWithAll: number[] = []
    try {
      for (let i = 0; i <= scale.runs * shortRunsFactor; i++) {
        tree.change(changes)
        const heldMs = mirror(hotspare, tree.path, copy, 'true', 'true')
        const compared = await run('rsync', ['-a', `${tree.path}/`, `${rsynced}/`])
        const late = join(directory, `late-${i}`)
        mkdirSync(late)
        tree.change(changes, late)
        const entered = join(directory, 'entered')
        const left = join(directory, 'left')
        const enter = `cp -r '${late}/.' '${tree.path}' && date +%s%N > '${entered}'`
        mirror(hotspare, tree.path, copy, enter, `date +%s%N > '${left}'`)
        await run('rsync', ['-a', `${tree.path}/`, `${rsynced}/`])
        if (i === 0) continue
        theirs.push(compared.seconds * 1_000)
        held.push(heldMs)
        heldWithAll.push((nanoseconds(left) - nanoseconds(entered)) / 1e6)
      }
    } finally {
      await end(follower)
    }
    const ratios = held.map((ms, i) => ms / (theirs[i] as number))
    const value = median(ratios)
    return [
      atMost(0.05, {
        what: `directory: held window, ${changes} of ${tree.files} files changed`,
        against: 'rsync -a',
        figure: `${value.toFixed(3)} of its time, ${median(held).toFixed(1)} ms`,
        value,
        details: { ratios, heldMs: held, rsyncMs: theirs, heldWithAllChangesInsideMs: heldWithAll },
      }),
    ]
  },
}

/** A follower that has said 'live'. */
async function follow(hotspare: string, source: string, target: string): Promise<ChildProcess> {
  const given = [hotspare, 'follow', '--json', source, target]
  const follower = spawn(process.execPath, given, { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: follower.stdout })) {
    if ((JSON.parse(line) as { event?: string }).event !== 'live') continue
    follower.stdout.resume()
    return follower
  }
  throw new Error(`the follower ended with status ${follower.exitCode}`)
}

/** Gives how long the application was held, as the mirror reports it, in milliseconds. */
function mirror(hotspare: string, source: string, target: string, enter: string, leave: string): number {
  const given = [hotspare, 'mirror', '--json', source, target, '--enter', enter, '--leave', leave]
  const said = execFileSync(process.execPath, given, { encoding: 'utf8' }).trimEnd().split('\n')
  const { heldMs } = JSON.parse(said.at(-1) ?? '') as { heldMs?: number }
  if (heldMs === undefined) throw new Error(`the mirror did not say how long it held: ${said.at(-1)}`)
  return heldMs
}

function nanoseconds(path: string): number {
  return Number(readFileSync(path, 'utf8'))
}
