import { check } from '../../daemon/check.ts'
import { clone } from '../../daemon/clone.ts'
import { formatCount } from '../format.ts'
import { proveBank } from './bank.ts'
import type { FollowedStore } from './followed-store.ts'
import { provePackLog } from './pack-log.ts'

/** How far a copy is, having been proved whole up to there. */
export interface Proof {
  readonly last: number
  readonly what: string
}

export interface DemoStore {
  readonly store: FollowedStore
  /** Opens a clone with what the application would open it with. Throws with what is wrong. */
  prove(path: string): Promise<Proof>
}

export async function proofOfBank(path: string): Promise<Proof> {
  const { orders } = proveBank(path)
  const what = `SQLite opens it, integrity_check is ok, orders 1 to ${orders} are there without a gap, and the money sums to what it was`
  return { last: orders, what }
}

export async function proofOfLog(path: string): Promise<Proof> {
  const { first, last, packs } = await provePackLog(path)
  const what = `records ${first} to ${last} in ${formatCount(packs, 'pack')}, without a gap, each with its checksum`
  return { last, what }
}

/** Clones the copy as it is at this moment, proves the clone, and removes nothing. */
export async function proveClone(
  { store, prove }: DemoStore,
  destination: string,
  signal: AbortSignal,
): Promise<Proof> {
  await clone({ target: store.target, destination, signal })
  return prove(destination)
}

/** That the copy passes its driver's own check, and equals the live store. */
export async function proveEqual(store: FollowedStore, signal: AbortSignal): Promise<void> {
  const report = await check({ target: store.target, against: store.source, signal })
  if (report.valid) return
  const wrong = report.findings.filter(finding => !finding.ok).map(finding => finding.what)
  throw new Error(`the check found: ${wrong.join('; ')}`)
}
