/**
 * A standby becomes the primary: the steps, in an order that loses nothing of what the log here has.
 *
 *     asked       the old primary is asked to give way (planned only): from here on it may have done so
 *     taken dry   nothing more is taken; what the log has is in the replicas; the replicas are recovered and checked
 *     raised      the epoch is durable: the point of no return
 *     released    the copies are live stores
 *     announced   on-promote has run: the application may write
 *
 * Invariant: what was reached is durable before the next step begins, and every step may be done again. So a crash
 * anywhere leaves a standby that can be promoted anew (before `raised`), or a primary that goes on by itself with the
 * steps that are left (after it); calling twice does nothing twice but, after a crash in its middle, the hook.
 *
 * The worst outcome: the old primary has given way and this server dies before `raised`. Then nobody is the primary
 * until promote is called again, here or there.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { Position, StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import { newestEpoch, nextEpoch, type Reign } from './fencing.ts'

export interface PromoteOptions {
  /** The old primary hands over: nothing is lost. Needs a link to it. */
  readonly planned: boolean
  readonly dryRun: boolean
  /** Promotes although a store is not proved valid. */
  readonly force?: boolean
  readonly signal: AbortSignal
}

export type Lost =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'known'; readonly fromNumber: number; readonly sinceMs: number | undefined }
  | { readonly kind: 'unknown'; readonly afterNumber: number; readonly sinceMs: number | undefined }

export interface PromotedStore {
  readonly store: StoreName
  readonly path: string
  readonly position: Position | undefined
  readonly valid: boolean
  readonly findings: readonly string[]
  /** What it opens as lacks what the log here has of it from this number on: no commit since was consistent, or applied. */
  readonly lacks?: { readonly fromNumber: number; readonly sinceMs: number }
  /** It was too large to be read as a whole before it served: that is done afterwards, where its driver can. */
  readonly unread?: true
}

/** What the whole check of a store found, after it was promoted. */
export interface StoreCheck {
  readonly valid: boolean
  readonly findings: readonly string[]
  readonly atMs: number
}

export interface PromotionReport {
  readonly epoch: Epoch
  /** The last transaction that the new primary has. */
  readonly number: number
  readonly timeMs: number | undefined
  /** Nothing; what is known to be missing; or what may be, when the old primary could not be asked. */
  readonly lost: Lost
  readonly stores: readonly PromotedStore[]
  /** Milliseconds without a writer; of a planned one. */
  readonly withoutWriterMs?: number
  readonly steps: readonly { readonly step: string; readonly ms: number }[]
  /** It was the primary of this promotion already. */
  readonly already: boolean
}

/** What is durable of a promotion. */
export interface PromotionRecord {
  readonly epoch: Epoch
  readonly planned: boolean
  readonly reached: 'asked' | 'raised' | 'released' | 'announced'
  /** When it was recorded, ms since 1970. */
  readonly atMs: number
  /** From `raised` on. */
  readonly result?: PromotionResult
  /** Of stores that were unread, by their names. */
  readonly checks?: Readonly<Record<StoreName, StoreCheck>>
}

export type PromotionResult = Omit<PromotionReport, 'steps' | 'already' | 'epoch'>

export interface HandedOver {
  readonly number: number
  /** Since the old primary told its writers to stop, when its answer arrived. */
  readonly withoutWriterMs: number
}

/** Where the log here ends once nothing more is taken and all of it is in the replicas. */
export interface Dry {
  readonly number: number
  readonly timeMs: number | undefined
}

/** What a promotion does to the server that it happens in. Each may be called again after a crash or a failure. */
export interface PromotionHost {
  readonly name: string
  readonly clock: Clock
  reign(): Reign
  record(): PromotionRecord | undefined
  /** Durable when it resolves. */
  save(record: PromotionRecord): Promise<void>

  /** Throws what keeps this server from being promoted in this way, before anything is done. */
  assertPossible(options: PromoteOptions): void
  /** The last transaction of the log here. */
  last(): Dry
  /** What the upstream last said: its last transaction, and when it was heard. */
  upstreamStood(): { readonly number: number | undefined; readonly heardMs: number | undefined }

  /** Resolves when the old primary is fenced by `epoch` and all that it had is durable here. */
  askToHandOver(epoch: Epoch, signal: AbortSignal): Promise<HandedOver>
  /** Nothing more is taken from the upstream, what came whole is durable, and what the log has is in the replicas. */
  runDry(signal: AbortSignal): Promise<Dry>
  /** Closes the replicas, recovers them, and checks them as far as the time allows. */
  recover(signal: AbortSignal): Promise<readonly PromotedStore[]>
  /** Undoes `runDry` and `recover`: a standby as before. */
  resume(): Promise<void>

  /** The epoch, the role, and the record, at once and durably; then the log's. */
  raise(record: PromotionRecord): Promise<void>
  /** The copies become live stores. */
  release(): Promise<void>
  /** Runs on-promote. */
  announce(result: PromotionResult, epoch: Epoch): Promise<void>
  /** Reads the stores into the log and serves those below. */
  serve(): Promise<void>
}

export class Promotion {
  readonly #host: PromotionHost
  readonly #steps: { step: string; ms: number }[] = []

  constructor(host: PromotionHost) {
    this.#host = host
  }

  async run(options: PromoteOptions): Promise<PromotionReport> {
    const host = this.#host
    const reign = host.reign()
    if (reign.role === 'primary' && reign.fencedBy === undefined) return this.#reigning(reign, options)
    host.assertPossible(options)
    if (options.dryRun) return this.#dryRun(options)
    const raised = await this.#upToRaised(options)
    return this.#fromRaised(raised, false)
  }

  /** A crash, or a hook that failed, left steps of a promotion to do. */
  async goOn(): Promise<PromotionReport | undefined> {
    const record = this.#host.record()
    if (record === undefined || record.reached === 'asked' || record.reached === 'announced') return undefined
    return this.#fromRaised(record, true)
  }

  async #reigning(reign: Reign, options: PromoteOptions): Promise<PromotionReport> {
    const record = this.#host.record()
    if (record?.result !== undefined && record.reached !== 'announced' && !options.dryRun)
      return this.#fromRaised(record, true)
    const { number, timeMs } = this.#host.last()
    const result = record?.result ?? { number, timeMs, lost: { kind: 'nothing' }, stores: [] }
    return { ...result, epoch: reign.epoch, steps: [], already: true }
  }

  async #upToRaised(options: PromoteOptions): Promise<PromotionRecord> {
    const host = this.#host
    const { planned, signal } = options
    const epoch = this.#epoch()
    let handedOver: (HandedOver & { readonly atMs: number }) | undefined
    try {
      if (planned) {
        await this.#step('record', () => this.#save({ epoch, planned, reached: 'asked' }))
        const answer = await this.#step('hand over', () => host.askToHandOver(epoch, signal))
        handedOver = { ...answer, atMs: host.clock.nowMs() }
      }
      const dry = await this.#step('run dry', () => host.runDry(signal))
      if (handedOver !== undefined && dry.number < handedOver.number) {
        throw new HotspareError(
          'gap',
          `The old primary handed over at transaction ${handedOver.number}, and the log here ends at ${dry.number}.`,
        )
      }
      const stores = await this.#step('recover', () => host.recover(signal))
      if (options.force !== true) assertValid(stores)
      signal.throwIfAborted()
      const lost =
        lacking(stores) ?? (handedOver === undefined ? this.#lost(dry) : { kind: 'nothing' as const })
      const base: PromotionResult = { ...dry, lost, stores }
      // as far as it is known now; what on-promote takes is added when it has run
      const result: PromotionResult =
        handedOver === undefined
          ? base
          : {
              ...base,
              withoutWriterMs: handedOver.withoutWriterMs + host.clock.nowMs() - handedOver.atMs,
            }
      const record: PromotionRecord = {
        epoch,
        planned,
        reached: 'raised',
        atMs: host.clock.nowMs(),
        result,
      }
      await this.#step('raise the epoch', () => host.raise(record))
      return record
    } catch (error) {
      // what is undone is only what is done to be promoted; the fault itself is told
      if (host.reign().role === 'standby') await host.resume()
      throw handedOver === undefined ? error : givenWay(error, epoch)
    }
  }

  async #fromRaised(raised: PromotionRecord, already: boolean): Promise<PromotionReport> {
    const host = this.#host
    let record = raised
    let result = record.result
    if (result === undefined)
      throw new HotspareError('state-damaged', 'A promotion was raised without a result.')
    if (record.reached === 'raised') {
      await this.#step('release the copies', () => host.release())
      record = { ...record, reached: 'released' }
      await host.save(record)
    }
    try {
      await this.#step('on-promote', () => host.announce(result as PromotionResult, record.epoch))
    } catch (error) {
      // a part of the application may write already: it is followed, and only the hook is left to do
      await this.#step('serve', () => host.serve())
      throw error
    }
    if (result.withoutWriterMs !== undefined)
      result = { ...result, withoutWriterMs: result.withoutWriterMs + host.clock.nowMs() - record.atMs }
    record = { ...record, reached: 'announced', result }
    await host.save(record)
    await this.#step('serve', () => host.serve())
    return { ...result, epoch: record.epoch, steps: this.#steps, already }
  }

  #dryRun(options: PromoteOptions): PromotionReport {
    const host = this.#host
    const epoch = this.#epoch()
    const last = host.last()
    const would = (step: string) => ({ step, ms: 0 })
    const lost: Lost = options.planned ? { kind: 'nothing' } : this.#lost(last)
    return {
      ...last,
      epoch,
      lost,
      stores: [],
      steps: [
        ...(options.planned
          ? [
              would('ask the primary to stop its writers, to send all that it has, and to give way'),
              would('take all that it sends'),
            ]
          : [would('take nothing more from the upstream')]),
        would(`put all up to transaction ${last.number} or later into the replicas, and close them`),
        would('recover each replica, and check it'),
        would(`raise the epoch to ${epochText(epoch)}: from here on there is no way back`),
        would('make the copies live stores'),
        would('run on-promote'),
        would('read the stores into the log, and serve the standbys'),
      ],
      already: false,
    }
  }

  /** Of a hand-over that was begun: the old primary may stand under it already. */
  #epoch(): Epoch {
    const record = this.#host.record()
    const reign = this.#host.reign()
    const asked = record?.reached === 'asked' && compareEpochs(record.epoch, newestEpoch(reign)) >= 0
    return asked ? record.epoch : nextEpoch(reign, this.#host.name)
  }

  #lost(dry: Dry): Lost {
    const stood = this.#host.upstreamStood()
    if (stood.number !== undefined && stood.number > dry.number)
      return { kind: 'known', fromNumber: dry.number + 1, sinceMs: dry.timeMs }
    return { kind: 'unknown', afterNumber: dry.number, sinceMs: stood.heardMs }
  }

  async #save(record: Omit<PromotionRecord, 'atMs'>): Promise<void> {
    await this.#host.save({ ...record, atMs: this.#host.clock.nowMs() })
  }

  async #step<T>(step: string, act: () => Promise<T>): Promise<T> {
    const fromMs = this.#host.clock.nowMs()
    try {
      return await act()
    } finally {
      this.#steps.push({ step, ms: this.#host.clock.nowMs() - fromMs })
    }
  }
}

/** What is missing of what the log here has: the least of all stores. */
function lacking(stores: readonly PromotedStore[]): Lost | undefined {
  const all = stores.flatMap(({ lacks }) => lacks ?? []).sort((a, b) => a.fromNumber - b.fromNumber)
  const [first] = all
  if (first === undefined) return undefined
  return {
    kind: 'known',
    fromNumber: first.fromNumber,
    sinceMs: Math.min(...all.map(({ sinceMs }) => sinceMs)),
  }
}

function assertValid(stores: readonly PromotedStore[]): void {
  const invalid = stores.filter(store => !store.valid)
  if (invalid.length === 0) return
  const what = invalid.map(({ store, findings }) => `${store} (${findings.join('; ')})`).join(', ')
  throw new HotspareError(
    'target-invalid',
    `Nothing was promoted: not proved valid: ${what}. Promote another standby, or this one by force.`,
    { details: { stores: invalid.map(({ store }) => store) } },
  )
}

/** The old primary cannot be asked back: its epoch is over. */
function givenWay(error: unknown, epoch: Epoch): unknown {
  if (!(error instanceof HotspareError)) return error
  return new HotspareError(
    error.code,
    `The old primary has given way to epoch ${epochText(epoch)}, and this server is not promoted yet. Promote it again. ${error.message}`,
    { cause: error, details: error.details },
  )
}
