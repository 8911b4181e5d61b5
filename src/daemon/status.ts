import type { ConsistentCommit, Machine } from '../drivers/driver.ts'
import { describeSystemError } from '../os/errors.ts'
import { isFollowed } from '../replica/sidecar.ts'
import { type FollowerStatus, readStatusFile } from '../replica/status-file.ts'
import { type Position, position as toPosition } from '../stream/entry.ts'
import { type CopyPlace, locateCopy } from './locate.ts'
import { localMachine } from './machine.ts'
import { absolutePath } from './paths.ts'

export interface StatusRequest {
  readonly target: string
  readonly machine?: Machine
}

export interface StatusReport {
  readonly target: string
  readonly source: string
  readonly driver: string
  readonly profile?: string
  /** A follower keeps it up to date now. */
  readonly running: boolean
  readonly state: FollowerStatus['state'] | 'killed' | 'unknown'
  /** Of the follower that runs. */
  readonly pid?: number
  readonly position?: Position
  /** What the copy opens as; absent: it is not complete yet. */
  readonly consistent?: Omit<ConsistentCommit, 'state'> & { readonly state?: string }
  /** Of a store that is consistent only inside maintenance windows: the copy is complete, if not consistent yet. */
  readonly complete?: boolean
  /** At most so far behind the source; absent when it can't be told. */
  readonly lagMs?: number
  readonly lagBytes?: number
  /** Since the last follower started. */
  readonly bytes?: number
  readonly transactions?: number
  /** When the follower last wrote these figures; it does so within a second of a change. */
  readonly updatedMs?: number
  readonly lastError?: FollowerStatus['lastError']
}

/** What is known of a copy, with its follower running or not; touches neither. Rejects with `target-missing`. */
export async function status(request: StatusRequest): Promise<StatusReport> {
  const { storage, clock } = request.machine ?? localMachine
  try {
    const place = await locateCopy(storage, absolutePath(request.target))
    const running = await isFollowed(storage, place.target)
    const said = await readStatusFile(storage, place.sidecar)
    const { source, driver, profile } = place.meta
    return {
      target: place.target,
      source,
      driver,
      ...(profile === undefined ? {} : { profile }),
      running,
      state: stateOf(running, said),
      ...(said === undefined ? {} : await figures(place, running, said, clock.nowMs())),
    }
  } catch (error) {
    throw describeSystemError(error, `Looking at the copy ${request.target}`)
  }
}

function stateOf(running: boolean, said: FollowerStatus | undefined): StatusReport['state'] {
  if (said === undefined) return running ? 'starting' : 'unknown'
  return running || said.state === 'stopped' ? said.state : 'killed'
}

async function figures(
  place: CopyPlace,
  running: boolean,
  said: FollowerStatus,
  nowMs: number,
): Promise<Partial<StatusReport>> {
  const lagBytes = await backlogBytes(place, said)
  const lagMs = lagOf(running, said, lagBytes, nowMs)
  return {
    ...(running ? { pid: said.pid } : {}),
    ...(said.position === undefined ? {} : { position: toPosition(said.position) }),
    ...(said.consistent === undefined ? {} : { consistent: consistentOf(said.consistent) }),
    ...(said.complete === undefined ? {} : { complete: said.complete }),
    ...(lagMs === undefined ? {} : { lagMs }),
    ...(lagBytes === undefined ? {} : { lagBytes }),
    bytes: said.bytes,
    transactions: said.transactions,
    updatedMs: said.updatedMs,
    ...(said.lastError === undefined ? {} : { lastError: said.lastError }),
  }
}

function consistentOf(
  said: NonNullable<FollowerStatus['consistent']>,
): NonNullable<StatusReport['consistent']> {
  const { position, timeMs, state } = said
  return { position: toPosition(position), timeMs, ...(state === undefined ? {} : { state }) }
}

/** Undefined also when the source is away: then nothing can be said of how far it is ahead. */
async function backlogBytes(place: CopyPlace, said: FollowerStatus): Promise<number | undefined> {
  if (said.position === undefined) return undefined
  const { sourceReal, profile } = place.meta
  try {
    return (await place.driver.backlog(sourceReal, toPosition(said.position), profile))?.bytes
  } catch {
    return undefined
  }
}

/**
 * From above: the copy has all that was committed before `knownMs`. A follower that runs
 * and has said that it is caught up would have said otherwise since: it writes within a second of a change.
 */
function lagOf(
  running: boolean,
  said: FollowerStatus,
  lagBytes: number | undefined,
  nowMs: number,
): number | undefined {
  if (lagBytes === 0 || (running && lagBytes === undefined && said.lagMs === 0)) return 0
  return said.knownMs === undefined ? undefined : Math.max(0, nowMs - said.knownMs)
}
