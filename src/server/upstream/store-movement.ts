/**
 * Moves one store of a primary beside the log: to those who cannot go on with the log, and to all others that are there,
 * so that all of them stand at one and the same commit, from which the log goes on.
 *
 * Nothing of the store is put into the log meanwhile. What a crash leaves: before the log says that it goes on from there,
 * it goes on from where it was, and who was touched has no number any more and compares; after it, whoever was not told
 * compares.
 */
import type { Log } from '../../log/log.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Position, StoreName } from '../../stream/entry.ts'
import type { Source } from '../../stream/source.ts'
import { applySubscriber } from '../downstream/downstream.ts'
import type { DownstreamLink } from './downstream-link.ts'
import type { StoreFeedOptions } from './store-feed.ts'
import { syncRound } from './sync-round.ts'

/** Subscribers that are not connected are waited for so long, so that they need not compare by themselves later. */
const absentMsMax = 30_000
/** A newcomer is brought near for so long after its first consistent commit; all together for so long. */
const nearMsMax = 30_000
const togetherMsMax = 2_000

export class StoreMovement {
  readonly store: StoreName
  readonly #options: StoreFeedOptions
  /** Links that are being told that the store goes on with the log. */
  readonly #ending = new Map<DownstreamLink, Promise<void>>()
  #settling = false

  constructor(options: StoreFeedOptions) {
    this.#options = options
    this.store = options.store.store
  }

  /** It is decided who takes part; whoever comes now is brought there by the next. */
  get settling(): boolean {
    return this.#settling
  }

  /** Those that wait for the store, and are not merely about to hear that they have it. */
  needing(): DownstreamLink[] {
    return this.#options.links().filter(link => link.awaits(this.store) && !this.#ending.has(link))
  }

  /**
   * Brings the store to all that need it, and the others that are connected to the very same state; then the log goes on
   * from there. Order: all of them are there, durably; who is not there owes a comparison, durably; the log says that it
   * goes on from there, durably; they are told. Undefined when those who needed it are gone, and nothing has changed; else where the log goes on.
   * `asOne`: they stood together, and nobody is brought near by itself first.
   */
  async run(source: Source, asOne: boolean, signal: AbortSignal): Promise<Position | undefined> {
    const { machine, below, log, tell } = this.#options
    const beganMs = machine.clock.nowMs()
    await Promise.all(this.#ending.values())
    const needing = this.needing()
    if (needing.length === 0) return undefined
    tell(
      'info',
      'store-synchronising',
      `Store '${this.store}' is brought to ${needing.map(link => `'${link.peer}'`).join(', ')}. Meanwhile nothing of it is put into the log.`,
    )
    // one that stood together goes on together; a newcomer is brought near by itself
    if (!asOne) for (const link of needing) await this.#bringNear(source, link, signal)
    await this.#awaitAbsent(beganMs, signal)
    this.#settling = true
    try {
      const together = this.#options.links().filter(link => link.joins(this.store))
      for (const link of together) link.toSync(this.store)
      const moved = await this.#round(
        source,
        together,
        together.length === 1 ? nearMsMax : togetherMsMax,
        signal,
      )
      if (moved === undefined) return undefined
      const { position, peers } = moved
      await log.sync()
      const number = log.durable
      await this.#oweOthers(peers)
      await log.rebase(this.store, position)
      await below.readIn(this.store, log.epoch)
      for (const link of peers) this.#ending.set(link, this.#end(link, number, position))
      return position
    } finally {
      this.#settling = false
    }
  }

  /** Whoever is kept for and is not among these compares when it comes. */
  async #oweOthers(there: readonly DownstreamLink[]): Promise<void> {
    const { log, below } = this.#options
    const names = new Set(there.map(({ peer }) => peer))
    const others = keptNames(log).filter(name => !names.has(name))
    if (others.length > 0) await below.owe(others, [this.store])
  }

  async #bringNear(source: Source, link: DownstreamLink, signal: AbortSignal): Promise<void> {
    // alone it is brought all the way by what comes next
    const others = keptNames(this.#options.log).filter(name => name !== link.peer)
    if (others.length > 0) await this.#round(source, [link], nearMsMax, signal)
  }

  /** Undefined when those who were to take part are gone. A source that refuses to go on from where a copy stands compares. */
  async #round(source: Source, links: readonly DownstreamLink[], msMax: number, signal: AbortSignal) {
    try {
      return await this.#move(source, links, msMax, false, signal)
    } catch (error) {
      // what a broken link made of the source's reading is no fault of the source
      if (!links.every(link => link.takes(this.store))) return undefined
      if (!(error instanceof HotspareError) || (error.code !== 'diverged' && error.code !== 'gap'))
        throw error
      this.#options.tell(
        'warning',
        'comparing',
        `Store '${this.store}' does not follow on what ${links.map(link => `'${link.peer}'`).join(', ')} has, so the two are compared: ${error.message}`,
      )
      return await this.#move(source, links, msMax, true, signal)
    }
  }

  async #move(
    source: Source,
    links: readonly DownstreamLink[],
    msMax: number,
    compare: boolean,
    signal: AbortSignal,
  ) {
    const peers = links
      .filter(link => link.takes(this.store))
      .map(link => ({ peer: link, remote: link.remote(this.store) }))
    if (peers.length === 0) return undefined
    return syncRound({
      store: this.store,
      source,
      peers,
      clock: this.#options.machine.clock,
      signal,
      msMax,
      ...(compare ? { compares: 'told' } : {}),
      onFault: (link, error) => link.faulty(this.store, error),
    })
  }

  async #awaitAbsent(beganMs: number, signal: AbortSignal): Promise<void> {
    const { log, machine, links, joined, below } = this.#options
    const isAbsent = () => {
      const present = new Set(links().map(link => link.peer))
      return keptNames(log).some(name => !present.has(name) && !below.owedTo(name).includes(this.store))
    }
    const time = new AbortController()
    const leftMs = beganMs + absentMsMax - machine.clock.nowMs()
    const timing = machine.clock.sleep(leftMs, AbortSignal.any([time.signal, signal]))
    let over = false
    void timing.then(() => {
      over = true
      joined.tell()
    })
    try {
      while (!over && isAbsent()) await joined.next(signal)
    } finally {
      time.abort()
    }
    signal.throwIfAborted()
  }

  async #end(link: DownstreamLink, number: number, position: Position): Promise<void> {
    const { below, tell } = this.#options
    try {
      await link.remote(this.store).end(number, position)
      await below.settle(link.peer, this.store)
      link.synced(this.store)
      tell(
        'info',
        'store-synchronised',
        `'${link.peer}' has store '${this.store}', and goes on with the log after ${number}.`,
      )
    } catch (error) {
      link.faulty(this.store, error)
    } finally {
      this.#ending.delete(link)
    }
  }
}

function keptNames(log: Log): string[] {
  return log
    .subscribers()
    .filter(({ name, kept }) => kept && name !== applySubscriber)
    .map(({ name }) => name)
}
