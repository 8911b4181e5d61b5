/** What a pass reads through the scanning threads, in units of about as much work each. */
import type { Arena, ArenaPool } from './arena-pool.ts'
import { type DirectoryPlan, deed } from './pass-plan.ts'
import type { ScanPool } from './scan-pool.ts'
import type { ReadAnswer, ReadItem } from './scan-protocol.ts'

/** What one request reads at most, by the sizes that were seen. */
const unitBytesMax = 1024 * 1024
const unitEntriesMax = 400

export interface Unit {
  readonly parts: { readonly plan: DirectoryPlan; readonly from: number; readonly to: number }[]
}

export interface Reading {
  readonly unit: Unit
  readonly arena: Arena
  readonly answer: Promise<ReadAnswer>
}

/** In the order of the plan. */
export function* unitsOf(directories: readonly DirectoryPlan[]): Generator<Unit> {
  let unit: Unit = { parts: [] }
  let bytes = 0
  let entries = 0
  for (const plan of directories) {
    let from = 0
    for (let n = 0; n < plan.entries.length; n++) {
      entries++
      if (plan.deeds[n] === deed.read) bytes += plan.block.signature(plan.entries[n] as number).size + 512
      if (bytes < unitBytesMax && entries < unitEntriesMax) continue
      unit.parts.push({ plan, from, to: n + 1 })
      yield unit
      unit = { parts: [] }
      bytes = 0
      entries = 0
      from = n + 1
    }
    if (from < plan.entries.length) unit.parts.push({ plan, from, to: plan.entries.length })
  }
  if (unit.parts.length > 0) yield unit
}

export interface ReadUnitOptions {
  readonly pool: ScanPool
  readonly root: number
  readonly racyMs: number
  readonly arenas: ArenaPool
}

/** Asks for it; the answer is awaited in its turn. */
export function readUnit(unit: Unit, { pool, root, racyMs, arenas }: ReadUnitOptions): Reading {
  const arena = arenas.take()
  const items: ReadItem[] = []
  for (const { plan, from, to } of unit.parts) {
    const entries: number[] = []
    const oldEntries: number[] = []
    for (let n = from; n < to; n++) {
      if (plan.deeds[n] !== deed.read) continue
      entries.push(plan.entries[n] as number)
      oldEntries.push(plan.oldEntries[n] as number)
    }
    items.push({
      path: plan.path,
      block: plan.block.bytes,
      old: plan.old?.bytes,
      entries: Int32Array.from(entries),
      oldEntries: Int32Array.from(oldEntries),
    })
  }
  const answer = pool.read({ kind: 'read', root, racyMs, items, arena: arena.memory })
  answer.catch(() => undefined)
  return { unit, arena, answer }
}
