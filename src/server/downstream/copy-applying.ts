/**
 * Applies what the log brings to a copy, again and again: while it is wanted, nobody else has the copy, and nothing is in
 * the way.
 *
 * Invariant: where the log is read from is what the copy says of itself each time that it is opened. It stops at whole
 * transactions, and where it is to rest at one that it may rest at.
 */
import type { Replica } from '../../drivers/driver.ts'
import type { Position } from '../../stream/entry.ts'
import { pump } from '../../stream/pump.ts'
import { applyFault } from './apply-fault.ts'
import type { LogLeaving, LogLeavingParts } from './log-leaving.ts'
import { LogSource } from './log-source.ts'
import type { StoreKeeperOptions } from './store-keeper.ts'

export interface CopyApplyingParts extends LogLeavingParts {
  readonly leaving: LogLeaving
  readonly closing: AbortSignal
}

export class CopyApplying {
  readonly #options: StoreKeeperOptions
  readonly #parts: CopyApplyingParts
  #running: Promise<void> | undefined
  #applying: { readonly stop: AbortController; readonly source: LogSource } | undefined

  constructor(options: StoreKeeperOptions, parts: CopyApplyingParts) {
    this.#options = options
    this.#parts = parts
  }

  start(): void {
    this.#running = this.#run().catch(error => this.#options.failed(error))
  }

  /** The copy is open, and takes what the log has. */
  get isOpen(): boolean {
    return this.#applying !== undefined
  }

  /** It wants to go on, and nothing is there for it. */
  get isStuck(): boolean {
    const { stop, source } = this.#applying ?? {}
    return (source?.waiting === true && stop?.signal.aborted === false) || this.#parts.faults.isPausing
  }

  get isWanted(): boolean {
    const { progress, faults, claims, closing, wish } = this.#parts
    if (closing.aborted || claims.isAsked || faults.isPausing) return false
    const { isKnown, number, mayRest, isDry } = progress
    if (!isKnown) return true
    if (this.#isQuarantined || number === undefined) return false
    if (wish() === 'rest') return !mayRest
    return wish() === 'on' || !isDry
  }

  get #restIsWanted(): boolean {
    return this.#parts.wish() === 'rest' || this.#parts.claims.isAsked
  }

  get #isQuarantined(): boolean {
    return this.#parts.stored().quarantine !== undefined
  }

  /** Stops what should not go on; called when something was asked for. */
  look(): void {
    const { progress, claims, changes, wish } = this.#parts
    const applying = this.#applying
    if (applying !== undefined) {
      const { mayRest, isDry } = progress
      const isThere = (this.#restIsWanted && mayRest) || (wish() === 'dry' && isDry)
      if (claims.isAskedNow || (isThere && applying.source.waiting)) applying.stop.abort()
    }
    changes.tell()
  }

  /** To be called at the closing. */
  halt(): void {
    this.#applying?.stop.abort()
  }

  /** Resolves when it has ended, after the closing. */
  async ended(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    const { claims, changes, closing } = this.#parts
    for (;;) {
      await changes.until(() => this.isWanted)
      if (closing.aborted) return
      await claims.apply(async () => {
        if (this.isWanted) await this.#attemptOnce()
      })
      changes.tell()
    }
  }

  async #attemptOnce(): Promise<void> {
    const { progress, faults, leaving, changes, closing, stored, wish } = this.#parts
    const { store, place, reading } = this.#options
    let source: LogSource | undefined
    const stop = new AbortController()
    try {
      if (stored().base === undefined) {
        await this.#mend()
        await leaving.putOut()
        return
      }
      const replica = await place.openReplica(false)
      try {
        const isLearnt = await this.#learn(await replica.position(store), replica)
        const isIdle = this.#isQuarantined || progress.number === undefined || !this.isWanted
        if (!isLearnt || isIdle) return
        source = new LogSource({
          store,
          reading,
          after: progress.through,
          until: () => leaving.until,
          restsAt: commit => this.#restIsWanted && progress.mayRestAt(commit),
        })
        this.#applying = { stop, source }
        changes.tell()
        await this.#pump(source, replica, stop)
        if (leaving.hasTaken && wish() === 'on') await leaving.end()
      } finally {
        await source?.close()
        await replica.close()
      }
    } catch (error) {
      if (!closing.aborted) await faults.answer(error, source)
    } finally {
      this.#applying = undefined
    }
  }

  /** What a crash left half done in a copy that counts for nothing here: others may open it. */
  async #mend(): Promise<void> {
    const { place } = this.#options
    const { progress, stored } = this.#parts
    if (progress.isKnown || stored().asFound === true || !(await place.isOurs())) return
    try {
      const replica = await place.openReplica(false)
      await replica.close()
    } catch (error) {
      // what is wrong with it is told, and mended, when it is synchronised
      if (applyFault(error) === 'passing') throw error
    }
  }

  /** What the opened copy holds. False: it cannot be gone on with. */
  async #learn(position: Position | undefined, replica: Replica): Promise<boolean> {
    const { progress, faults, leaving } = this.#parts
    const { store, tell, moved, outOfStep } = this.#options
    if (!progress.read(position, replica)) {
      await leaving.putOut()
      tell(
        'warning',
        'store-out-of-step',
        `The copy of store '${store}' does not stand where the log can go on: it is compared with the upstream's.`,
      )
      outOfStep(`store '${store}' has to be synchronised`)
      return false
    }
    faults.recovered()
    moved()
    return true
  }

  async #pump(source: LogSource, replica: Replica, stop: AbortController): Promise<void> {
    const { progress, faults, leaving, wish } = this.#parts
    const { store, machine, moved } = this.#options
    await pump({
      store,
      source,
      sink: replica,
      clock: machine.clock,
      signal: stop.signal,
      ...(faults.isCareful ? { syncBytesMax: 0 } : {}),
      onDurable: commit => {
        progress.durable(commit, replica)
        faults.wentOn()
        moved()
      },
      onCaughtUp: () => {
        progress.caughtUp(source.through)
        moved()
        this.look()
        const isDry = wish() === 'dry' && progress.isDry
        const hasTaken = wish() === 'on' && leaving.hasTaken
        if (isDry || hasTaken || (this.#restIsWanted && progress.mayRest)) stop.abort()
      },
    })
  }
}
