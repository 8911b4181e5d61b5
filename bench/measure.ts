/** Figures of processes, and what to make of many of them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface Run {
  readonly seconds: number
  /** Peak of resident memory (VmHWM), sampled until the end. */
  readonly peakBytes: number
}

/** Runs a command to its end, which has to be good. */
export async function run(command: string, given: readonly string[]): Promise<Run> {
  const startMs = performance.now()
  const child = spawn(command, given, { stdio: ['ignore', 'ignore', 'inherit'] })
  let peakBytes = 0
  const sampling = setInterval(() => {
    peakBytes = Math.max(peakBytes, peakMemory(child.pid as number))
  }, 10)
  await ended(child)
  clearInterval(sampling)
  if (child.exitCode !== 0) throw new Error(`${command} ${given.join(' ')}: status ${child.exitCode}`)
  return { seconds: (performance.now() - startMs) / 1000, peakBytes }
}

/**
 * Before a measurement: nothing is left to be written to the disk, and `bytes` of free memory were just used, by a file in `directory`.
 * A virtual machine may get its memory from its host only as it touches it, and give back what is free: what is measured then
 * is that, as it takes ten times as long as writing into memory that is there.
 */
export async function settle(directory: string, bytes: number): Promise<void> {
  await run('sync', [])
  const path = join(directory, 'memory')
  const block = Buffer.alloc(2 ** 20)
  const fd = openSync(path, 'w')
  for (let written = 0; written < bytes; written += block.length) writeSync(fd, block)
  closeSync(fd)
  rmSync(path)
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
}

/** Ends a process that was started here, and waits for its end. */
export async function end(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  child.kill(signal)
  await ended(child)
}

/** 0 when the process is gone. */
export function peakMemory(pid: number): number {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
    return line === null ? 0 : Number(line[1]) * 1024
  } catch {
    return 0
  }
}

const ticksPerSecond = 100 // USER_HZ, the same on every Linux that runs Node.js

/** Processor time that a process has used, in seconds. */
export function processorSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

export function median(values: readonly number[]): number {
  return percentile(values, 50)
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const index = Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))
  const value = sorted[index]
  if (value === undefined) throw new Error('no values were measured')
  return value
}
