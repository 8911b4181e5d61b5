/**
 * A session: channels over one byte stream between two servers that have proved who they are (handshake.ts).
 *
 * Both sides say something every `heartbeatMs`; whoever hears nothing for `silenceMs`, or cannot get rid of a write for
 * `writeMs`, ends the session. What comes is checked before it is believed; the first frame that is wrong ends it too.
 * A session keeps nothing: whatever was under way when it ends may have arrived or not, and is asked for anew.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { ByteStream } from '../os/transport.ts'
import { readFrame } from '../stream/frame.ts'
import type { Compressor } from './compression.ts'
import type { FrameInput } from './frame-input.ts'
import { linkBroken } from './link-error.ts'
import { Outbox } from './outbox.ts'
import type { Channel, Hello, Session, SessionFigures } from './session.ts'
import { type ChannelSession, SessionChannel } from './session-channel.ts'
import {
  channelNameMax,
  channelNumberMax,
  channelsMax,
  decodeWire,
  encodeWire,
  partBytesMax,
  type WireFrame,
} from './wire.ts'

export interface SessionLimits {
  /** From the connection to the proof. */
  readonly handshakeMs: number
  readonly heartbeatMs: number
  readonly silenceMs: number
  readonly writeMs: number
  /** For what was sent before `close`, and for the other side to close too. */
  readonly closeMs: number
  /** Under way on one channel. */
  readonly channelWindowBytes: number
  /** What this side sends; 0: no bound. */
  readonly bandwidthBytesPerSecond: number
}

export const sessionLimitsDefault: SessionLimits = {
  handshakeMs: 10_000,
  heartbeatMs: 10_000,
  silenceMs: 30_000,
  writeMs: 30_000,
  closeMs: 2_000,
  channelWindowBytes: 4 * 1024 * 1024,
  bandwidthBytesPerSecond: 0,
}

export interface LinkSessionOptions {
  readonly peer: Hello
  readonly clock: Clock
  readonly limits: SessionLimits
  readonly compressor: Compressor | undefined
  receivedBytes(): number
}

export class LinkSession implements Session, ChannelSession {
  readonly peer: Hello
  readonly address: string
  readonly over: Promise<Error | undefined>
  readonly #stream: ByteStream
  readonly #input: FrameInput
  readonly #clock: Clock
  readonly #limits: SessionLimits
  readonly #compressor: Compressor | undefined
  readonly #receivedBytes: () => number
  readonly #outbox: Outbox
  readonly #ended = new AbortController()
  #resolveOver: (error: Error | undefined) => void = () => {}
  #closing: Promise<void> | undefined
  #lastReceivedMs: number
  #roundTripMs: number | undefined
  #pings = new Map<number, number>()
  #pingId = 0

  /** Those of a name, the oldest first: each side's first opening of a name is the other's first, and so on. */
  readonly #channels = new Map<string, SessionChannel[]>()
  /** Numbers that this side gave, and those of the other side. */
  readonly #numbers = new Map<SessionChannel, number>()
  readonly #byNumber = new Map<number, SessionChannel>()
  #nextNumber = 0
  readonly #theirs = new Map<number, SessionChannel>()
  readonly #theirNumbers = new Map<SessionChannel, number>()

  constructor(stream: ByteStream, input: FrameInput, options: LinkSessionOptions) {
    this.peer = options.peer
    this.address = stream.peer
    this.#stream = stream
    this.#input = input
    this.#clock = options.clock
    this.#limits = options.limits
    this.#compressor = options.compressor
    this.#receivedBytes = options.receivedBytes
    this.#lastReceivedMs = options.clock.nowMs()
    this.#outbox = new Outbox(stream, {
      clock: options.clock,
      signal: this.#ended.signal,
      bandwidthBytesPerSecond: options.limits.bandwidthBytesPerSecond,
      compressor: options.compressor,
    })
    this.over = new Promise(resolve => {
      this.#resolveOver = resolve
    })
  }

  /** Begins to read, write and watch. */
  start(): this {
    for (const loop of [this.#read(), this.#outbox.run(), this.#watch()])
      loop.catch(error => this.#end(this.#named(error)))
    return this
  }

  channel(name: string): Channel {
    const open = (this.#channels.get(name) ?? []).find(channel => !channel.closedHere)
    return open ?? this.#addChannel(name)
  }

  figures(): SessionFigures {
    return {
      sentBytes: this.#outbox.sentBytes,
      receivedBytes: this.#receivedBytes(),
      roundTripMs: this.#roundTripMs,
      lastReceivedMs: this.#lastReceivedMs,
    }
  }

  close(reason = ''): Promise<void> {
    this.#closing ??= this.#close(reason)
    return this.#closing
  }

  async #close(reason: string): Promise<void> {
    if (this.#ended.signal.aborted) return
    const inTime = new AbortController()
    const farewell = (async () => {
      await this.#outbox.drain()
      await this.#outbox.write(encodeWire({ kind: 'bye', reason }))
      await this.#outbox.drain()
      // the other side closes when it has read that; closing before could take it back
      await this.over
    })().catch(() => {
      // the connection broke before: what was to be said no longer matters
    })
    await Promise.race([
      farewell.finally(() => inTime.abort()),
      this.#clock.sleep(this.#limits.closeMs, inTime.signal),
    ])
    this.#end(undefined)
  }

  // what channels need

  write(frame: Buffer): Promise<void> {
    return this.#outbox.write(frame)
  }

  post(kind: 'credit' | 'close', channel: SessionChannel, bytes: number): void {
    if (kind === 'close') {
      this.#outbox.post(encodeWire({ kind, channel: this.number(channel) }))
      return
    }
    const theirs = this.#theirNumbers.get(channel)
    if (theirs !== undefined) this.#outbox.postUrgent(encodeWire({ kind, channel: theirs, bytes }))
  }

  number(channel: SessionChannel): number {
    const known = this.#numbers.get(channel)
    if (known !== undefined) return known
    if (this.#byNumber.size >= channelsMax || this.#nextNumber > channelNumberMax)
      throw linkBroken(`The link to '${this.peer.server}' has no channel left for '${channel.name}'.`)
    const number = this.#nextNumber++
    this.#numbers.set(channel, number)
    this.#byNumber.set(number, channel)
    this.#outbox.post(encodeWire({ kind: 'open', channel: number, name: channel.name }))
    return number
  }

  done(channel: SessionChannel): void {
    const number = this.#numbers.get(channel)
    if (number !== undefined) this.#byNumber.delete(number)
    this.#numbers.delete(channel)
    const theirs = this.#theirNumbers.get(channel)
    if (theirs !== undefined && this.#theirs.get(theirs) === channel) this.#theirs.delete(theirs)
    this.#theirNumbers.delete(channel)
    const rest = (this.#channels.get(channel.name) ?? []).filter(other => other !== channel)
    if (rest.length === 0) this.#channels.delete(channel.name)
    else this.#channels.set(channel.name, rest)
  }

  #addChannel(name: string): SessionChannel {
    if (name.length === 0 || name.length > channelNameMax) throw new Error(`not a channel's name: '${name}'`)
    const channel = new SessionChannel(name, this.#limits.channelWindowBytes, this)
    const same = this.#channels.get(name)
    if (same === undefined) this.#channels.set(name, [channel])
    else same.push(channel)
    if (this.#ended.signal.aborted) channel.sessionOver(this.#reason)
    return channel
  }

  // what comes

  async #read(): Promise<void> {
    for (;;) {
      for (let frame = this.#input.take(); frame !== undefined; frame = this.#input.take()) {
        const decoded = decodeWire(frame)
        if (decoded.kind === 'packed') await this.#unpack(decoded.bytes, decoded.rawBytes)
        else this.#handle(decoded)
        if (this.#ended.signal.aborted) return
      }
      if (!(await this.#input.fill())) throw linkBroken(`'${this.peer.server}' ended the connection.`)
      this.#lastReceivedMs = this.#clock.nowMs()
    }
  }

  async #unpack(bytes: Buffer, rawBytes: number): Promise<void> {
    if (this.#compressor === undefined) throw invalid('a packed frame came, which was not agreed on')
    if (rawBytes > packedBytesMax) throw invalid(`a packed frame is said to have ${rawBytes} bytes`)
    const raw = await this.#compressor.decompress(bytes, rawBytes).catch(cause => {
      throw invalid('a packed frame cannot be unpacked', cause)
    })
    for (let at = 0; at < raw.length; ) {
      const frame = readFrame(raw, at)
      if (frame.kind !== 'frame') throw invalid('a packed frame does not hold whole frames')
      const decoded = decodeWire(frame.payload)
      if (decoded.kind === 'packed') throw invalid('a packed frame holds another')
      this.#handle(decoded)
      at = frame.end
    }
  }

  #handle(frame: Exclude<WireFrame, { kind: 'packed' }>): void {
    switch (frame.kind) {
      case 'data':
      case 'part':
        this.#their(frame.channel).received(frame.bytes, frame.kind === 'data')
        return
      case 'open': {
        if (this.#theirs.has(frame.channel)) throw invalid(`channel ${frame.channel} was opened twice`)
        const same = this.#channels.get(frame.name) ?? []
        if (this.#theirs.size >= channelsMax || this.#theirNumbers.size >= 2 * channelsMax)
          throw invalid('too many channels were opened')
        const channel =
          same.find(candidate => !this.#theirNumbers.has(candidate)) ?? this.#addChannel(frame.name)
        this.#theirs.set(frame.channel, channel)
        this.#theirNumbers.set(channel, frame.channel)
        return
      }
      case 'credit': {
        // of a channel that is done with, meanwhile, it is late and means nothing
        this.#byNumber.get(frame.channel)?.granted(frame.bytes)
        return
      }
      case 'close': {
        const channel = this.#their(frame.channel)
        this.#theirs.delete(frame.channel)
        channel.closedByPeer()
        return
      }
      case 'ping':
        this.#outbox.postUrgent(encodeWire({ kind: 'pong', id: frame.id }))
        return
      case 'pong': {
        const sentMs = this.#pings.get(frame.id)
        if (sentMs === undefined) throw invalid('a heartbeat was answered that was not sent')
        this.#pings.delete(frame.id)
        this.#roundTripMs = this.#clock.nowMs() - sentMs
        return
      }
      case 'bye': {
        const reason = frame.reason === '' ? '' : `: ${frame.reason}`
        throw linkBroken(`'${this.peer.server}' closed the link${reason}.`)
      }
      default:
        frame satisfies never
    }
  }

  #their(number: number): SessionChannel {
    const channel = this.#theirs.get(number)
    if (channel === undefined) throw invalid(`channel ${number} was not opened`)
    return channel
  }

  // time

  async #watch(): Promise<void> {
    const { heartbeatMs, silenceMs, writeMs } = this.#limits
    let beatMs = this.#clock.nowMs()
    while (!this.#ended.signal.aborted) {
      const nowMs = this.#clock.nowMs()
      const silentMs = nowMs - this.#lastReceivedMs
      if (silentMs >= silenceMs)
        throw linkBroken(`Nothing came from '${this.peer.server}' for ${seconds(silentMs)}.`)
      const { writingSinceMs } = this.#outbox
      if (writingSinceMs !== undefined && nowMs - writingSinceMs >= writeMs)
        throw linkBroken(`'${this.peer.server}' took nothing for ${seconds(nowMs - writingSinceMs)}.`)
      if (nowMs >= beatMs) {
        this.#beat(nowMs)
        beatMs = nowMs + heartbeatMs
      }
      const wakeMs = Math.min(beatMs, this.#lastReceivedMs + silenceMs, (writingSinceMs ?? nowMs) + writeMs)
      await this.#clock.sleep(Math.max(1, wakeMs - nowMs), this.#ended.signal)
    }
  }

  #beat(nowMs: number): void {
    // one that was not answered for so long says that by itself
    if (this.#pings.size >= 16) return
    const id = this.#pingId++
    this.#pings.set(id, nowMs)
    this.#outbox.postUrgent(encodeWire({ kind: 'ping', id }))
  }

  // the end

  #reason: Error = linkBroken('The link was closed.')

  #end(error: Error | undefined): void {
    if (this.#ended.signal.aborted) return
    if (error !== undefined) this.#reason = error
    this.#ended.abort()
    this.#outbox.end(this.#reason)
    for (const channels of this.#channels.values())
      for (const channel of channels) channel.sessionOver(this.#reason)
    this.#stream.close()
    // whoever closes is not told of it as of a fault
    this.#resolveOver(this.#closing === undefined ? error : undefined)
  }

  #named(error: unknown): Error {
    if (error instanceof HotspareError && error.code === 'link-broken') return error
    if (error instanceof HotspareError && error.code === 'entry-invalid')
      return linkBroken(`What came from '${this.peer.server}' is wrong: ${error.message}`, error)
    const message = error instanceof Error ? error.message : String(error)
    return linkBroken(`The connection to '${this.peer.server}' broke: ${message}.`, error)
  }
}

/** A batch of the outbox, or one frame that is larger. */
export const packedBytesMax = partBytesMax + 1024

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

function invalid(what: string, cause?: unknown): HotspareError {
  return new HotspareError('entry-invalid', `Malformed session: ${what}.`, { cause })
}
