/**
 * From a byte stream to a session. Rejects with `link-refused` (which side, and why, in its details) when the two do not
 * accept each other, and with `link-broken` when the stream ends before; either way within `handshakeMs`, and closed.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { Random } from '../os/random.ts'
import type { ByteStream } from '../os/transport.ts'
import { encodeFrame } from '../stream/frame.ts'
import type { Compressor } from './compression.ts'
import { FrameInput } from './frame-input.ts'
import { encodeRefusal, features, type Handshake, handshakeFrameBytesMax, shakeHands } from './handshake.ts'
import { linkBroken, linkRefused } from './link-error.ts'
import { LinkSession, type SessionLimits, sessionLimitsDefault } from './link-session.ts'
import type { Hello, Session } from './session.ts'
import type { PeerTrust } from './trust.ts'
import { wirePayloadBytesMax } from './wire.ts'

export interface SessionOptions {
  readonly hello: Hello
  readonly trust: PeerTrust
  /** This side has called. */
  readonly dialled: boolean
  /** Whom it has called: nobody else may answer. */
  readonly expected?: string
  readonly clock: Clock
  readonly random: Random
  /** Ends the handshake, or closes the session. */
  readonly signal: AbortSignal
  readonly limits?: Partial<SessionLimits>
  /** Absent: nothing is compressed. */
  readonly compressor?: Compressor
}

export async function openSession(stream: ByteStream, options: SessionOptions): Promise<Session> {
  const { clock, signal } = options
  const limits = { ...sessionLimitsDefault, ...options.limits }
  let receivedBytes = 0
  const input = new FrameInput(stream.read(), handshakeFrameBytesMax, count => {
    receivedBytes += count
  })
  try {
    signal.throwIfAborted()
    const shaken = shakeHands(stream, input, { ...options, features: ownFeatures(options) }, clock)
    const { peer, features: agreed } = await inTime(shaken, stream, limits.handshakeMs, options)
    input.payloadBytesMax = wirePayloadBytesMax
    const session = new LinkSession(stream, input, {
      peer,
      clock,
      limits,
      compressor: (agreed & features.zstd) === 0 ? undefined : options.compressor,
      receivedBytes: () => receivedBytes,
    }).start()
    closeOnAbort(session, signal)
    return session
  } catch (error) {
    stream.close()
    if (error instanceof HotspareError || signal.aborted) throw error
    const message = error instanceof Error ? error.message : String(error)
    throw linkBroken(`The connection to ${stream.peer} broke: ${message}.`, error)
  }
}

async function inTime(
  shaken: Promise<Handshake>,
  stream: ByteStream,
  handshakeMs: number,
  { clock, signal }: SessionOptions,
): Promise<Handshake> {
  const over = new AbortController()
  const stop = () => over.abort()
  signal.addEventListener('abort', stop, { once: true })
  try {
    const first = await Promise.race([shaken, clock.sleep(handshakeMs, over.signal)])
    if (first !== undefined) return first
  } finally {
    signal.removeEventListener('abort', stop)
    over.abort()
    // when it came too late, its end is of no interest any more
    shaken.catch(() => {})
  }
  signal.throwIfAborted()
  const error = linkRefused('late', `${stream.peer} did not say in time who it is.`)
  // no waiting until it has read that: it had its time
  stream.write(encodeFrame(encodeRefusal('late', error.message))).catch(() => {})
  throw error
}

function closeOnAbort(session: Session, signal: AbortSignal): void {
  const stop = () => session.close('it was told to stop')
  signal.addEventListener('abort', stop, { once: true })
  session.over.then(() => signal.removeEventListener('abort', stop))
  if (signal.aborted) stop()
}

function ownFeatures({ compressor }: SessionOptions): number {
  return compressor === undefined ? 0 : features.zstd
}
