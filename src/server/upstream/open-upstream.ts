/** A server's side towards those below it, whatever its role. */
import { HotspareError } from '../../os/errors.ts'
import type { StoreName } from '../../stream/entry.ts'
import type { Control } from '../control.ts'
import { applySubscriber } from '../downstream/downstream.ts'
import type { ProbeReport, StoreStatus } from '../server.ts'
import { Below } from './below.ts'
import { DownstreamLink, type LinkHost } from './downstream-link.ts'
import { PrimaryRole, type RoleOptions } from './primary-role.ts'
import { probe } from './probing.ts'
import type { Role } from './role.ts'
import { StandbyRole } from './standby-role.ts'
import type { OpenUpstream, Serving, Upstream, UpstreamOptions, UpstreamRole } from './upstream.ts'
import { Wake } from './wake.ts'

export const openUpstream: OpenUpstream = async options => {
  const { machine, settings } = options
  const subscribers = keptNames(options)
  const stores = settings.stores.map(({ store }) => store)
  const below = await Below.open(machine.storage, settings.stateDirectory, subscribers, stores)
  return new ServerUpstream(options, below)
}

function keptNames({ log }: UpstreamOptions): string[] {
  return log
    .subscribers()
    .filter(({ name, kept }) => kept && name !== applySubscriber)
    .map(({ name }) => name)
}

class ServerUpstream implements Upstream {
  readonly #options: UpstreamOptions
  readonly #below: Below
  readonly #moved = new Wake()
  /** With sessions that stand, or are ending. */
  readonly #servings = new Set<DownstreamLink>()
  /** Of those, the ones whose subscription is decided. */
  readonly #joined = new Set<DownstreamLink>()
  #kind: UpstreamRole['kind'] = 'resting'
  #role: Role | undefined
  #primary: PrimaryRole | undefined
  #turning: Promise<void> = Promise.resolve()
  #shipped = 0

  constructor(options: UpstreamOptions, below: Below) {
    this.#options = options
    this.#below = below
  }

  become(role: UpstreamRole): Promise<void> {
    const turned = this.#turning.then(() => this.#become(role))
    this.#turning = turned.catch(() => undefined)
    return turned
  }

  async #become(role: UpstreamRole): Promise<void> {
    if (role.kind === 'fenced' && this.#kind === 'fenced') return
    const before = this.#role
    this.#role = undefined
    this.#kind = role.kind
    // a movement beside the log ends with its sessions
    const stopping = before?.stop()
    await this.#endAll()
    await stopping
    if (role.kind === 'fenced') {
      // read when it is asked for
      this.#primary ??= await PrimaryRole.prepare(this.#roleOptions())
      return
    }
    await before?.close()
    await this.#primary?.close()
    this.#primary = undefined
    if (role.kind === 'primary') {
      this.#primary = await PrimaryRole.open(this.#roleOptions())
      this.#role = this.#primary
    } else if (role.kind === 'standby') this.#role = new StandbyRole(this.#roleOptions(), role.downstream)
  }

  #roleOptions(): RoleOptions {
    return {
      ...this.#options,
      below: this.#below,
      links: () => [...this.#joined],
      moved: this.#moved,
    }
  }

  serve(control: Control): Serving {
    const { server } = control.session.peer
    for (const link of this.#servings) {
      if (link.peer === server) link.fail(new HotspareError('link-broken', `'${server}' has come anew.`))
    }
    const link = new DownstreamLink(this.#host(), control)
    this.#servings.add(link)
    void link.over.then(() => this.#servings.delete(link))
    if (this.#role === undefined && this.#kind !== 'fenced')
      link.fail(new HotspareError('peer-away', `'${this.#options.settings.name}' is changing its role.`))
    return link
  }

  servings(): readonly Serving[] {
    return [...this.#servings]
  }

  #host(): LinkHost {
    const { log } = this.#options
    const role = this.#role
    return {
      options: this.#options,
      log,
      goesOn: (store, peer) => (role?.goesOn(store) ?? false) && !this.#below.owedTo(peer).includes(store),
      restartAt: () => role?.restartAt() ?? log.durable + 1,
      joined: (link, sync) => {
        if (role === undefined || role !== this.#role)
          throw new HotspareError('peer-away', `'${this.#options.settings.name}' is changing its role.`)
        this.#joined.add(link)
        role.joined(link, sync)
        this.#tell()
      },
      owe: (peer, stores) => this.#below.owe([peer], stores),
      left: link => {
        this.#joined.delete(link)
        role?.left(link)
        this.#tell()
      },
      mark: () => role?.mark(),
      onMark: listener => role?.onMark(listener) ?? (() => {}),
      declined: (link, store) => {
        // the downstream knows it by itself, too: without this debt it would be brought the store all the same
        this.#below.owe([link.peer], [store]).catch(error => link.fail(error))
        this.#options.tell(
          'warning',
          'store-declined',
          `'${link.peer}' does not take store '${store}' now: it is brought there when it has been released.`,
        )
        this.#tell()
      },
      changed: () => this.#tell(),
      onShipped: count => {
        this.#shipped += count
      },
    }
  }

  #tell(): void {
    this.#moved.tell()
    this.#role?.moved()
  }

  async invalidate(stores: readonly StoreName[]): Promise<void> {
    if (stores.length === 0) return
    const names = keptNames(this.#options)
    if (names.length > 0) await this.#below.owe(names, stores)
    await this.#role?.invalidate(stores)
  }

  async disconnect(reason: string): Promise<void> {
    await this.#endAll(new HotspareError('link-broken', `The link is made anew: ${reason}.`))
  }

  async #endAll(error?: Error): Promise<void> {
    await Promise.all(
      [...this.#servings].map(link => {
        if (error === undefined) return link.stop()
        link.fail(error)
        return link.over
      }),
    )
  }

  async setEnqueuing(on: boolean): Promise<void> {
    await this.#primary?.setEnqueuing(on)
  }

  async drain(signal: AbortSignal): Promise<number> {
    const primary = this.#primary
    if (primary === undefined)
      throw new HotspareError('usage', `'${this.#options.settings.name}' is no primary: it reads no stores.`)
    if (this.#kind === 'fenced') {
      await primary.readRest()
      return this.#options.log.durable
    }
    return primary.drain(signal)
  }

  async stopReading(): Promise<void> {
    await this.#primary?.stop()
  }

  async readRest(): Promise<readonly StoreName[]> {
    if (this.#primary === undefined || this.#kind !== 'fenced')
      throw new HotspareError('usage', `'${this.#options.settings.name}' is no primary that was replaced.`)
    return this.#primary.readRest()
  }

  async waitFor(peer: string, signal: AbortSignal): Promise<number> {
    const number = await this.drain(signal)
    await this.#moved.until(
      () => [...this.#joined].some(link => link.peer === peer && link.has(number)),
      signal,
    )
    return number
  }

  async probe(peer: string, bytes: number, signal: AbortSignal): Promise<ProbeReport> {
    const link = [...this.#servings].find(one => one.peer === peer && !one.signal.aborted)
    if (link === undefined) throw new HotspareError('peer-away', `'${peer}' is not connected.`)
    return probe(this.#options.machine, link.control, bytes, signal)
  }

  stores(): readonly StoreStatus[] {
    return this.#primary?.stores() ?? []
  }

  get shippedTransactions(): number {
    return this.#shipped
  }

  async close(): Promise<void> {
    await this.become({ kind: 'resting' })
  }
}
