/** A server that runs: what each link is for, what the role says is done, and the commands. */
import { meetEpoch, type Teller } from '../failover/fencing.ts'
import { type PromoteOptions, Promotion, type PromotionReport } from '../failover/promotion.ts'
import { type RejoinReport, rejoin } from '../failover/rejoining.ts'
import { linkVersion } from '../link/handshake.ts'
import type { Hello } from '../link/session.ts'
import type { PeerTrust } from '../link/trust.ts'
import type { Log } from '../log/log.ts'
import { Turns } from '../log/turns.ts'
import { HotspareError } from '../os/errors.ts'
import type { ByteStream } from '../os/transport.ts'
import type { StoreName } from '../stream/entry.ts'
import { type Epoch, epochText } from '../stream/epoch.ts'
import { Answering } from './answering.ts'
import { applySubscriber } from './downstream/downstream.ts'
import { openDownstream } from './downstream/open-downstream.ts'
import { HandingOver } from './handing-over.ts'
import { Links } from './links.ts'
import type { Messages } from './messages.ts'
import type { ServerParts } from './parts.ts'
import { patiently } from './patiently.ts'
import type { Link } from './peer-link.ts'
import { Promoting } from './promoting.ts'
import { reignOf } from './reign.ts'
import { Reigning } from './reigning.ts'
import { RejoinLater } from './rejoin-later.ts'
import { RoleSwitch } from './role-switch.ts'
import type {
  ProbeReport,
  Server,
  ServerActs,
  ServerMachine,
  ServerMessage,
  ServerSettings,
  ServerStatus,
} from './server.ts'
import type { ServerStateFile } from './state.ts'
import { statusOf } from './status.ts'
import { UpstreamTaking } from './taking.ts'
import { ToldOnce } from './told-once.ts'
import { Turning } from './turning.ts'
import { openUpstream } from './upstream/open-upstream.ts'
import { WholeChecks } from './whole-checks.ts'

export interface RunningServerOptions {
  readonly settings: ServerSettings
  readonly machine: ServerMachine
  readonly acts: ServerActs
  readonly state: ServerStateFile
  readonly log: Log
  readonly messages: Messages
  readonly trust: PeerTrust
  /** Log, messages and the lock of the state directory. */
  closeAll(): Promise<void>
}

/** For what is under way when the server is stopped. */
const stopMsMax = 10_000

export class RunningServer implements Server {
  readonly stopped: Promise<void>
  readonly #options: RunningServerOptions
  readonly #parts: ServerParts
  readonly #once: ToldOnce
  readonly #taking: UpstreamTaking
  readonly #reigning: Reigning
  readonly #answering: Answering
  readonly #later: RejoinLater
  /** Commands that change the role. */
  readonly #turns = new Turns()
  readonly #over = new AbortController()
  #path: readonly string[]
  #stopping: Promise<void> | undefined
  #fault: unknown
  readonly #end: { resolve(): void; reject(error: unknown): void }

  static async open(options: RunningServerOptions): Promise<RunningServer> {
    const { settings, machine, state, log, messages, trust } = options
    const running: { server?: RunningServer } = {}
    const server = () => {
      if (running.server === undefined) throw new Error('the server is not open yet')
      return running.server
    }
    const tell = messages.tell.bind(messages)
    const upstream = await openUpstream({
      settings,
      machine,
      state,
      log,
      tell,
      path: () => server().#path,
      learnt: epoch => server().#learnt(epoch, 'other'),
      failed: error => server().#failed(error),
    })
    const links = await Links.open({
      settings,
      machine,
      trust,
      tell,
      hello: () => server().#hello(),
      onLink: link => server().#onLink(link),
    }).catch(async (error: unknown) => {
      await upstream.close()
      throw error
    })
    const checks = new WholeChecks({ settings, machine, state, tell })
    const roles = new RoleSwitch(upstream, checks)
    const over = new AbortController()
    running.server = new RunningServer(
      options,
      {
        settings,
        machine,
        acts: options.acts,
        state,
        log,
        links,
        upstream,
        become: role => roles.become(role),
        checks,
        downstream: undefined,
        signal: over.signal,
        tell,
      },
      over,
    )
    try {
      await running.server.#start()
    } catch (error) {
      await running.server.#closeParts()
      throw error
    }
    return running.server
  }

  private constructor(options: RunningServerOptions, parts: ServerParts, over: AbortController) {
    this.#options = options
    this.#parts = parts
    this.#over = over
    this.#path = [parts.settings.name]
    this.#once = new ToldOnce(parts.tell)
    this.#taking = new UpstreamTaking(parts, this.#once)
    this.#answering = new Answering(parts)
    this.#later = new RejoinLater(parts, upstream => this.rejoin(upstream, parts.signal))
    this.#reigning = new Reigning(parts, {
      rejoinLater: upstream => this.#later.begin(upstream),
      finishPromotion: () => this.#finishPromotion(),
    })
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.stopped = promise
    this.#end = { resolve, reject }
    // whoever wants to know waits for it
    promise.catch(() => undefined)
  }

  async #start(): Promise<void> {
    const { state, settings, log, tell } = this.#parts
    const subscribers = new Set(settings.peers.filter(peer => peer.subscriber).map(({ name }) => name))
    for (const { name } of log.subscribers()) {
      if (name === applySubscriber || subscribers.has(name)) continue
      await log.unsubscribe(name)
      tell('info', 'unsubscribed', `Nothing is kept for '${name}' any more: it is no subscriber here.`)
    }
    const { role, epoch, upstream, promotion, rejoining } = state.value
    tell('info', 'started', `Started as ${role} of epoch ${epochText(epoch)}.`)
    if (role === 'standby' && settings.upstream !== undefined && settings.upstream !== upstream)
      tell('info', 'upstream', `The upstream is '${upstream}' since it was rejoined, whatever is configured.`)
    const unfinished = promotion?.reached === 'raised' || promotion?.reached === 'released'
    if (role === 'standby' || !unfinished) await this.#begin()
    else void this.#turns.run(() => this.#promotion().goOn()).catch(error => this.#told(error))
    if (rejoining !== undefined) await this.#later.begin(rejoining.upstream)
  }

  /** Does what the role says, from now on. */
  async #begin(): Promise<void> {
    const parts = this.#parts
    const { role, fencedBy, rejoining, upstream } = parts.state.value
    if (this.#stopping !== undefined) return
    if (role === 'primary') {
      const replaced = fencedBy !== undefined || rejoining !== undefined
      await parts.become({ kind: replaced ? 'fenced' : 'primary' })
      if (!replaced) parts.checks.begin()
      this.#path = [parts.settings.name]
    } else {
      // of another upstream than before it is not known yet
      if (this.#path.at(-2) !== upstream) this.#path = [parts.settings.name]
      parts.downstream ??= await openDownstream({
        settings: parts.settings,
        machine: parts.machine,
        state: parts.state,
        log: parts.log,
        invalidate: stores => parts.upstream.invalidate(stores),
        disconnect: reason => parts.upstream.disconnect(reason),
        tell: parts.tell,
        learnt: epoch => this.#learnt(epoch, 'upstream'),
        failed: error => this.#failed(error),
      })
      const passesOn = parts.settings.logStandbyUpdates
      await parts.become(passesOn ? { kind: 'standby', downstream: parts.downstream } : { kind: 'resting' })
    }
    this.#taking.go()
    await parts.links.renew('the role has changed')
  }

  #beginPatiently(): Promise<void> {
    return patiently(this.#parts, 'Beginning to do what the role says', () => this.#begin())
  }

  #hello(): Hello {
    const { settings, state } = this.#parts
    const { stream, epoch, role, upstream } = state.value
    return {
      version: linkVersion,
      set: settings.set,
      server: settings.name,
      stream,
      epoch,
      role,
      ...(upstream === undefined ? {} : { upstream }),
      path: this.#path,
    }
  }

  async #learnt(epoch: Epoch, from: Teller): Promise<void> {
    await this.#reigning.learn(epoch, from)
  }

  /** Never rejects: what goes wrong is that link's. */
  async #onLink(link: Link): Promise<void> {
    try {
      await this.#serve(link)
    } catch (error) {
      if (!this.#over.signal.aborted) this.#parts.links.peer(link.peer).failed(error)
    }
  }

  async #serve(link: Link): Promise<void> {
    const { peer, session, control } = link
    const hello = session.peer
    const { state, settings } = this.#parts
    this.#answering.attend(link)
    // an old primary follows nobody: it only tells that there is a newer one
    control.on('epoch', ({ epoch }) =>
      this.#learnt(epoch, hello.role === 'standby' ? this.#teller(peer) : 'other'),
    )
    control.on('hand-over', ({ epoch }) => void this.#handOver(link, epoch))
    const meeting = await this.#reigning.learn(hello.epoch, this.#teller(peer))
    if (meeting.kind === 'older') await control.send({ type: 'epoch', epoch: meeting.newest })
    this.#later.poke(peer)
    await this.#forgetSubscriber(peer, hello.upstream)
    const { role, upstream } = state.value
    if (role === 'standby' && upstream === peer) await this.#takeFrom(link)
    else if (hello.upstream === settings.name) await this.#give(link)
    await session.over
  }

  /** Nothing is kept for who takes its log from another by now. */
  async #forgetSubscriber(peer: string, itsUpstream: string | undefined): Promise<void> {
    const { log, settings, state, tell } = this.#parts
    const { fencedBy, rejoining } = state.value
    // what nobody has taken of a replaced primary is to be put aside, and must not go before
    if (itsUpstream === settings.name || fencedBy !== undefined || rejoining !== undefined) return
    if (!log.subscribers().some(({ name }) => name === peer)) return
    await log.unsubscribe(peer)
    tell('info', 'unsubscribed', `Nothing is kept for '${peer}' any more: it takes its log from another.`)
  }

  #teller(peer: string): Teller {
    const { role, upstream } = this.#parts.state.value
    return role === 'standby' && upstream === peer ? 'upstream' : 'other'
  }

  async #takeFrom(link: Link): Promise<void> {
    const { settings, links, state } = this.#parts
    const { path, epoch } = link.session.peer
    if (path.includes(settings.name)) {
      const error = new HotspareError(
        'loop',
        `'${link.peer}' takes its log from this server (${path.join(' > ')}): nothing is taken from it.`,
      )
      links.peer(link.peer).failed(error)
      link.tell('refused')
      return this.#once.tell(link.peer, 'error', error)
    }
    if (meetEpoch(reignOf(state.value), epoch, 'other').kind === 'older') {
      const error = new HotspareError(
        'epoch-old',
        `'${link.peer}' stands at epoch ${epochText(epoch)}, and a newer one is known: nothing is taken from it.`,
      )
      links.peer(link.peer).failed(error)
      link.tell('refused')
      return this.#once.tell(link.peer, 'warning', error)
    }
    await this.#setPath([...path, settings.name])
    await this.#taking.take(link)
  }

  /** Those below are told anew through whom they get their log, so that a loop is seen. */
  async #setPath(path: readonly string[]): Promise<void> {
    const { links, settings } = this.#parts
    if (path.join() === this.#path.join()) return
    this.#path = path
    for (const peer of links.all()) {
      if (peer.current?.session.peer.upstream === settings.name)
        void peer.renew('the way of the log has changed')
    }
  }

  async #give(link: Link): Promise<void> {
    const { upstream, state, settings } = this.#parts
    const { control, session } = link
    const { role, fencedBy, promotion, rejoining } = state.value
    const refuse = async (code: string, message: string) => {
      await control.send({ type: 'refused', code, message })
      link.tell('refused')
    }
    if (role === 'primary' && fencedBy !== undefined) {
      await control.send({ type: 'epoch', epoch: fencedBy })
      return refuse('fenced', `${settings.name} was replaced by epoch ${epochText(fencedBy)}.`)
    }
    if (role === 'standby' && !settings.logStandbyUpdates)
      return refuse('usage', `${settings.name} passes nothing on: 'cascade' is off there.`)
    // its role is changing: the peer comes again
    if (rejoining !== undefined || promotion?.reached === 'raised') return session.close('not ready yet')
    control.watch(type => {
      if (type === 'subscribe') link.tell('subscribed')
    })
    const { error, refused } = await upstream.serve(control).over
    if (error === undefined) return
    this.#parts.links.peer(link.peer).failed(error)
    if (refused) link.tell('refused')
  }

  async #handOver(link: Link, epoch: Epoch): Promise<void> {
    await this.#turns.run(() => new HandingOver(this.#parts).answer(link, epoch))
    const { rejoining } = this.#parts.state.value
    if (rejoining !== undefined) await this.#later.begin(rejoining.upstream)
  }

  #promotion(): Promotion {
    return new Promotion(new Promoting(this.#parts, this.#taking, () => this.#beginPatiently()))
  }

  /** Asked for before a crash, or before the answer was lost. */
  #finishPromotion(): void {
    const { signal } = this.#over
    void this.#turns
      .run(async () => {
        const { role, promotion } = this.#parts.state.value
        if (role !== 'standby' || promotion?.reached !== 'asked' || signal.aborted) return
        await this.#promotion().run({ planned: false, dryRun: false, signal })
      })
      .catch(error => this.#told(error))
  }

  promote(options: PromoteOptions): Promise<PromotionReport> {
    const signal = AbortSignal.any([options.signal, this.#over.signal])
    return this.#turns.run(async () => {
      signal.throwIfAborted()
      return this.#promotion().run({ ...options, signal })
    })
  }

  async rejoin(upstream: string, signal: AbortSignal): Promise<RejoinReport> {
    const any = AbortSignal.any([signal, this.#over.signal])
    const rejoined = this.#turns.run(async () => {
      any.throwIfAborted()
      this.#parts.links.peer(upstream)
      const { role, upstream: known } = this.#parts.state.value
      // what it has beyond the upstream shows when it subscribes
      if (role === 'standby' && known === upstream && this.#taking.state === 'receiving') return { upstream }
      return rejoin(new Turning(this.#parts, this.#taking, () => this.#beginPatiently()), upstream, any)
    })
    const report = await rejoined.catch(async (error: unknown) => {
      // what was begun and could not be taken back goes on by itself
      const { rejoining } = this.#parts.state.value
      if (rejoining !== undefined && !this.#over.signal.aborted) await this.#later.begin(rejoining.upstream)
      throw error
    })
    this.#later.done()
    return report
  }

  async setEnqueuing(on: boolean): Promise<void> {
    const { state, upstream } = this.#parts
    await state.update(before => ({ ...before, enqueuing: on }))
    if (state.value.role === 'primary') await upstream.setEnqueuing(on)
  }

  async setApplying(on: boolean): Promise<void> {
    const { state, downstream } = this.#parts
    if (downstream !== undefined) return downstream.setApplying(on)
    await state.update(before => ({ ...before, applying: on }))
  }

  async release(store: StoreName, how: 'retry' | 'synchronise'): Promise<void> {
    const { downstream } = this.#parts
    if (downstream === undefined) throw new HotspareError('usage', 'A primary has no copies to release.')
    await downstream.release(store, how)
    if (how === 'synchronise')
      await this.#parts.links.peer(this.#parts.state.value.upstream ?? '').renew('release')
  }

  probe(peer: string, bytes: number, signal: AbortSignal): Promise<ProbeReport> {
    this.#parts.links.peer(peer)
    return this.#parts.upstream.probe(peer, bytes, signal)
  }

  async waitFor(peer: string, signal: AbortSignal): Promise<number> {
    this.#parts.links.peer(peer)
    const { fencedBy } = this.#parts.state.value
    if (fencedBy !== undefined)
      throw new HotspareError('fenced', `This server was replaced by epoch ${epochText(fencedBy)}.`)
    return this.#parts.upstream.waitFor(peer, signal)
  }

  status(): ServerStatus {
    return statusOf(this.#parts, this.#taking.state)
  }

  messages(count: number): readonly ServerMessage[] {
    return this.#options.messages.newest(count)
  }

  accept(stream: ByteStream): void {
    this.#parts.links.accept(stream)
  }

  async stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    await this.#stopping
  }

  async #stop(): Promise<void> {
    try {
      this.#over.abort(new HotspareError('server-stopped', 'The server was stopped.'))
      await this.#closeParts()
      this.#parts.tell('info', 'stopped', 'Stopped.')
      await this.#options.closeAll()
    } finally {
      if (this.#fault === undefined) this.#end.resolve()
      else this.#end.reject(this.#fault)
    }
  }

  async #closeParts(): Promise<void> {
    const { links, upstream, machine, tell } = this.#parts
    this.#over.abort(new HotspareError('server-stopped', 'The server was stopped.'))
    const timer = new AbortController()
    const closing = (async () => {
      await links.close()
      await this.#turns.run(async () => {})
      await this.#later.idle()
      await this.#taking.rest()
      await this.#parts.checks.stop()
      await upstream.close()
      await this.#parts.downstream?.close()
      this.#parts.downstream = undefined
    })()
    const late = machine.clock.sleep(stopMsMax, timer.signal).then(() => {
      if (!timer.signal.aborted)
        tell('warning', 'stopping', 'Something that was under way did not end in time.')
    })
    try {
      await Promise.race([closing, late])
    } finally {
      timer.abort()
      closing.catch(() => undefined)
    }
  }

  #failed(error: unknown): void {
    if (this.#stopping !== undefined || this.#fault !== undefined) return
    this.#fault = error
    this.#told(error)
    void this.stop().catch(() => undefined)
  }

  #told(error: unknown): void {
    if (this.#over.signal.aborted) return
    const code = error instanceof HotspareError ? error.code : 'bug'
    this.#parts.tell('error', code, error instanceof Error ? error.message : String(error))
  }
}
