/** Changes what is done for those below, one change after another. */
import { Turns } from '../log/turns.ts'
import type { Upstream, UpstreamRole } from './upstream/upstream.ts'
import type { WholeChecks } from './whole-checks.ts'

export class RoleSwitch {
  readonly #upstream: Upstream
  readonly #checks: WholeChecks
  readonly #turns = new Turns()
  #role: UpstreamRole = { kind: 'resting' }

  constructor(upstream: Upstream, checks: WholeChecks) {
    this.#upstream = upstream
    this.#checks = checks
  }

  become(role: UpstreamRole): Promise<void> {
    return this.#turns.run(async () => {
      if (isSame(role, this.#role)) return
      this.#role = role
      // a store that changes hands is nobody's to read
      if (this.#checks.isRunning) await this.#checks.stop()
      await this.#upstream.become(role)
    })
  }
}

function isSame(a: UpstreamRole, b: UpstreamRole): boolean {
  if (a.kind === 'standby' && b.kind === 'standby') return a.downstream === b.downstream
  return a.kind === b.kind
}
