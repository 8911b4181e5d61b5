/**
 * Lets in whoever calls and proves to be a paired peer. Those who have not proved it yet are few: one more than
 * `handshakesMax` is told that it is too much at once, and costs no more than that, unless others of one network hold
 * more of the places than it.
 */
import { CallerPlaces } from '../os/caller-places.ts'
import type { Clock } from '../os/clock.ts'
import type { Random } from '../os/random.ts'
import type { ByteStream, Listener, Transport } from '../os/transport.ts'
import { encodeFrame } from '../stream/frame.ts'
import type { SessionTerms } from './caller.ts'
import { encodeRefusal } from './handshake.ts'
import { linkRefused } from './link-error.ts'
import { openSession } from './open-session.ts'
import type { Hello, Session } from './session.ts'

export const handshakesMax = 32

export interface AnswererOptions {
  readonly address: string
  readonly transport: Transport
  readonly clock: Clock
  readonly random: Random
  terms(): SessionTerms
  /** Has the session from now on; `said` is what this side has said of itself. */
  onSession(session: Session, said: Hello): void
  /** Somebody called and was not let in, or gave up. For messages; strangers may cause many. Must not throw. */
  onRefused(error: Error, from: string): void
}

export class Answerer {
  readonly #options: AnswererOptions
  readonly #stopped = new AbortController()
  readonly #handshakes = new Set<Promise<void>>()
  readonly #places = new CallerPlaces(handshakesMax)
  #listener: Listener | undefined

  private constructor(options: AnswererOptions) {
    this.#options = options
  }

  /** Rejects when the address cannot be listened at. */
  static async open(options: AnswererOptions): Promise<Answerer> {
    const answerer = new Answerer(options)
    answerer.#listener = await options.transport.listen(options.address, stream => answerer.accept(stream))
    return answerer
  }

  /** Where it really listens. */
  get address(): string {
    return this.#listener?.address ?? this.#options.address
  }

  /** Also for streams that come another way (a local socket, of a caller by ssh). */
  accept(stream: ByteStream): void {
    if (this.#stopped.signal.aborted) {
      stream.close()
      return
    }
    const leave = this.#places.take(stream.peer, () => this.#turnAway(stream))
    if (leave === undefined) {
      this.#options.onRefused(this.#turnAway(stream), stream.peer)
      return
    }
    const handshake = this.#shake(stream).finally(() => {
      leave()
      this.#handshakes.delete(handshake)
    })
    this.#handshakes.add(handshake)
  }

  #turnAway(stream: ByteStream): Error {
    const error = linkRefused('busy', 'Too many callers have not said yet who they are. Try again later.')
    stream
      .write(encodeFrame(encodeRefusal('busy', error.message)))
      .catch(() => {})
      .finally(() => stream.close())
    return error
  }

  async #shake(stream: ByteStream): Promise<void> {
    const { clock, random } = this.#options
    const { signal } = this.#stopped
    try {
      const terms = this.#options.terms()
      const session = await openSession(stream, { ...terms, dialled: false, clock, random, signal })
      this.#options.onSession(session, terms.hello)
    } catch (error) {
      if (signal.aborted) return
      this.#options.onRefused(error instanceof Error ? error : new Error(String(error)), stream.peer)
    }
  }

  /** No more are let in, and the sessions that were are closed. */
  async close(): Promise<void> {
    this.#stopped.abort()
    await this.#listener?.close()
    await Promise.all(this.#handshakes)
  }
}

/** A listener that only takes streams that are handed to it. */
export const nowhere: Transport = {
  connect: address => Promise.reject(new Error(`nobody can be called at ${address}`)),
  listen: async address => ({ address, close: async () => {} }),
}
