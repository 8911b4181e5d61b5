/** Two ends of a session without a connection: for tests of what speaks over one. Deterministic. */
import { decodeMessage, encodeMessage } from '../../link/message-codec.ts'
import type { LinkMessage } from '../../link/messages.ts'
import type { Channel, Hello, Session, SessionFigures } from '../../link/session.ts'
import { MemoryQueue } from '../../os/testing/memory-queue.ts'

const underWayMax = 16

type Queue = MemoryQueue<LinkMessage>

class Pipe {
  readonly queues = new Map<string, Queue>()
  #broken: Error | undefined

  queue(name: string): Queue {
    const known = this.queues.get(name) ?? new MemoryQueue({ underWayMax, sizeOf: () => 1, what: 'channel' })
    if (this.#broken !== undefined) known.break(this.#broken)
    this.queues.set(name, known)
    return known
  }

  break(error: Error): void {
    this.#broken ??= error
    for (const queue of this.queues.values()) queue.break(error)
  }
}

class EndOfPair implements Session {
  readonly peer: Hello
  readonly address = 'memory'
  readonly over: Promise<Error | undefined>
  readonly #input: Pipe
  readonly #output: Pipe
  readonly #break: (error: Error, by: EndOfPair | undefined) => void
  #resolve: (error: Error | undefined) => void = () => {}

  constructor(
    peer: Hello,
    input: Pipe,
    output: Pipe,
    breaks: (error: Error, by: EndOfPair | undefined) => void,
  ) {
    this.peer = peer
    this.#input = input
    this.#output = output
    this.#break = breaks
    this.over = new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  channel(name: string): Channel {
    const input = this.#input.queue(name)
    const output = this.#output.queue(name)
    return {
      // as over a link, nothing of the sender's is the receiver's
      send: message => output.write(decodeMessage(encodeMessage(message))),
      messages: () => input.read(),
      close: () => output.end(),
    }
  }

  figures(): SessionFigures {
    return { sentBytes: 0, receivedBytes: 0, roundTripMs: undefined, lastReceivedMs: 0 }
  }

  async close(reason?: string): Promise<void> {
    this.#break(new Error(reason ?? 'the session was closed'), this)
  }

  ended(error: Error | undefined): void {
    this.#resolve(error)
  }
}

export interface SessionPair {
  /** The session as the server of the first hello has it. */
  readonly first: Session
  readonly second: Session
  /** What is under way is lost. */
  break(error?: Error): void
}

export function sessionPair(first: Hello, second: Hello): SessionPair {
  const up = new Pipe()
  const down = new Pipe()
  const ends: EndOfPair[] = []
  const breaks = (error: Error, by: EndOfPair | undefined) => {
    up.break(error)
    down.break(error)
    for (const end of ends) end.ended(end === by ? undefined : error)
  }
  ends.push(new EndOfPair(second, up, down, breaks), new EndOfPair(first, down, up, breaks))
  return {
    first: ends[0] as Session,
    second: ends[1] as Session,
    break: (error = new Error('the connection broke')) => breaks(error, undefined),
  }
}
