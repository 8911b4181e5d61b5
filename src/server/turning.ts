/** A rejoining as it happens in a running server: see failover/rejoining.ts for the order and what a crash leaves. */
import type { LogView } from '../failover/common-number.ts'
import { newestEpoch, type Reign } from '../failover/fencing.ts'
import type { MetUpstream, RejoinHost, RejoinRecord, WholeAside } from '../failover/rejoining.ts'
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { applySubscriber } from './downstream/downstream.ts'
import { hookEnvironment } from './hook-environment.ts'
import type { ServerParts } from './parts.ts'
import { patiently } from './patiently.ts'
import type { Link } from './peer-link.ts'
import { reignOf } from './reign.ts'
import type { StoreState } from './state.ts'
import { putStoreAside } from './store-aside.ts'
import type { UpstreamTaking } from './taking.ts'
import { withinTime } from './within-time.ts'

const meetMsMax = 30_000
const answerMsMax = 10_000
const againMs = 100
const renewMsMax = 5_000

export class Turning implements RejoinHost {
  readonly clock: Clock
  readonly #parts: ServerParts
  readonly #taking: UpstreamTaking
  /** Begins to do what the role says: as a standby after `turn`, as it was before after `resume`. */
  readonly #begin: () => Promise<void>
  #quiet = false
  /** Where the copies stood when they were closed. */
  #stood: ReadonlyMap<StoreName, number | undefined> = new Map()

  constructor(parts: ServerParts, taking: UpstreamTaking, begin: () => Promise<void>) {
    this.#parts = parts
    this.#taking = taking
    this.#begin = begin
    this.clock = parts.machine.clock
  }

  reign(): Reign {
    return reignOf(this.#parts.state.value)
  }

  record(): RejoinRecord | undefined {
    return this.#parts.state.value.rejoining
  }

  async save(record: RejoinRecord | undefined): Promise<void> {
    await this.#parts.state.update(({ rejoining: _before, ...state }) =>
      record === undefined ? state : { ...state, rejoining: record },
    )
  }

  get log(): LogView & { readonly stream: string } {
    return this.#parts.log
  }

  async meet(upstream: string, signal: AbortSignal): Promise<MetUpstream> {
    const { settings } = this.#parts
    let met = await this.#ask(upstream, signal)
    // what fenced us was begun by it: the session in which it says so is on its way
    for (const endMs = this.clock.nowMs() + renewMsMax; this.clock.nowMs() < endMs; ) {
      const newest = newestEpoch(this.reign())
      if (newest.by !== upstream || compareEpochs(met.epoch, newest) >= 0) break
      await this.clock.sleep(againMs, signal)
      met = await this.#ask(upstream, signal)
    }
    const { epoch, stream, path, first, next } = met
    // one that is not promoted yet says what was true before
    const isOld = compareEpochs(epoch, newestEpoch(this.reign())) < 0
    if (path.includes(settings.name) && !isOld) {
      throw new HotspareError(
        'loop',
        `'${upstream}' takes its log from this server (${path.join(' > ')}): it cannot be its upstream too.`,
      )
    }
    const chainAfter = async (number: number) => {
      const told = await this.#withLink(upstream, signal, (link, left) => this.#askChain(link, number, left))
      return told.chain
    }
    return { epoch, stream, log: { first, next, chainAfter } }
  }

  #ask(upstream: string, signal: AbortSignal) {
    const { log } = this.#parts
    return this.#withLink(upstream, signal, async (link, left) => ({
      ...link.session.peer,
      ...(await this.#askChain(link, log.first - 1, left)),
    }))
  }

  /** Over whatever session there is: they are made anew while roles change. */
  async #withLink<T>(
    upstream: string,
    signal: AbortSignal,
    work: (link: Link, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const peer = this.#parts.links.peer(upstream)
    try {
      return await withinTime(
        this.clock,
        meetMsMax,
        signal,
        `There was no link to '${upstream}'`,
        async left => {
          for (;;) {
            try {
              return await work(await peer.connected(left), left)
            } catch (error) {
              if (left.aborted || !isBroken(error)) throw error
              await this.clock.sleep(againMs, left)
            }
          }
        },
      )
    } catch (error) {
      if (!(error instanceof HotspareError) || error.code !== 'timed-out') throw error
      throw new HotspareError('peer-away', error.message, { cause: error })
    }
  }

  #askChain(link: Link, number: number, signal: AbortSignal) {
    return withinTime(this.clock, answerMsMax, signal, `'${link.peer}' did not answer`, left =>
      link.control.ask({ type: 'chain-ask', number }, ['chain-told'], left),
    )
  }

  async quiet(): Promise<readonly WholeAside[]> {
    this.#quiet = true
    if (this.reign().role === 'primary') return this.#quietPrimary()
    await this.#taking.rest()
    const { downstream } = this.#parts
    await this.#parts.become({ kind: 'resting' })
    this.#stood = new Map(downstream?.stores().map(({ store, number }) => [store, number]))
    await downstream?.close()
    this.#parts.downstream = undefined
    return []
  }

  async #quietPrimary(): Promise<readonly WholeAside[]> {
    const { settings, machine, acts, state, log } = this.#parts
    // whatever started it again meanwhile
    await acts.hook('on-demote', hookEnvironment(settings, newestEpoch(reignOf(state.value)), log.next - 1))
    for (const { store, path } of settings.stores) {
      const writers = (await machine.writersOf?.(path)) ?? []
      if (writers.length === 0) continue
      throw new HotspareError(
        'source-busy',
        `This server cannot rejoin: ${writers.join(', ')} still has ${store} (${path}) open for writing. End it, then rejoin.`,
      )
    }
    const wholes: WholeAside[] = []
    for (const store of await this.#readTheRest()) {
      const path = await this.#putStoreAside(store)
      if (path !== undefined) wholes.push({ store, path })
    }
    return wholes
  }

  /** Nobody takes anything from the log any more, so its limit does not count. */
  async #readTheRest(): Promise<readonly StoreName[]> {
    const { upstream, log } = this.#parts
    const { limits } = log
    log.setLimits({ ...limits, bytesMax: Number.MAX_SAFE_INTEGER, whenFull: 'block' })
    try {
      await this.#parts.become({ kind: 'fenced' })
      return await upstream.readRest()
    } finally {
      await this.#parts.become({ kind: 'resting' })
      log.setLimits(limits)
    }
  }

  /** What no log can say of it is kept as it is. */
  async #putStoreAside(store: StoreName): Promise<string | undefined> {
    const { settings, machine, tell } = this.#parts
    const { path } = settings.stores.find(one => one.store === store) ?? {}
    if (path === undefined || (await machine.storage.stat(path)) === undefined) return undefined
    const target = await this.#freeName(`${store}-${new Date(this.clock.nowMs()).toISOString()}`, '')
    await putStoreAside(machine.storage, path, target)
    tell(
      'warning',
      'put-aside',
      `Store '${store}' was put aside as a whole, since it cannot be told what only this server has of it: ${target}.`,
    )
    return target
  }

  async resume(): Promise<void> {
    if (!this.#quiet) return
    this.#quiet = false
    await this.#begin()
  }

  asidePath(afterNumber: number): Promise<string> {
    const { epoch } = this.#parts.state.value
    return this.#freeName(`epoch-${epoch.number}-from-${afterNumber + 1}`, '.txlog')
  }

  async #freeName(name: string, suffix: string): Promise<string> {
    const { machine, settings } = this.#parts
    const directory = `${settings.stateDirectory}/aside`
    await machine.storage.makeDirectory(directory)
    await machine.storage.syncDirectory(settings.stateDirectory)
    const taken = new Set(await machine.storage.list(directory))
    for (let i = 1; ; i++) {
      const file = i === 1 ? name + suffix : `${name}-${i}${suffix}`
      if (!taken.has(file)) return `${directory}/${file}`
    }
  }

  async cutAfter(number: number, path: string): Promise<void> {
    const { log, tell } = this.#parts
    const { transactions } = await log.cutAfter(number, path)
    tell(
      'warning',
      'put-aside',
      `${transactions} transactions from ${number + 1} on, which the new upstream does not have, were put aside: ${path}. 'hotspare queue show --file' shows them.`,
    )
  }

  async turn(upstream: string, epoch: Epoch): Promise<void> {
    const { state, log, settings, tell } = this.#parts
    const wasPrimary = this.reign().role === 'primary'
    const fresh: StoreState = { asFound: true }
    await state.update(before => {
      const {
        fencedBy,
        handedOver: _handedOver,
        rejoining: _rejoining,
        promotion: _promotion,
        ...kept
      } = before
      const newest = newestEpoch(reignOf(before))
      if (fencedBy !== undefined && compareEpochs(epoch, newest) < 0)
        throw new HotspareError('epoch-old', `Meanwhile epoch ${epochText(newest)} was begun.`)
      const stores = Object.fromEntries(
        settings.stores.map(({ store }) => [
          store,
          wasPrimary ? fresh : this.#goesOn(store, before.stores[store] ?? {}),
        ]),
      )
      return { ...kept, role: 'standby', upstream, epoch: newer(epoch, newest), stores }
    })
    await patiently(this.#parts, 'Going over to another upstream', async () => {
      await log.giveUpEpoch()
      // who is below says anew from where it goes on
      for (const { name } of log.subscribers()) if (name !== applySubscriber) await log.unsubscribe(name)
    })
    tell('info', 'rejoined', `This server is a standby of ${upstream}, epoch ${epochText(epoch)}.`)
    this.#quiet = false
    await this.#begin()
  }

  /** A copy that holds what was cut from the log has to be compared. */
  #goesOn(store: StoreName, known: StoreState): StoreState {
    const { next } = this.#parts.log
    const number = this.#stood.get(store)
    const { base, until, quarantine, asFound } = known
    return {
      ...(asFound === undefined ? {} : { asFound }),
      ...(base !== undefined && number !== undefined && number < next
        ? { base, ...(until === undefined ? {} : { until }) }
        : {}),
      // of a transaction that was cut it means nothing: the store is compared
      ...(quarantine !== undefined && quarantine.number < next ? { quarantine } : {}),
    }
  }
}

function isBroken(error: unknown): boolean {
  return error instanceof HotspareError && ['peer-away', 'link-broken'].includes(error.code)
}

function newer(a: Epoch, b: Epoch): Epoch {
  return compareEpochs(a, b) >= 0 ? a : b
}
