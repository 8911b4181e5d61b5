import type { Reign } from '../failover/fencing.ts'
import type { ServerState } from './state.ts'

/** Under which epoch the server stands, as it is durable. */
export function reignOf({ role, epoch, fencedBy }: ServerState): Reign {
  if (role === 'standby') return { role, epoch }
  return { role, epoch, ...(fencedBy === undefined ? {} : { fencedBy }) }
}
