/** The laws that a copy keeps, as checks that throw with what is wrong. */
import assert from 'node:assert/strict'
import type { Storage } from '../../os/storage.ts'
import { nativePath } from '../../stream/entry.ts'
import { walkCopy } from '../copy-walk.ts'
import { difference, type ModelStep, type Snapshot } from './copy-model.ts'

export async function snapshotOf(storage: Storage, root: string): Promise<Snapshot | undefined> {
  if ((await storage.stat(root)) === undefined) return undefined
  const snapshot = new Map<string, Buffer | string>()
  for await (const { path, stat } of walkCopy(storage, root)) {
    if (path === '' && stat.kind === 'directory') continue
    if (stat.kind === 'directory') snapshot.set(path, 'directory')
    else if (stat.kind === 'symlink')
      snapshot.set(path, `-> ${(await storage.readlink(nativePath(root, path))).toString('latin1')}`)
    else {
      const file = await storage.open(nativePath(root, path), 'read')
      const bytes = Buffer.alloc(stat.size)
      await file.read(bytes, 0)
      await file.close()
      snapshot.set(path, bytes)
    }
  }
  return snapshot
}

/**
 * In order: the copy is one of the steps that may be seen, from `least` transactions on, or on the way to the next by
 * appending, where what was not synced may be cut or read as zeros.
 */
export function assertPrefixInOrder(found: Snapshot, steps: readonly ModelStep[], least: number): void {
  const first = steps.findLastIndex(
    step => step.transactions <= least && !step.isHidden && isFirstOf(steps, step),
  )
  const seen = steps.slice(first).filter(step => !step.isHidden)
  const reasons: string[] = []
  for (let i = 0; i < seen.length; ) {
    let next = i + 1
    while (next < seen.length && !(seen[next] as ModelStep).isBreak) next++
    const why = notBetween(found, seen[i] as ModelStep, seen[next - 1] as ModelStep)
    if (why === undefined) return
    reasons.push(why)
    i = next
  }
  assert.fail(`the copy is none that its source was after transaction ${least}: ${reasons.join('; ')}`)
}

function isFirstOf(steps: readonly ModelStep[], step: ModelStep): boolean {
  return steps.find(other => other.transactions === step.transactions) === step
}

function notBetween(found: Snapshot, from: ModelStep, to: ModelStep): string | undefined {
  const expected = new Map<string, Buffer | string>()
  for (const [path, end] of to.snapshot) {
    const begin = from.snapshot.get(path)
    const there = found.get(path)
    if (typeof end === 'string' || typeof there !== 'object' || typeof begin !== 'object') {
      expected.set(path, end)
      continue
    }
    if (there.length < begin.length || there.length > end.length) return `'${path}' has ${there.length} bytes`
    const tail = there.map((byte, i) => (i >= begin.length && byte === 0 ? 0 : (end[i] as number)))
    expected.set(path, Buffer.from(tail))
  }
  return difference(found, expected)
}

/** Atomically: the copy is what it was at a consistent commit, from the last one within `least` transactions on. */
export function assertConsistent(
  found: Snapshot,
  steps: readonly ModelStep[],
  consistent: readonly number[],
  least: number,
): void {
  const from = consistent.findLast(count => count <= least) ?? 0
  const reasons: string[] = []
  for (const count of consistent.filter(count => count >= from)) {
    const step = steps.find(candidate => candidate.transactions === count) as ModelStep
    const why = difference(found, step.snapshot)
    if (why === undefined) return
    reasons.push(`after ${count}: ${why}`)
  }
  assert.fail(`the copy is of no consistent commit from ${from} on: ${reasons.join('; ')}`)
}
