/** Two servers' ends of one session, in memory. */
import { type Clock, systemClock } from '../../os/clock.ts'
import { type Random, systemRandom } from '../../os/random.ts'
import {
  type MemoryPair,
  type MemoryPairOptions,
  memoryStreamPair,
} from '../../os/testing/memory-transport.ts'
import { linkVersion } from '../handshake.ts'
import { openSession, type SessionOptions } from '../open-session.ts'
import type { Hello, Session } from '../session.ts'
import { type PeerTrust, secretBytes } from '../trust.ts'

export const testSecret = Buffer.alloc(secretBytes, 7)

export function testHello(server: string, more: Partial<Hello> = {}): Hello {
  return {
    version: linkVersion,
    set: 'shop',
    server,
    stream: 'stream-1',
    epoch: { number: 1, by: 'alpha' },
    role: server === 'alpha' ? 'primary' : 'standby',
    path: [server],
    ...more,
  }
}

/** Knows every server by the same secret, or those that are named by theirs. */
export class TestTrust implements PeerTrust {
  readonly pinned = new Map<string, string>()
  readonly #secrets: Readonly<Record<string, Buffer>> | undefined

  constructor(secrets?: Readonly<Record<string, Buffer>>) {
    this.#secrets = secrets
  }

  async peer(name: string) {
    const secret = this.#secrets === undefined ? testSecret : this.#secrets[name]
    const certificate = this.pinned.get(name)
    return secret && { secret, ...(certificate !== undefined && { certificate }) }
  }

  async pin(name: string, certificate: string): Promise<void> {
    this.pinned.set(name, certificate)
  }
}

export interface SessionPair {
  /** Of the server that called, 'beta' unless told otherwise. */
  readonly caller: Session
  readonly called: Session
  readonly streams: MemoryPair
}

export interface SessionPairOptions {
  readonly clock?: Clock
  readonly random?: Random
  readonly caller?: Partial<SessionOptions>
  readonly called?: Partial<SessionOptions>
  readonly streams?: MemoryPairOptions
}

export function sessionOptions(server: string, more: Partial<SessionOptions> = {}): SessionOptions {
  return {
    hello: testHello(server),
    trust: new TestTrust(),
    dialled: server === 'beta',
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
    ...more,
  }
}

export async function openSessionPair(options: SessionPairOptions = {}): Promise<SessionPair> {
  const streams = memoryStreamPair(options.streams)
  const { clock = systemClock, random = systemRandom } = options
  const [caller, called] = await Promise.all([
    openSession(streams.dialled, sessionOptions('beta', { clock, random, ...options.caller })),
    openSession(streams.accepted, sessionOptions('alpha', { clock, random, ...options.called })),
  ])
  return { caller, called, streams }
}
