/**
 * Keeps calling one peer, until stopped: a session at a time, and between two of them a delay that grows with each
 * failure. A refusal is no reason to give up, since the other side may be set right meanwhile; it is told each time.
 */
import type { Clock } from '../os/clock.ts'
import type { Random } from '../os/random.ts'
import type { Transport } from '../os/transport.ts'
import { callDelayMs } from './backoff.ts'
import { linkBroken, refusalOf } from './link-error.ts'
import { type LinkEvent, type LinkLife, newLink, stepLink } from './link-machine.ts'
import { openSession, type SessionOptions } from './open-session.ts'
import type { Hello, Session } from './session.ts'

/** What stays the same in all sessions of a caller or a listener; the hello is as it is at that moment. */
export type SessionTerms = Omit<SessionOptions, 'dialled' | 'expected' | 'signal' | 'clock' | 'random'>

export interface CallerOptions {
  readonly peer: string
  readonly address: string
  readonly transport: Transport
  readonly clock: Clock
  readonly random: Random
  terms(): SessionTerms
  /**
   * Has the session from now on. The peer is not called again before this resolves, and the session is over then: so
   * it may wait for another session with the same peer to end. `said` is what this side has said of itself.
   */
  onSession(session: Session, said: Hello): Promise<void>
  /** Where the link stands now; with what went wrong, if something did. Must not throw. */
  onLife(life: LinkLife, error: Error | undefined): void
}

/** From the call to the byte stream, TLS included. */
const connectMsMax = 10_000
/** A session that ends sooner counts as a failure, whatever was said in it: what ended it may do so again at once. */
const stoodMsMin = 1_000

export class Caller {
  readonly #options: CallerOptions
  readonly #stopped = new AbortController()
  readonly #running: Promise<void>
  #life: LinkLife = newLink(false)
  #hurry: AbortController = new AbortController()

  constructor(options: CallerOptions) {
    this.#options = options
    this.#running = this.#run()
  }

  get life(): LinkLife {
    return this.#life
  }

  /** Calls at once, if it waits for the next attempt. */
  poke(): void {
    this.#hurry.abort()
  }

  /** What happens in a session is told by whoever has it. */
  tell(event: Exclude<LinkEvent, 'call' | 'connected' | 'proved' | 'stood' | 'stop'>): void {
    this.#step(event)
  }

  async stop(): Promise<void> {
    this.#step('stop')
    this.#stopped.abort()
    this.#hurry.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      this.#hurry = new AbortController()
      this.#step('call')
      await this.#call(signal)
      if (signal.aborted) return
      const delayMs = callDelayMs(Math.max(1, this.#life.failures), this.#options.random)
      await this.#options.clock.sleep(delayMs, AbortSignal.any([signal, this.#hurry.signal]))
    }
  }

  /** One connection, from its beginning to its end. */
  async #call(signal: AbortSignal): Promise<void> {
    const { peer, clock, random } = this.#options
    try {
      const stream = await this.#connect(signal)
      this.#step('connected')
      const own = this.#options.terms()
      const session = await openSession(stream, {
        ...own,
        dialled: true,
        expected: peer,
        clock,
        random,
        signal,
      })
      this.#step('proved')
      const fromMs = clock.nowMs()
      await this.#options.onSession(session, own.hello)
      await session.close()
      const error = await session.over
      if (clock.nowMs() - fromMs >= stoodMsMin) this.#step('stood')
      this.#step('broken', error)
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown))
      this.#step(refusalOf(error) === undefined ? 'broken' : 'refused', error)
    }
  }

  async #connect(signal: AbortSignal) {
    const { transport, address, peer, clock } = this.#options
    const over = new AbortController()
    const both = AbortSignal.any([signal, over.signal])
    const connecting = transport.connect(address, both)
    try {
      const stream = await Promise.race([connecting, clock.sleep(connectMsMax, both)])
      if (stream !== undefined) return stream
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw linkBroken(`'${peer}' cannot be reached at ${address}: ${message}.`, error)
    } finally {
      over.abort()
    }
    connecting.then(
      stream => stream.close(),
      () => {},
    )
    throw linkBroken(`'${peer}' did not answer at ${address} in ${connectMsMax / 1000} s.`)
  }

  #step(event: LinkEvent, error?: Error): void {
    const before = this.#life
    this.#life = stepLink(before, event).life
    if (this.#life !== before || error !== undefined) this.#options.onLife(this.#life, error)
  }
}
