/**
 * One channel of a session: messages in order, each way, within a window. What was sent and not yet taken by the other
 * side's reader is at most the window (and one message that goes in parts), so a channel that is not read costs that
 * much memory, and holds up no other.
 */
import { assert, HotspareError } from '../os/errors.ts'
import { decodeMessage, messageBytesMax } from './message-codec.ts'
import type { LinkMessage } from './messages.ts'
import type { Channel } from './session.ts'
import { dataBytes, encodeData } from './wire.ts'

export interface ChannelSession {
  /** Resolves when the frame is among those to be written and there is room for more; rejects when the session is over. */
  write(frame: Buffer): Promise<void>
  /** Without waiting: what is small and bounded. */
  post(kind: 'credit' | 'close', channel: SessionChannel, bytes: number): void
  /** Gives the channel its number, and tells the other side, before its first frame. */
  number(channel: SessionChannel): number
  /** Both directions are closed. */
  done(channel: SessionChannel): void
}

interface Waiting {
  readonly message: LinkMessage
  readonly bytes: number
}

export class SessionChannel implements Channel {
  readonly name: string
  readonly #session: ChannelSession
  readonly #windowBytes: number
  /** May be sent before the other side takes more. */
  #credit: number
  #sending: Promise<void> = Promise.resolve()
  #creditCame: (() => void) | undefined

  readonly #arrived: Waiting[] = []
  /** Arrived, and not granted again. */
  #heldBytes = 0
  /** Taken by the reader, and not told to the other side yet. */
  #freedBytes = 0
  #parts: Buffer[] = []
  #partsBytes = 0
  #messageCame: (() => void) | undefined
  #reading: 'not yet' | 'now' | 'no more' = 'not yet'

  #closedHere = false
  #closedThere = false
  #over: Error | undefined

  constructor(name: string, windowBytes: number, session: ChannelSession) {
    this.name = name
    this.#windowBytes = windowBytes
    this.#credit = windowBytes
    this.#session = session
  }

  get closedHere(): boolean {
    return this.#closedHere
  }

  send(message: LinkMessage): Promise<void> {
    if (this.#over !== undefined) return Promise.reject(this.#over)
    if (this.#closedHere) return Promise.reject(new Error(`the channel '${this.name}' is closed`))
    const sent = this.#sending.then(() => this.#send(message))
    this.#sending = sent.catch(() => {
      // whoever sent that one knows; the next one finds out by itself
    })
    return sent
  }

  async #send(message: LinkMessage): Promise<void> {
    if (this.#over !== undefined) throw this.#over
    if (this.#closedHere) throw new Error(`the channel '${this.name}' is closed`)
    const number = this.#session.number(this)
    for (const frame of encodeData(number, message)) {
      const bytes = dataBytes(frame)
      while (this.#credit < bytes) {
        await new Promise<void>(resolve => {
          this.#creditCame = resolve
        })
        if (this.#over !== undefined) throw this.#over
      }
      this.#credit -= bytes
      await this.#session.write(frame)
    }
  }

  async *messages(): AsyncIterable<LinkMessage> {
    assert(this.#reading === 'not yet', `the channel '${this.name}' is read once`)
    this.#reading = 'now'
    try {
      for (;;) {
        const next = this.#arrived.shift()
        if (next !== undefined) {
          this.#free(next.bytes)
          yield next.message
        } else if (this.#over !== undefined) throw this.#over
        else if (this.#closedThere) return
        else
          await new Promise<void>(resolve => {
            this.#messageCame = resolve
          })
      }
    } finally {
      this.#reading = 'no more'
      this.#discard()
    }
  }

  close(): void {
    if (this.#closedHere) return
    this.#closedHere = true
    // what was sent before goes first
    this.#sending = this.#sending
      .then(() => {
        if (this.#over !== undefined) return
        this.#session.number(this)
        this.#session.post('close', this, 0)
        if (this.#unread) this.#discard()
        if (this.#closedThere) this.#session.done(this)
      })
      .catch(() => {
        // it never had a number, so the other side knows of nothing that could end
      })
  }

  /** Throws `entry-invalid` when it is no message, or more than was allowed. */
  received(bytes: Buffer, last: boolean): void {
    if (this.#closedThere) throw invalid(`a message came on the channel '${this.name}' after its end`)
    this.#heldBytes += bytes.length
    if (this.#heldBytes > this.#windowBytes)
      throw invalid(`more came on the channel '${this.name}' than was allowed`)
    if (last && this.#parts.length === 0) {
      this.#take(decodeMessage(bytes), bytes.length)
      return
    }
    this.#partsBytes += bytes.length
    if (this.#partsBytes > messageBytesMax)
      throw invalid(`a message on the channel '${this.name}' has no end`)
    this.#parts.push(bytes)
    this.#free(last ? 0 : bytes.length)
    if (!last) return
    const message = decodeMessage(Buffer.concat(this.#parts))
    this.#parts = []
    this.#partsBytes = 0
    this.#take(message, bytes.length)
  }

  granted(bytes: number): void {
    this.#credit += bytes
    if (this.#credit > this.#windowBytes)
      throw invalid(`more was granted on the channel '${this.name}' than was sent`)
    this.#creditCame?.()
    this.#creditCame = undefined
  }

  closedByPeer(): void {
    if (this.#closedThere || this.#parts.length > 0)
      throw invalid(`the channel '${this.name}' ended within a message`)
    this.#closedThere = true
    this.#wakeReader()
    if (this.#closedHere) {
      this.#sending = this.#sending.then(() => this.#session.done(this))
    }
  }

  sessionOver(error: Error): void {
    this.#over ??= error
    this.#creditCame?.()
    this.#creditCame = undefined
    this.#wakeReader()
  }

  #take(message: LinkMessage, bytes: number): void {
    if (this.#unread) {
      this.#free(bytes)
      return
    }
    this.#arrived.push({ message, bytes })
    this.#wakeReader()
  }

  /** Nobody here wants what still comes, and the other side should not wait for room. */
  get #unread(): boolean {
    return this.#reading === 'no more' || (this.#closedHere && this.#reading === 'not yet')
  }

  #discard(): void {
    for (const { bytes } of this.#arrived) this.#free(bytes)
    this.#arrived.length = 0
  }

  /** Granted again in larger steps than single messages. */
  #free(bytes: number): void {
    this.#freedBytes += bytes
    if (this.#freedBytes < this.#windowBytes / 4 || this.#over !== undefined) return
    this.#heldBytes -= this.#freedBytes
    this.#session.post('credit', this, this.#freedBytes)
    this.#freedBytes = 0
  }

  #wakeReader(): void {
    this.#messageCame?.()
    this.#messageCame = undefined
  }
}

function invalid(what: string): HotspareError {
  return new HotspareError('entry-invalid', `Malformed session: ${what}.`)
}
