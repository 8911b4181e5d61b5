/** Threads that start as the process did: with the compiled code of the time before, if it has any (see cli/main.ts). */
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'
import { Worker, type WorkerOptions } from 'node:worker_threads'

/** The sources run as they are, and as what they are compiled to. */
const extension = import.meta.url.slice(-3)

/** `file` without its extension. */
export function startThread(file: string, base: string, options: Omit<WorkerOptions, 'argv'> = {}): Worker {
  const compiled = getCompileCacheDir()
  // a directory in it is of this version of Node.js
  const cache = compiled === undefined ? '' : dirname(compiled)
  const first = new URL(`${file}${extension}`, base).href
  return new Worker(new URL(`./thread-entry${extension}`, import.meta.url), {
    ...options,
    argv: [first, cache],
  })
}
