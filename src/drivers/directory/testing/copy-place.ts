/** A place for a copy in a temporary directory, and an engine that keeps the copy. */
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Commit, storeName } from '../../../stream/entry.ts'
import { type CopyCalls, systemCalls } from '../copy-calls.ts'
import { CopyEngine } from '../copy-engine.ts'
import { encodePosition } from '../position.ts'
import { describeTree } from './copy-model.ts'

export interface CopyPlace {
  readonly root: string
  readonly target: string
  readonly sidecar: string
  remove(): void
}

export function makePlace(parent = tmpdir()): CopyPlace {
  const root = fs.mkdtempSync(join(parent, 'hotspare-copy-'))
  const target = join(root, 'copy')
  const sidecar = `${target}.hotspare`
  fs.mkdirSync(sidecar, { mode: 0o700 })
  return { root, target, sidecar, remove: () => fs.rmSync(root, { recursive: true, force: true }) }
}

export function openEngine(
  { target, sidecar }: CopyPlace,
  options: { calls?: CopyCalls; resync?: boolean; noDelete?: boolean } = {},
): CopyEngine {
  const engine = new CopyEngine({
    calls: options.calls ?? systemCalls,
    target,
    sidecar,
    resync: options.resync ?? false,
    noDelete: options.noDelete ?? false,
    onNotice: () => {},
  })
  if (engine.isTorn) engine.flush(withoutReaders)
  return engine
}

export const withoutReaders = { kind: 'allowed', readers: false } as const
export const withReaders = { kind: 'allowed', readers: true } as const

export function commit(pass: number, kind: 'part' | 'complete' | 'held'): Commit {
  return {
    type: 'commit',
    store: storeName('tree'),
    position: encodePosition({ pass, index: 'x', complete: kind !== 'part', held: kind === 'held' }),
    consistent: kind === 'held',
    timeMs: pass,
  }
}

/** The copy is as described; undefined: there is none. */
export function assertShows(
  target: string,
  wanted: ReadonlyMap<string, string> | undefined,
  message?: string,
): void {
  if (wanted === undefined) {
    assert.equal(fs.existsSync(target), false, message)
    return
  }
  assert.deepEqual(Object.fromEntries(describeTree(target, wanted)), Object.fromEntries(wanted), message)
}
