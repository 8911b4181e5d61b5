/**
 * One downstream on one session: its subscription is decided, its stores are brought to it that do not go on with the
 * log, and the log is shipped.
 *
 * Invariant: between the decision that a store goes on with the log and this link's being known to the store's feed,
 * nothing is awaited. So a feed that moves the store beside the log never overlooks a link.
 */
import type { LinkMessage, StoreDescription } from '../../link/messages.ts'
import type { Session } from '../../link/session.ts'
import type { Log } from '../../log/log.ts'
import { HotspareError } from '../../os/errors.ts'
import type { StoreName } from '../../stream/entry.ts'
import { compareEpochs, epochText } from '../../stream/epoch.ts'
import type { Chain } from '../../stream/log-piece.ts'
import type { Control } from '../control.ts'
import { decideSubscription, type SubscribeDecision } from '../subscribing.ts'
import { Declined, RemoteStore } from './remote-store.ts'
import { type Mark, Shipping } from './shipping.ts'
import type { Serving, ServingEnd, UpstreamOptions } from './upstream.ts'

/** So often at most a log that begins anew begins with something else. */
const beginningsMax = 10

/** What the role gives to the links: where the log of a primary or a standby goes on, and how stores are brought. */
export interface LinkHost {
  readonly options: UpstreamOptions
  readonly log: Log
  /** The store goes on with the log for whoever is in step. */
  goesOn(store: StoreName, peer: string): boolean
  /** Where the log of a downstream begins that has none. */
  restartAt(): number
  /** The link is known from here on; `sync` is to be brought to it. Synchronous. */
  joined(link: DownstreamLink, sync: readonly StoreName[]): void
  /** These have to be brought to the peer, in whatever session. Durable when it resolves. */
  owe(peer: string, stores: readonly StoreName[]): Promise<void>
  left(link: DownstreamLink): void
  mark(): Mark | undefined
  onMark(listener: () => void): () => void
  /** The store has to be brought to it later: durable in time, at the latest before anything follows in the log. */
  declined(link: DownstreamLink, store: StoreName): void
  /** Somebody has acknowledged, come or gone. */
  changed(): void
  onShipped(transactions: number): void
}

type SubscribeMessage = Extract<LinkMessage, { readonly type: 'subscribe' }>

class Refused extends Error {
  override readonly name = 'Refused'
}

export class DownstreamLink implements Serving {
  readonly peer: string
  readonly over: Promise<ServingEnd>
  readonly #host: LinkHost
  readonly #control: Control
  readonly #stop = new AbortController()
  readonly #remotes = new Map<StoreName, RemoteStore>()
  /** The stores that it has. */
  #stores: ReadonlySet<StoreName> = new Set()
  /** Stores that have to be brought to it, or are being brought. */
  readonly #syncing = new Set<StoreName>()
  /** Of those, the ones that it waits for. */
  readonly #ready = new Set<StoreName>()
  /** Its copy rests, and has to be brought there when it is released. */
  readonly #declined = new Set<StoreName>()
  #shipping: Shipping | undefined
  #next = 0
  #error: unknown
  #refused = false

  constructor(host: LinkHost, control: Control) {
    this.#host = host
    this.#control = control
    this.peer = control.session.peer.server
    void control.session.over.then(error => {
      this.#end(error ?? new HotspareError('link-broken', `'${this.peer}' has closed the link.`))
    })
    this.over = this.#run()
  }

  get control(): Control {
    return this.#control
  }

  get session(): Session {
    return this.#control.session
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** It has been told from where its log goes on, and the session stands. */
  get subscribed(): boolean {
    return this.#shipping !== undefined && !this.#stop.signal.aborted
  }

  /** The number at which its log went on when it subscribed. */
  get startedAt(): number {
    return this.#next
  }

  get state(): Serving['state'] {
    if (this.#shipping === undefined) return 'subscribing'
    return this.#syncing.size > 0 ? 'synchronising' : 'shipping'
  }

  get caughtUp(): boolean {
    return this.#syncing.size === 0 && (this.#shipping?.caughtUp ?? false)
  }

  get received(): number | undefined {
    return this.#shipping?.received
  }

  get applied(): number | undefined {
    return this.#shipping?.applied
  }

  get lagMs(): number | undefined {
    return this.#shipping?.lagMs
  }

  get lagTransactions(): number | undefined {
    return this.#shipping?.lagTransactions
  }

  /** All up to `number` is durable there, and no store has to be brought to it. */
  has(number: number): boolean {
    const lacks = this.#syncing.size + this.#declined.size > 0
    return this.subscribed && !lacks && (this.received ?? -1) >= number
  }

  /** It has the store, and takes what comes of it. */
  takes(store: StoreName): boolean {
    return this.#stores.has(store) && !this.#declined.has(store) && !this.#stop.signal.aborted
  }

  /** It takes part when the store is moved beside the log: one that still makes its copy ready comes with the next. */
  joins(store: StoreName): boolean {
    return this.takes(store) && (!this.#syncing.has(store) || this.#ready.has(store))
  }

  /** It needs the store beside the log, and waits for it. */
  awaits(store: StoreName): boolean {
    return this.#syncing.has(store) && this.#ready.has(store) && !this.#stop.signal.aborted
  }

  isSyncing(store: StoreName): boolean {
    return this.#syncing.has(store)
  }

  /** What it has of the store does not go on with the log, until `synced`. It `awaits` it from here on. */
  toSync(store: StoreName): void {
    this.#syncing.add(store)
    this.#ready.add(store)
  }

  /** Lets it make its copy ready, which may take long, while the log goes on for everybody. */
  async prepareSync(store: StoreName): Promise<void> {
    this.#syncing.add(store)
    try {
      await this.remote(store).prepare()
      this.#ready.add(store)
      this.#host.changed()
    } catch (error) {
      this.faulty(store, error)
    }
  }

  synced(store: StoreName): void {
    this.#syncing.delete(store)
    this.#ready.delete(store)
    this.#host.changed()
  }

  /** What went wrong with a store; its fault may be no reason to part. */
  faulty(store: StoreName, error: unknown): void {
    if (!(error instanceof Declined)) {
      this.fail(error)
      return
    }
    this.#declined.add(store)
    this.#syncing.delete(store)
    this.#ready.delete(store)
    this.#host.declined(this, store)
  }

  remote(store: StoreName): RemoteStore {
    const known = this.#remotes.get(store)
    if (known !== undefined) return known
    const settings = this.#host.options.settings.stores.find(one => one.store === store)
    if (settings === undefined) throw new Error(`no store '${store}'`)
    const remote = new RemoteStore(this.session, describeStore(settings))
    this.#remotes.set(store, remote)
    return remote
  }

  /** Ends the session: what it brings next has to be decided anew. */
  fail(error: unknown): void {
    this.#end(error)
  }

  async stop(): Promise<void> {
    this.#end(undefined)
    await this.over
  }

  #end(error: unknown): void {
    if (this.#stop.signal.aborted) return
    this.#error = error
    this.#stop.abort(error ?? new HotspareError('link-broken', 'The link was closed.'))
    const reason = error instanceof Error ? error.message : undefined
    void this.#control.session.close(reason)
  }

  async #run(): Promise<ServingEnd> {
    try {
      await this.#subscribe()
      await this.#shipping?.run(this.#stop.signal)
      this.#end(undefined)
    } catch (error) {
      this.#refused = error instanceof Refused
      this.#end(error instanceof Refused ? error.cause : error)
      const { failed } = this.#host.options
      if (error instanceof HotspareError && error.code === 'log-closed') failed(error)
    }
    this.#control.off('subscribe')
    this.#host.left(this)
    await this.session.close()
    await this.session.over
    return { error: this.#error, refused: this.#refused }
  }

  async #subscribe(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    let failure: unknown
    this.#control.on('subscribe', async message => {
      this.#control.off('subscribe')
      try {
        await this.#answer(message)
      } catch (error) {
        failure = error
      }
      resolve()
    })
    this.#stop.signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    if (failure !== undefined) throw failure
    this.#stop.signal.throwIfAborted()
  }

  async #answer(message: SubscribeMessage): Promise<void> {
    const { log, options } = this.#host
    const { settings, state, path } = options
    const { peer } = this.session
    this.#stores = new Set(message.stores.map(({ store }) => store))
    await log.sync()
    const chain = message.next <= log.durable + 1 ? await log.chainAfter(message.next - 1) : undefined
    const { epoch, role, fencedBy } = state.value
    const newest = fencedBy === undefined || compareEpochs(epoch, fencedBy) > 0 ? epoch : fencedBy
    const decision = decideSubscription(
      { peer: this.peer, epoch: peer.epoch, stream: peer.stream, ...message },
      {
        epoch: newest,
        fenced: role === 'primary' && fencedBy !== undefined,
        path: path(),
        stream: log.stream,
        first: log.first,
        next: log.durable + 1,
        chain,
        kept: log.subscribers().some(({ name, kept }) => name === this.peer && kept),
        stores: settings.stores.map(({ store }) => ({ store, goesOn: this.#host.goesOn(store, this.peer) })),
      },
    )
    if (decision.kind === 'outdated' || decision.kind === 'loop') return this.#refuse(decision)
    await this.#begin(decision)
  }

  async #begin(decision: Extract<SubscribeDecision, { readonly kind: 'go-on' | 'restart' }>): Promise<void> {
    const { log, options } = this.#host
    const { settings, machine, tell } = options
    const planned = decision.kind === 'restart' ? this.#host.restartAt() : decision.next
    this.#next = planned
    for (const store of decision.sync) this.#syncing.add(store)
    this.#host.joined(this, decision.sync)
    // before it counts as kept for: else it would go on without them, were the session to break now
    if (decision.sync.length > 0) await this.#host.owe(this.peer, decision.sync)
    const { next, chain } = await this.#keptFrom(planned, decision.kind === 'restart')
    this.#next = next
    this.#shipping = new Shipping({
      log,
      clock: machine.clock,
      channel: this.session.channel('log'),
      peer: this.peer,
      next,
      mark: () => this.#host.mark(),
      onMark: listener => this.#host.onMark(listener),
      onShipped: count => this.#host.onShipped(count),
      onAcknowledged: () => this.#host.changed(),
    })
    await this.#control.send({
      type: 'subscribed',
      next,
      chain,
      restart: decision.kind === 'restart',
      stream: log.stream,
      epoch: log.epoch,
      stores: settings.stores.map(describeStore),
      sync: decision.sync,
    })
    const stores = decision.sync.length === 0 ? '' : `, and has to be given ${decision.sync.join(', ')}`
    tell('info', 'subscribed', `'${this.peer}' takes the log from transaction ${next}${stores}.`)
    this.#host.changed()
  }

  /**
   * From where on the log is kept for it, and the chain before that. What a log that begins anew was to begin with may have
   * been removed since, which others have: it begins with what comes then.
   */
  async #keptFrom(
    planned: number,
    isAnew: boolean,
  ): Promise<{ readonly next: number; readonly chain: Chain }> {
    let next = planned
    for (let tries = 1; ; tries++) {
      try {
        await this.#keepFrom(next)
        const chain = await this.#host.log.chainAfter(next - 1)
        if (chain !== undefined) return { next, chain }
        throw new HotspareError('log-removed', `Transaction ${next - 1} is not known to the log any more.`)
      } catch (error) {
        const isRemoved = error instanceof HotspareError && error.code === 'log-removed'
        if (!isAnew || !isRemoved || tries === beginningsMax) throw error
        next = this.#host.restartAt()
      }
    }
  }

  /** For who is no subscriber nothing is kept while it is away: it compares all its stores when it comes again. */
  async #keepFrom(next: number): Promise<void> {
    const { log, options } = this.#host
    const settings = options.settings.peers.find(({ name }) => name === this.peer)
    if (settings?.subscriber !== false) await log.subscribe(this.peer, next - 1)
    else if (log.subscribers().some(({ name }) => name === this.peer)) await log.unsubscribe(this.peer)
  }

  async #refuse(
    decision: Extract<SubscribeDecision, { readonly kind: 'outdated' | 'loop' }>,
  ): Promise<never> {
    const { options } = this.#host
    const { settings, learnt } = options
    const isLoop = decision.kind === 'loop'
    const code = isLoop ? 'loop' : decision.code
    const message = isLoop
      ? `'${settings.name}' takes its log from '${this.peer}' (${options.path().join(' > ')}), so it cannot be its upstream.`
      : decision.code === 'fenced'
        ? `'${settings.name}' was replaced by epoch ${epochText(decision.epoch)}: it ships nothing.`
        : `'${settings.name}' has not heard of epoch ${epochText(decision.epoch)} before: it ships nothing to who stands there.`
    if (decision.kind === 'outdated' && decision.code === 'epoch-old') await learnt(decision.epoch)
    await this.#control.send({ type: 'refused', code, message })
    throw new Refused(message, { cause: new HotspareError(code, message) })
  }
}

export function describeStore({
  store,
  driver,
  profile,
}: {
  readonly store: StoreName
  readonly driver: string
  readonly profile?: string
}): StoreDescription {
  return { store, driver, ...(profile === undefined ? {} : { profile }) }
}
