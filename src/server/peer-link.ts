/** The link to one peer: at most one session at a time, and what `status` says of it. */
import { Caller, type SessionTerms } from '../link/caller.ts'
import { type LinkEvent, type LinkLife, newLink, stepLink } from '../link/link-machine.ts'
import type { Hello, Session } from '../link/session.ts'
import { HotspareError } from '../os/errors.ts'
import { Control } from './control.ts'
import type { LinkStatus, PeerSettings, ServerMachine } from './server.ts'

/** A session that stands, and who has it. */
export interface Link {
  readonly peer: string
  readonly session: Session
  readonly control: Control
  /** Tells what happens in it, for the status. */
  tell(event: SessionEvent): void
}

type SessionEvent = Exclude<LinkEvent, 'call' | 'connected' | 'proved' | 'stood' | 'stop'>

export interface PeerLinkOptions {
  readonly self: string
  readonly peer: PeerSettings
  readonly machine: ServerMachine
  terms(): SessionTerms
  /** Has the link until its session is over, or it needs it no more; must not reject. */
  onLink(link: Link): Promise<void>
}

interface Current {
  readonly link: Link
  /** Whose call it was. */
  readonly by: string
  /** Whoever had it is done with it too. */
  readonly over: Promise<void>
  /** Nothing can be asked over it any more, though whoever has it may still be ending what it was used for. */
  isBroken: boolean
}

export class PeerLink {
  readonly #options: PeerLinkOptions
  readonly #caller: Caller | undefined
  /** Of a session that the peer called for. */
  #called: LinkLife = newLink(true)
  #current: Current | undefined
  #sinceMs: number
  #state: LinkLife['state']
  #lastError: LinkStatus['lastError']
  /** Of sessions that are over. */
  #sentBytes = 0
  #receivedBytes = 0
  readonly #waiting = new Set<(link: Link) => void>()
  #heardMs: number | undefined
  #closed = false

  constructor(options: PeerLinkOptions) {
    this.#options = options
    const { peer, machine, terms } = options
    const { transport, clock, random } = machine
    this.#sinceMs = clock.nowMs()
    this.#caller =
      peer.address === undefined
        ? undefined
        : new Caller({
            peer: peer.name,
            address: peer.address,
            transport,
            clock,
            random,
            terms,
            onSession: (session, said) => this.adopt(session, true, said),
            onLife: (_life, error) => {
              if (error !== undefined) this.failed(error)
              this.#look()
            },
          })
    this.#state = this.#life().state
  }

  get name(): string {
    return this.#options.peer.name
  }

  get current(): Link | undefined {
    return this.#current?.link
  }

  /**
   * Resolves when the session is over. Of two sessions the one stays that was called for by the server with the lesser
   * name, so that both sides keep the same; of two by the same caller the newer, whose caller holds the older for dead.
   */
  async adopt(session: Session, dialled: boolean, said: Hello): Promise<void> {
    if (this.#closed) return session.close('the server stops')
    // something has changed since the two shook hands
    if (!isSame(said, this.#options.terms().hello)) {
      await session.close('what was said is not true any more')
      this.poke()
      return
    }
    const { self } = this.#options
    const by = dialled ? self : this.name
    const before = this.#current
    if (before !== undefined) {
      const preferred = self < this.name ? self : this.name
      if (before.by !== by && before.by === preferred) {
        await session.close('another connection stays')
        await before.over
        return
      }
      await before.link.session.close('another connection takes its place')
      await before.over
      // meanwhile somebody may have come, or this server have become something else
      return this.adopt(session, dialled, said)
    }
    if (!dialled) this.#step('connected', 'proved')
    const control = new Control(session)
    const link: Link = { peer: this.name, session, control, tell: event => this.#tell(by, event) }
    const over = this.#have(link, by)
    const current = { link, by, over, isBroken: false }
    this.#current = current
    // before anybody else hears of it, who then wants the next one
    void session.over.then(() => {
      current.isBroken = true
    })
    this.#lastError = undefined
    this.#look()
    for (const resolve of this.#waiting) resolve(link)
    this.#waiting.clear()
    await over
  }

  async #have(link: Link, by: string): Promise<void> {
    const { session, control } = link
    // the one who has it begins when everything here is in place
    await Promise.resolve()
    void control.over.then(error => {
      if (error !== undefined) this.failed(error)
      return session.close()
    })
    await this.#options.onLink(link)
    await session.close()
    const error = await session.over
    const { sentBytes, receivedBytes, lastReceivedMs } = session.figures()
    this.#heardMs = lastReceivedMs
    this.#sentBytes += sentBytes
    this.#receivedBytes += receivedBytes
    if (this.#current?.link === link) this.#current = undefined
    if (error !== undefined) this.failed(error)
    if (by === this.name) this.#step('broken')
    this.#look()
  }

  /** What went wrong last, for the status. */
  failed(error: unknown): void {
    const code = error instanceof HotspareError ? error.code : 'link-broken'
    const message = error instanceof Error ? error.message : String(error)
    this.#lastError = { code, message, atMs: this.#options.machine.clock.nowMs() }
  }

  /** When the peer was last heard of, in this process. */
  get heardMs(): number | undefined {
    return this.#current?.link.session.figures().lastReceivedMs ?? this.#heardMs
  }

  /** Calls now rather than later. */
  poke(): void {
    this.#caller?.poke()
  }

  /** Ends the session, which is made anew with what this server then says of itself. */
  async renew(reason: string): Promise<void> {
    const current = this.#current
    if (current === undefined) return
    await current.link.session.close(reason)
    await current.over
    this.poke()
  }

  /** Resolves with the session that stands, or the next one; rejects when the signal aborts. */
  connected(signal: AbortSignal): Promise<Link> {
    if (this.#current?.isBroken === false) return Promise.resolve(this.#current.link)
    this.poke()
    return new Promise((resolve, reject) => {
      const aborted = () => {
        this.#waiting.delete(found)
        reject(signal.reason)
      }
      const found = (link: Link) => {
        signal.removeEventListener('abort', aborted)
        resolve(link)
      }
      if (signal.aborted) return reject(signal.reason)
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiting.add(found)
    })
  }

  status(): Omit<LinkStatus, 'direction'> {
    const session = this.#current?.link.session
    const figures = session?.figures()
    const address = session?.address ?? this.#options.peer.address
    const roundTripMs = figures?.roundTripMs
    return {
      peer: this.name,
      state: this.#state,
      sinceMs: this.#sinceMs,
      ...(address === undefined ? {} : { address }),
      ...(roundTripMs === undefined ? {} : { roundTripMs }),
      sentBytes: this.#sentBytes + (figures?.sentBytes ?? 0),
      receivedBytes: this.#receivedBytes + (figures?.receivedBytes ?? 0),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    // the caller waits for its session, which ends here
    const stopped = this.#caller?.stop()
    await this.#current?.link.session.close('the server stops')
    await this.#current?.over
    await stopped
    this.#step('stop')
  }

  #tell(by: string, event: SessionEvent): void {
    if (by === this.name) this.#step(event)
    else this.#caller?.tell(event)
  }

  #step(...events: LinkEvent[]): void {
    for (const event of events) this.#called = stepLink(this.#called, event).life
    this.#look()
  }

  #life(): LinkLife {
    if (this.#current?.by === this.name || this.#caller === undefined) return this.#called
    return this.#caller.life
  }

  #look(): void {
    const { state } = this.#life()
    if (state === this.#state) return
    this.#state = state
    this.#sinceMs = this.#options.machine.clock.nowMs()
  }
}

function isSame(a: Hello, b: Hello): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
