import type { StoreName } from '../../stream/entry.ts'
import type { StoreStatus } from '../server.ts'
import type { DownstreamLink } from './downstream-link.ts'
import type { Mark } from './shipping.ts'

/** What differs between a primary and a standby towards those below. */
export interface Role {
  /** The store goes on with the log, for whoever owes no comparison. */
  goesOn(store: StoreName): boolean
  /** Where the log of a downstream begins that has none. */
  restartAt(): number
  mark(): Mark | undefined
  onMark(listener: () => void): () => void
  /** `sync` has to be brought to it. Synchronous. */
  joined(link: DownstreamLink, sync: readonly StoreName[]): void
  left(link: DownstreamLink): void
  /** Somebody has come, gone, or come further. */
  moved(): void
  /** See `Upstream.invalidate`; what is durable has been done. */
  invalidate(stores: readonly StoreName[]): Promise<void>
  stores(): readonly StoreStatus[]
  stop(): Promise<void>
  close(): Promise<void>
}
