/** Starts scanning threads, the first of them perhaps before it is known what for. */
import { existsSync } from 'node:fs'
import type { Worker } from 'node:worker_threads'
import { startThread } from '../../os/thread.ts'

/** Of a thread: what it makes is short-lived, and the contents are outside. */
const youngMiBMax = 8

let early: Worker | undefined

/** The file of a copy's index, by the copy's name. */
export function indexPathOf(target: string): string {
  return `${target.replace(/(?<=.)\/+$/, '')}.hotspare/scratch/index`
}

/** For a command that has only begun to load its code: when one of its arguments names the copy of a directory, it will scan. */
export function startScanThreadEarly(given: readonly string[]): void {
  if (given.some(one => existsSync(indexPathOf(one)))) early = start()
}

export function startScanThread(): Worker {
  const worker = early ?? start()
  early = undefined
  return worker
}

function start(): Worker {
  const worker = startThread('./scan-worker', import.meta.url, {
    name: 'hotspare-scan',
    execArgv: [],
    resourceLimits: { maxYoungGenerationSizeMb: youngMiBMax },
  })
  worker.unref()
  return worker
}
