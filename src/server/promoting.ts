/** A promotion as it happens in a running server: see failover/promotion.ts for the order and what a crash leaves. */
import { meetEpoch, newestEpoch, type Reign } from '../failover/fencing.ts'
import type {
  Dry,
  HandedOver,
  PromotedStore,
  PromoteOptions,
  PromotionHost,
  PromotionRecord,
  PromotionResult,
} from '../failover/promotion.ts'
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import { metaPath } from '../replica/meta.ts'
import { sidecarPath } from '../replica/sidecar.ts'
import { type Epoch, epochText } from '../stream/epoch.ts'
import { CopyChecks } from './copy-checks.ts'
import { applySubscriber } from './downstream/downstream.ts'
import { hookEnvironment } from './hook-environment.ts'
import type { ServerParts } from './parts.ts'
import type { Link } from './peer-link.ts'
import { reignOf } from './reign.ts'
import type { UpstreamTaking } from './taking.ts'
import { withinTime } from './within-time.ts'

/** The old primary stops its writers and sends all that it has. */
const handOverMsMax = 180_000
/** For a link that broke meanwhile to come back. */
const reconnectMsMax = 15_000
/** It may break each time that it is asked. */
const againMs = 100
/** What was said to be sent is on its way, or never comes. */
const arrivalMsMax = 30_000

export class Promoting implements PromotionHost {
  readonly name: string
  readonly clock: Clock
  readonly #parts: ServerParts
  readonly #taking: UpstreamTaking
  readonly #checks: CopyChecks
  /** Begins to be the primary. */
  readonly #reigned: () => Promise<void>

  constructor(parts: ServerParts, taking: UpstreamTaking, reigned: () => Promise<void>) {
    this.#parts = parts
    this.#taking = taking
    this.#reigned = reigned
    this.#checks = new CopyChecks(parts)
    this.name = parts.settings.name
    this.clock = parts.machine.clock
  }

  reign(): Reign {
    return reignOf(this.#parts.state.value)
  }

  record(): PromotionRecord | undefined {
    return this.#parts.state.value.promotion
  }

  async save(record: PromotionRecord): Promise<void> {
    await this.#parts.state.update(state => ({ ...state, promotion: record }))
  }

  assertPossible({ planned, force }: PromoteOptions): void {
    const { state, downstream } = this.#parts
    const { role, fencedBy, upstream } = state.value
    if (role === 'primary') {
      if (fencedBy !== undefined) this.#assertMayReturn(fencedBy, planned)
      return
    }
    const unmade = (downstream?.stores() ?? []).filter(store => store.consistent === undefined)
    if (unmade.length > 0 && force !== true) {
      const names = unmade.map(({ store }) => store).join(', ')
      throw new HotspareError(
        'target-incomplete',
        `Nothing was promoted: there is no consistent copy yet of ${names}. Wait until they are synchronised, or promote another standby.`,
      )
    }
    if (!planned) return
    const link = upstream === undefined ? undefined : this.#parts.links.peer(upstream).current
    if (link === undefined) {
      throw new HotspareError(
        'peer-away',
        `A planned promotion needs the primary${upstream === undefined ? '' : ` (${upstream})`}, and there is no link to it. Without 'planned', what it has and this server has not is lost.`,
      )
    }
    if (link.session.peer.role !== 'primary') {
      throw new HotspareError(
        'usage',
        `'${upstream}' is a standby itself: a planned promotion is that of a server which takes its log from the primary.`,
      )
    }
  }

  last(): Dry {
    const { log } = this.#parts
    const number = log.next - 1
    const last = [...log.marks().values()].find(mark => mark.number === number)
    return { number, timeMs: last?.timeMs }
  }

  upstreamStood(): { readonly number: number | undefined; readonly heardMs: number | undefined } {
    const { downstream, links, state } = this.#parts
    const { upstream } = state.value
    const heard = upstream !== undefined && links.has(upstream) ? links.peer(upstream).heardMs : undefined
    return {
      number: downstream?.mark?.number,
      heardMs: Math.max(heard ?? 0, downstream?.mark?.heardMs ?? 0) || undefined,
    }
  }

  async askToHandOver(epoch: Epoch, signal: AbortSignal): Promise<HandedOver> {
    const { links, state, tell } = this.#parts
    const upstream = state.value.upstream ?? ''
    tell('info', 'hand-over', `${upstream} is asked to hand over to epoch ${epochText(epoch)}.`)
    return withinTime(
      this.clock,
      handOverMsMax,
      signal,
      'The old primary did not hand over in time',
      async within => {
        for (;;) {
          const link = await withinTime(
            this.clock,
            reconnectMsMax,
            within,
            `The link to ${upstream} did not come back`,
            left => links.peer(upstream).connected(left),
          )
          const answer = await this.#ask(link, epoch, within)
          if (answer !== undefined) return answer
          // it may have given way, or not: only it knows
          await this.clock.sleep(againMs, within)
        }
      },
    )
  }

  /** Undefined: the link broke, and it must be asked again. */
  async #ask(link: Link, epoch: Epoch, signal: AbortSignal): Promise<HandedOver | undefined> {
    const { log } = this.#parts
    let answer: Awaited<ReturnType<typeof link.control.ask<'handed-over' | 'not-handed-over'>>>
    try {
      answer = await link.control.ask(
        { type: 'hand-over', epoch },
        ['handed-over', 'not-handed-over'],
        signal,
      )
    } catch (error) {
      if (signal.aborted || !isAway(error)) throw error
      await link.session.over
      return undefined
    }
    if (answer.type === 'not-handed-over')
      throw new HotspareError('not-handed-over', `${link.peer} did not hand over: ${answer.message}`)
    const { number, chain, withoutWriterMs } = answer
    await withinTime(
      this.clock,
      arrivalMsMax,
      signal,
      `Transaction ${number}, the old primary's last, did not arrive`,
      left => log.wait(number - 1, left),
    )
    if ((await log.chainAfter(number)) !== chain || log.next - 1 !== number) {
      throw new HotspareError(
        'digest-mismatch',
        `The log here is not the one that ${link.peer} handed over at transaction ${number}.`,
      )
    }
    return { number, withoutWriterMs: withoutWriterMs + (link.session.figures().roundTripMs ?? 0) / 2 }
  }

  async runDry(signal: AbortSignal): Promise<Dry> {
    await this.#taking.rest()
    const { downstream } = this.#parts
    return downstream === undefined ? this.last() : downstream.runDry(signal)
  }

  async recover(signal: AbortSignal): Promise<readonly PromotedStore[]> {
    const { downstream } = this.#parts
    if (downstream === undefined) return []
    return this.#checks.run(await downstream.closeCopies(), signal)
  }

  async resume(): Promise<void> {
    this.#checks.cancel()
    await this.#parts.downstream?.resume()
    this.#taking.go()
  }

  async raise(record: PromotionRecord): Promise<void> {
    const { state, log, tell } = this.#parts
    await state.update(before => {
      const { upstream: _upstream, fencedBy: _fencedBy, handedOver: _handedOver, ...rest } = before
      const { rejoining: _rejoining, ...kept } = rest
      const met = meetEpoch(reignOf(before), record.epoch, 'other')
      // learnt of while this was under way; an epoch of our own that the old primary stands under is not newer
      if (met.kind === 'older') {
        throw new HotspareError(
          'epoch-old',
          `Meanwhile ${epochText(newestEpoch(reignOf(before)))} was begun: nothing was promoted. Promote again if this server is to be the primary nevertheless.`,
        )
      }
      return { ...kept, role: 'primary', epoch: record.epoch, promotion: record }
    })
    await log.beginEpoch(record.epoch)
    tell(
      'warning',
      'promoted',
      `This server is the primary of epoch ${epochText(record.epoch)}, from transaction ${(record.result?.number ?? log.next - 1) + 1} on.`,
    )
  }

  async release(): Promise<void> {
    const parts = this.#parts
    await this.#parts.become({ kind: 'resting' })
    await parts.downstream?.close()
    parts.downstream = undefined
    const { storage } = parts.machine
    for (const { path } of parts.settings.stores) {
      const sidecar = sidecarPath(path)
      // what is no copy any more is not to be followed, checked or cloned as one
      if ((await storage.stat(metaPath(sidecar))) !== undefined) {
        await storage.rename(metaPath(sidecar), `${metaPath(sidecar)}.promoted`)
        await storage.syncDirectory(sidecar)
      }
    }
    await parts.log.unsubscribe(applySubscriber)
  }

  async announce(result: PromotionResult, epoch: Epoch): Promise<void> {
    const { acts, settings } = this.#parts
    await acts.hook('on-promote', hookEnvironment(settings, epoch, result.number))
  }

  async serve(): Promise<void> {
    await this.#reigned()
  }

  /** An old primary takes its reign back: only while nobody else is seen to hold it. */
  #assertMayReturn(fencedBy: Epoch, planned: boolean): void {
    const { links } = this.#parts
    if (planned) {
      throw new HotspareError(
        'fenced',
        `This server was replaced by epoch ${epochText(fencedBy)}. Let it rejoin first; then a planned promotion brings it back.`,
      )
    }
    const link = links.has(fencedBy.by) ? links.peer(fencedBy.by).current : undefined
    if (link === undefined || link.session.peer.role !== 'primary') return
    throw new HotspareError(
      'fenced',
      `${fencedBy.by} is the primary of epoch ${epochText(fencedBy)}, and it is connected. Let this server rejoin; then a planned promotion brings it back.`,
    )
  }
}

function isAway(error: unknown): boolean {
  return error instanceof HotspareError && ['peer-away', 'link-broken'].includes(error.code)
}
