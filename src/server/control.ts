/**
 * The 'control' channel of a session has one reader; whoever waits for a kind of message takes it from here.
 *
 * Messages are handled one after another, in the order in which they came. What comes before anybody has asked for its
 * kind is kept, in bounds; a session whose peer sends more than that is closed.
 */

import type { LinkMessage } from '../link/messages.ts'
import type { Channel, Session } from '../link/session.ts'
import { HotspareError } from '../os/errors.ts'

type Type = LinkMessage['type']
type Of<T extends Type> = Extract<LinkMessage, { readonly type: T }>

const earlyMax = 64

export class Control {
  readonly session: Session
  readonly #channel: Channel
  readonly #handlers = new Map<Type, (message: LinkMessage) => void | Promise<void>>()
  readonly #early: LinkMessage[] = []
  #watcher: ((type: Type) => void) | undefined
  /** Resolves when the channel is over: undefined when it ended, else the fault of the session or of a handler. */
  readonly over: Promise<unknown>

  constructor(session: Session) {
    this.session = session
    this.#channel = session.channel('control')
    this.over = this.#run().then(
      () => undefined,
      (error: unknown) => error,
    )
  }

  /** From now on messages of this kind go to the handler; a handler that throws ends the session. */
  on<T extends Type>(type: T, handler: (message: Of<T>) => void | Promise<void>): void {
    this.#handlers.set(type, handler as (message: LinkMessage) => void | Promise<void>)
    const waiting = this.#early.filter(message => message.type === type)
    for (const message of waiting) {
      this.#early.splice(this.#early.indexOf(message), 1)
      void this.#handle(message).catch(() => this.session.close(`'${type}' could not be handled`))
    }
  }

  /** Is told of each message that comes, before it is handled. One at a time. */
  watch(watcher: (type: Type) => void): void {
    this.#watcher = watcher
  }

  off(type: Type): void {
    this.#handlers.delete(type)
  }

  send(message: LinkMessage): Promise<void> {
    return this.#channel.send(message)
  }

  /** Sends, and resolves with the first message of these kinds. One question of a kind at a time. */
  async ask<T extends Type>(
    message: LinkMessage,
    answers: readonly T[],
    signal: AbortSignal,
  ): Promise<Of<T>> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<Of<T>>()
    // rejected before anybody waits for it, when sending fails as well
    promise.catch(() => undefined)
    const aborted = () => reject(signal.reason)
    signal.addEventListener('abort', aborted, { once: true })
    const broken = () =>
      reject(new HotspareError('peer-away', `The link to ${this.session.peer.server} broke.`))
    void this.session.over.then(broken, broken)
    for (const type of answers) this.on(type, resolve)
    try {
      await this.send(message)
      return await promise
    } finally {
      signal.removeEventListener('abort', aborted)
      for (const type of answers) this.off(type)
    }
  }

  async #run(): Promise<void> {
    for await (const message of this.#channel.messages()) {
      this.#watcher?.(message.type)
      if (this.#handlers.has(message.type)) await this.#handle(message)
      else if (this.#early.push(message) > earlyMax)
        throw new HotspareError(
          'entry-invalid',
          `Nobody waits for '${message.type}', of which too many came.`,
        )
    }
  }

  async #handle(message: LinkMessage): Promise<void> {
    await this.#handlers.get(message.type)?.(message)
  }
}
