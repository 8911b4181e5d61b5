/** Takes the upstream's log over whatever link there is to it, until told to rest. */
import { HotspareError } from '../os/errors.ts'
import type { Taking } from './downstream/downstream.ts'
import type { ServerParts } from './parts.ts'
import type { Link } from './peer-link.ts'
import type { ToldOnce } from './told-once.ts'

export class UpstreamTaking {
  readonly #parts: ServerParts
  readonly #once: ToldOnce
  #resting = false
  #taking: Taking | undefined
  /** How far the log was when it was last said that it cannot be taken. */
  #faultAt: { readonly code: string; readonly durable: number } | undefined

  constructor(parts: ServerParts, told: ToldOnce) {
    this.#parts = parts
    this.#once = told
  }

  /** Undefined: nothing is taken now. */
  get state(): Taking['state'] | undefined {
    return this.#taking?.state
  }

  /** Resolves when the session gives nothing more. At once when nothing is to be taken. */
  async take(link: Link): Promise<void> {
    const { downstream, links } = this.#parts
    if (this.#resting || downstream === undefined) return
    link.control.watch(type => {
      if (type !== 'subscribed') return
      link.tell('subscribed')
      this.#once.passed(link.peer)
    })
    const taking = downstream.take(link.control)
    this.#taking = taking
    const { error, refused } = await taking.over
    this.#taking = undefined
    if (error === undefined) return
    links.peer(link.peer).failed(error)
    if (refused) {
      link.tell('refused')
      const message = error instanceof Error ? error.message : String(error)
      const code = error instanceof HotspareError ? error.code : 'link-refused'
      this.#once.tell(link.peer, 'error', { code, message })
    } else this.#onFault(link.peer, error)
  }

  /** What is no fault of the connection does not pass with the next one, and the next session's end hides it. */
  #onFault(peer: string, error: unknown): void {
    if (!(error instanceof HotspareError) || error.code === 'link-broken' || error.code === 'server-stopped')
      return
    const { tell, log } = this.#parts
    const { code, message } = error
    const { durable } = log
    if (this.#faultAt?.code === code && this.#faultAt.durable === durable) return
    this.#faultAt = { code, durable }
    tell('error', code, `The log of '${peer}' cannot be taken further: ${message} It is tried again.`)
  }

  /** Nothing more is taken until `go`; what came whole is durable when it resolves. */
  async rest(): Promise<void> {
    this.#resting = true
    await this.#taking?.stop()
  }

  /** A session that came meanwhile takes nothing: it is made anew. */
  go(): void {
    this.#resting = false
    const { upstream } = this.#parts.state.value
    if (upstream === undefined || !this.#parts.links.has(upstream)) return
    const peer = this.#parts.links.peer(upstream)
    if (peer.current === undefined) peer.poke()
    else if (this.#taking === undefined) void peer.renew('the log is taken again')
  }
}
