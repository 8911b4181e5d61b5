/** For tests of the copy: a directory of their own, options, and the bare command. */
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../../os/clock.ts'
import { nodeStorage } from '../../../os/node-storage.ts'
import { storeName } from '../../../stream/entry.ts'
import type { CopyOptions, Notice, ReplicaOptions } from '../../driver.ts'
import { CopyFeeder } from './copy-feeder.ts'

export const store = storeName('test')

export async function scratch(): Promise<{ at: string; [Symbol.asyncDispose](): Promise<void> }> {
  const at = await mkdtemp(join(tmpdir(), 'hotspare-replica-'))
  await mkdir(join(at, 'sidecar'))
  return { at, [Symbol.asyncDispose]: () => rm(at, { recursive: true, force: true }) }
}

export function optionsIn(at: string, extra: Partial<ReplicaOptions> = {}): ReplicaOptions {
  return {
    store,
    path: join(at, 'copy.db'),
    sidecar: join(at, 'sidecar'),
    storage: nodeStorage,
    clock: systemClock,
    resync: false,
    noDelete: false,
    onNotice: (_: Notice) => {},
    ...extra,
  }
}

/** What the bare command says, in a process of its own. */
export function sqlite3(path: string, sql: string): string {
  return execFileSync('sqlite3', [path, sql], { encoding: 'utf8' }).trim()
}

/** With a table `t(id, v)`. */
export function source(at: string, pageBytes = 4096): CopyFeeder {
  const feeder = new CopyFeeder(join(at, 'source.db'), pageBytes)
  feeder.database.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)')
  return feeder
}

/** For `check` and `clone`. */
export function copyOptionsIn(at: string): CopyOptions {
  return { ...optionsIn(at), signal: new AbortController().signal, onProgress: () => {} }
}

export async function code(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
