/** What a copy of the tree writer's tree must have: see tree-writer.ts. */
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'

export const marksMax = 600
/** A tree that was read while it was written to has marks of different moments. */
const spread = 200

function marks(root: string): number[] {
  return fs.existsSync(join(root, 'marks')) ? fs.readdirSync(join(root, 'marks')).map(Number) : []
}

export function lastNumber(root: string): number {
  const counter = join(root, 'counter')
  return Math.max(0, ...marks(root), fs.existsSync(counter) ? Number(fs.readFileSync(counter, 'utf8')) : 0)
}

/** Throws when something up to `promised` is missing that must be there. */
export function judgeTree(root: string, promised: number): void {
  const counter = Number(fs.readFileSync(join(root, 'counter'), 'utf8'))
  assert.ok(counter >= promised, `${root} stands at ${counter}, and ${promised} were promised`)
  const found = new Set(marks(root))
  const newest = Math.max(...found)
  for (let number = Math.max(1, newest - marksMax + spread); number <= promised; number++)
    assert.ok(found.has(number), `${root} lacks ${number} of ${newest}, and ${promised} were promised`)
}
