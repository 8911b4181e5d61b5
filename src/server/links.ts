/**
 * The links of a server to all its peers: who listens, who calls, and what becomes of who is not known.
 *
 * A session says at its beginning what this server is (role, epoch, upstream, path); when that changes, all sessions are
 * made anew (`renew`), so that nobody acts on what was true before.
 */
import { Answerer, nowhere } from '../link/answerer.ts'
import type { SessionTerms } from '../link/caller.ts'
import type { Hello, Session } from '../link/session.ts'
import type { PeerTrust } from '../link/trust.ts'
import { HotspareError } from '../os/errors.ts'
import type { ByteStream } from '../os/transport.ts'
import type { Level } from './messages.ts'
import { type Link, PeerLink } from './peer-link.ts'
import type { ServerMachine, ServerSettings } from './server.ts'

/** Strangers may call as often as they like: they are told of so often at most. */
const refusalEveryMs = 60_000

export interface LinksOptions {
  readonly settings: ServerSettings
  readonly machine: ServerMachine
  readonly trust: PeerTrust
  /** What this server says of itself now. */
  hello(): Hello
  /** Has the link until it needs it no more; must not reject. */
  onLink(link: Link): Promise<void>
  tell(level: Level, code: string, text: string): void
}

export class Links {
  readonly #options: LinksOptions
  readonly #peers = new Map<string, PeerLink>()
  #answerer: Answerer | undefined
  #refusedAtMs = Number.NEGATIVE_INFINITY
  #refused = 0
  #closed = false

  private constructor(options: LinksOptions) {
    this.#options = options
  }

  /** Rejects when the address cannot be listened at. */
  static async open(options: LinksOptions): Promise<Links> {
    const links = new Links(options)
    const { settings, machine } = options
    const { clock, random } = machine
    const terms = () => links.#terms()
    links.#answerer = await Answerer.open({
      address: settings.listen ?? '',
      transport: settings.listen === undefined ? nowhere : machine.transport,
      clock,
      random,
      terms,
      onSession: (session, said) => void links.#answer(session, said),
      onRefused: (error, from) => links.#onRefused(error, from),
    })
    for (const peer of settings.peers) {
      links.#peers.set(
        peer.name,
        new PeerLink({ self: settings.name, peer, machine, terms, onLink: options.onLink }),
      )
    }
    return links
  }

  /** Undefined: it listens nowhere. */
  get listening(): string | undefined {
    return this.#options.settings.listen === undefined ? undefined : this.#answerer?.address
  }

  accept(stream: ByteStream): void {
    this.#answerer?.accept(stream)
  }

  /** Throws `peer-unknown`. */
  peer(name: string): PeerLink {
    const found = this.#peers.get(name)
    if (found !== undefined) return found
    const known = [...this.#peers.keys()].join(', ') || 'none'
    throw new HotspareError('peer-unknown', `There is no peer '${name}' here (there are: ${known}).`)
  }

  has(name: string): boolean {
    return this.#peers.has(name)
  }

  all(): readonly PeerLink[] {
    return [...this.#peers.values()]
  }

  /** All sessions are made anew. */
  async renew(reason: string): Promise<void> {
    await Promise.all(this.all().map(peer => peer.renew(reason)))
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([this.#answerer?.close(), ...this.all().map(peer => peer.close())])
  }

  #terms(): SessionTerms {
    const { settings, machine, trust, hello } = this.#options
    return {
      hello: hello(),
      trust,
      limits: { bandwidthBytesPerSecond: settings.bandwidthBytesPerSecond },
      ...(machine.compressor === undefined ? {} : { compressor: machine.compressor }),
    }
  }

  async #answer(session: Session, said: Hello): Promise<void> {
    const peer = this.#peers.get(session.peer.server)
    if (peer !== undefined && !this.#closed) return peer.adopt(session, false, said)
    if (peer === undefined) {
      const error = new HotspareError(
        'peer-unknown',
        `'${session.peer.server}' is paired with this server, and not among the peers of its configuration.`,
      )
      this.#onRefused(error, session.address)
    }
    await session.close('not among the peers')
  }

  #onRefused(error: Error, from: string): void {
    this.#refused++
    const { clock } = this.#options.machine
    if (clock.nowMs() - this.#refusedAtMs < refusalEveryMs) return
    this.#refusedAtMs = clock.nowMs()
    const code = error instanceof HotspareError ? error.code : 'link-broken'
    const count = this.#refused > 1 ? ` (${this.#refused} such calls since the last message)` : ''
    this.#options.tell('warning', code, `A call from ${from} was not accepted: ${error.message}${count}`)
    this.#refused = 0
  }
}
