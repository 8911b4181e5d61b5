/** Changes what is done for those below, one change after another. */
import { Turns } from '../log/turns.ts'
import type { Upstream, UpstreamRole } from './upstream/upstream.ts'

export class RoleSwitch {
  readonly #upstream: Upstream
  readonly #turns = new Turns()
  #role: UpstreamRole = { kind: 'resting' }

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  become(role: UpstreamRole): Promise<void> {
    return this.#turns.run(async () => {
      if (isSame(role, this.#role)) return
      this.#role = role
      await this.#upstream.become(role)
    })
  }
}

function isSame(a: UpstreamRole, b: UpstreamRole): boolean {
  if (a.kind === 'standby' && b.kind === 'standby') return a.downstream === b.downstream
  return a.kind === b.kind
}
