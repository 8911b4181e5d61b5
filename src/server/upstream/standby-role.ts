/**
 * What a standby does for those below it: it ships its log, and brings them stores from a frozen view of its own copies,
 * while it goes on applying.
 *
 * Nobody else is concerned by that: the log stays what it is, and goes on for the downstream after the number at which
 * the copy was frozen.
 */
import type { CopyOptions, CopySource, Driver } from '../../drivers/driver.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Position, StoreName } from '../../stream/entry.ts'
import { parseNumberedPosition } from '../../stream/numbered-position.ts'
import { retryDelayMs } from '../../stream/retry.ts'
import type { Downstream, RestingCopy } from '../downstream/downstream.ts'
import { withinTime } from '../within-time.ts'
import { abortable } from './abortable.ts'
import type { DownstreamLink } from './downstream-link.ts'
import type { RoleOptions } from './primary-role.ts'
import type { Role } from './role.ts'
import type { Mark } from './shipping.ts'
import { SnapshotSource } from './snapshot-source.ts'
import { syncRound } from './sync-round.ts'

/** What the copy itself still lacks is waited for so long at once. */
const waitMs = 1000
/** Who is below has stopped applying a store by then, or its session ends. */
const stopMsMax = 10_000

type Standby = Pick<Downstream, 'whileResting' | 'applied' | 'mark' | 'onMark'>

interface Frozen {
  readonly source: CopySource
  /** All of the store up to this transaction is in it. */
  readonly number: number
  /** The driver's own. */
  readonly position: Position
}

interface Bringing {
  readonly stop: AbortController
  readonly over: Promise<void>
}

export class StandbyRole implements Role {
  readonly #options: RoleOptions
  readonly #downstream: Standby
  readonly #closing = new AbortController()
  readonly #bringing = new Map<DownstreamLink, Map<StoreName, Bringing>>()

  constructor(options: RoleOptions, downstream: Standby) {
    this.#options = options
    this.#downstream = downstream
  }

  goesOn(): boolean {
    return true
  }

  /** From there on the log has what follows on any of the copies. */
  restartAt(): number {
    const { log } = this.#options
    return Math.max(log.first, Math.min(log.durable, this.#downstream.applied) + 1)
  }

  mark(): Mark | undefined {
    return this.#downstream.mark
  }

  onMark(listener: () => void): () => void {
    return this.#downstream.onMark(listener)
  }

  joined(link: DownstreamLink, sync: readonly StoreName[]): void {
    this.#bringing.set(link, new Map())
    for (const store of sync) this.#bring(link, store, link.prepareSync(store))
  }

  left(link: DownstreamLink): void {
    this.#bringing.delete(link)
  }

  moved(): void {
    // nobody below waits for anybody else
  }

  async invalidate(stores: readonly StoreName[]): Promise<void> {
    const work = this.#options
      .links()
      .flatMap(link => stores.filter(store => link.takes(store)).map(store => this.#hold(link, store)))
    await Promise.all(work)
  }

  async #hold(link: DownstreamLink, store: StoreName): Promise<void> {
    const { machine } = this.#options
    const before = this.#bringing.get(link)?.get(store)
    before?.stop.abort()
    await before?.over
    const held = link.prepareSync(store)
    this.#bring(link, store, held)
    const what = `'${link.peer}' did not stop applying store '${store}'`
    await withinTime(machine.clock, stopMsMax, this.#closing.signal, what, left =>
      abortable(held, left),
    ).catch(
      // without the session nothing reaches it that does not go with what it has
      error => link.fail(error),
    )
  }

  stores(): readonly [] {
    return []
  }

  async stop(): Promise<void> {
    this.#closing.abort()
    await Promise.all(
      [...this.#bringing.values()].flatMap(stores => [...stores.values()].map(({ over }) => over)),
    )
  }

  close(): Promise<void> {
    return this.stop()
  }

  #bring(link: DownstreamLink, store: StoreName, prepared: Promise<void>): void {
    const stop = new AbortController()
    const signal = AbortSignal.any([stop.signal, link.signal, this.#closing.signal])
    const over = this.#bringAll(link, store, prepared, signal).catch(error => this.#options.failed(error))
    this.#bringing.get(link)?.set(store, { stop, over })
  }

  async #bringAll(
    link: DownstreamLink,
    store: StoreName,
    prepared: Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    await prepared
    let told: string | undefined
    for (let attempt = 1; link.awaits(store) && !signal.aborted; attempt++) {
      try {
        await this.#bringOnce(link, store, signal)
        return
      } catch (error) {
        if (signal.aborted || !link.awaits(store)) return
        const code = error instanceof HotspareError ? error.code : 'internal'
        const message = error instanceof Error ? error.message : String(error)
        if (told !== message && code !== 'target-busy') {
          this.#options.tell(
            'warning',
            code,
            `Store '${store}' cannot be brought to '${link.peer}' yet: ${message}`,
          )
          told = message
        }
        const delayMs = Math.max(waitMs, retryDelayMs(error, attempt, false) ?? waitMs)
        await this.#options.machine.clock.sleep(delayMs, signal)
      }
    }
  }

  async #bringOnce(link: DownstreamLink, store: StoreName, signal: AbortSignal): Promise<void> {
    const { machine, below, tell } = this.#options
    const { source, number, position } = await this.#freeze(link, store, signal)
    try {
      await syncRound({
        store,
        source,
        peers: [{ peer: link, remote: link.remote(store) }],
        clock: machine.clock,
        signal,
        msMax: Number.POSITIVE_INFINITY,
        compares: 'always',
        onFault: (_, error) => link.faulty(store, error),
      })
      await this.#end(link, store, number, position)
      await below.settle(link.peer, store)
      link.synced(store)
      tell(
        'info',
        'store-synchronised',
        `'${link.peer}' has store '${store}', and goes on with the log after ${number}.`,
      )
    } finally {
      await source.close()
    }
  }

  async #end(link: DownstreamLink, store: StoreName, number: number, position: Position): Promise<void> {
    try {
      await link.remote(store).end(number, position)
    } catch (error) {
      link.faulty(store, error)
      throw error
    }
  }

  /** A view of the copy at a transaction of the log, and what it is there. */
  async #freeze(link: DownstreamLink, store: StoreName, signal: AbortSignal): Promise<Frozen> {
    const frozen = this.#downstream.whileResting(store, signal, at => this.#view(link, store, at, signal))
    try {
      // who waits for the copy may wait long, and looks at the signal only then
      return await abortable(frozen, signal)
    } catch (error) {
      // a view that comes after all would hold the copy's log
      void frozen.then(({ source }) => source.close()).catch(() => undefined)
      throw error
    }
  }

  async #view(link: DownstreamLink, store: StoreName, at: RestingCopy, signal: AbortSignal): Promise<Frozen> {
    const source = await openCopySource(at.driver, {
      ...at.copy,
      signal,
      onProgress() {},
      onNotice: ({ code, message }) => this.#options.tell('info', code, `Store '${store}': ${message}`),
    })
    try {
      signal.throwIfAborted()
      const numbered = parseNumberedPosition(source.commit.position)
      const position = numbered?.position ?? source.commit.position
      // a copy that rests further than its newest frozen state has no number for that
      const number = position === at.position ? at.number : numbered?.number
      if (number === undefined || number < link.startedAt - 1) {
        throw new HotspareError(
          'target-busy',
          `The copy of store '${store}' is at transaction ${number}, and '${link.peer}' at ${link.startedAt - 1}.`,
        )
      }
      return { source, number, position }
    } catch (error) {
      await source.close()
      throw error
    }
  }
}

async function openCopySource(driver: Driver, options: CopyOptions): Promise<CopySource> {
  if (driver.openCopySource !== undefined) return driver.openCopySource(options)
  if (driver.snapshot === undefined)
    throw new HotspareError('unsupported', `The driver '${driver.name}' cannot freeze a copy.`)
  return new SnapshotSource({ store: options.store, snapshot: await driver.snapshot(options) })
}
