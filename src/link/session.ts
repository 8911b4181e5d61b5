/**
 * The contract of a link's session: two servers of one set that have proved to each other who they are, and exchange
 * messages over channels until the connection breaks.
 *
 * Nothing that a session carries is durable: after a break both sides say anew where they stand.
 */
import type { Epoch } from '../stream/epoch.ts'
import type { LinkMessage } from './messages.ts'

/** What a server says of itself when a session begins. */
export interface Hello {
  /** Of the link's protocol. */
  readonly version: number
  /** The set's name. */
  readonly set: string
  /** The server's name within the set. */
  readonly server: string
  /** The log's stream; empty when there is none yet. */
  readonly stream: string
  readonly epoch: Epoch
  readonly role: 'primary' | 'standby'
  /** Whom it takes its log from, if anybody. */
  readonly upstream?: string
  /** The servers from the primary down to this one, itself last: so that a loop is seen. */
  readonly path: readonly string[]
}

/**
 * Messages in order, with backpressure of their own: a channel that is not read holds up no other. At most
 * `channelWindowBytes` are under way.
 */
export interface Channel {
  /**
   * Resolves when it was taken over, not delivered: the sender may forget it, and use its memory again. Rejects when the
   * session is over.
   */
  send(message: LinkMessage): Promise<void>
  /** Ends when the other side closes the channel; rejects when the session is over. Once. */
  messages(): AsyncIterable<LinkMessage>
  close(): void
}

export interface SessionFigures {
  readonly sentBytes: number
  readonly receivedBytes: number
  /** Of the last heartbeat that was answered. */
  readonly roundTripMs: number | undefined
  readonly lastReceivedMs: number
}

export interface Session {
  readonly peer: Hello
  readonly address: string
  /** Both sides name a channel to have it: at most 64 characters, at most 128 channels. */
  channel(name: string): Channel
  figures(): SessionFigures
  /** Resolves with why it is over: undefined when this side closed it. */
  readonly over: Promise<Error | undefined>
  close(reason?: string): Promise<void>
}
