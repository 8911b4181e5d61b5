/** What the parts of a running server share. */
import type { Log } from '../log/log.ts'
import type { Downstream } from './downstream/downstream.ts'
import type { Links } from './links.ts'
import type { Level } from './messages.ts'
import type { ServerActs, ServerMachine, ServerSettings } from './server.ts'
import type { ServerStateFile } from './state.ts'
import type { Upstream, UpstreamRole } from './upstream/upstream.ts'
import type { WholeChecks } from './whole-checks.ts'

export interface ServerParts {
  readonly settings: ServerSettings
  readonly machine: ServerMachine
  readonly acts: ServerActs
  readonly state: ServerStateFile
  readonly log: Log
  readonly links: Links
  /** Its role is changed by `become` only. */
  readonly upstream: Omit<Upstream, 'become'>
  /** One after another; at once when it has that role already. */
  become(role: UpstreamRole): Promise<void>
  /** Of a primary. */
  readonly checks: WholeChecks
  /** Of a standby. */
  downstream: Downstream | undefined
  /** Ends with the server. */
  readonly signal: AbortSignal
  tell(level: Level, code: string, text: string): void
}
