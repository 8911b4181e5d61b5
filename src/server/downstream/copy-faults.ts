/**
 * What is in the way of a copy, and what is done about it. What a full or broken disk hinders is tried again without end,
 * ever more seldom. A transaction that is refused is tried once more by itself, so that all before it are in the copy; then
 * it is put aside, and the store rests until it is released.
 */
import { describeSystemError, HotspareError } from '../../os/errors.ts'
import type { StoreState } from '../state.ts'
import { applyFault, retryDelayMs } from './apply-fault.ts'
import type { CopyProgress } from './copy-progress.ts'
import { LogUnreadable } from './log-reading.ts'
import type { LogSource } from './log-source.ts'
import { putAside } from './quarantine.ts'
import type { StoreKeeperOptions } from './store-keeper.ts'

export interface CopyFaultsOptions extends StoreKeeperOptions {
  readonly progress: CopyProgress
  /** Nothing is begun any more. */
  readonly closing: AbortSignal
  quarantine(): StoreState['quarantine']
  /** Nothing that the copy holds counts in this log any more. Durable when it resolves. */
  putOut(): Promise<void>
  /** Whether it hinders has changed. */
  changed(): void
}

interface Fault {
  readonly code: string
  readonly message: string
  /** It does not pass until somebody has mended it. */
  readonly lasting: boolean
}

export class CopyFaults {
  readonly #options: CopyFaultsOptions
  #fault: Fault | undefined
  #attempt = 0
  #isCareful = false
  #pause: AbortController | undefined
  #pausing: Promise<void> | undefined

  constructor(options: CopyFaultsOptions) {
    this.#options = options
  }

  get message(): string | undefined {
    return this.#fault?.message
  }

  get isLasting(): boolean {
    return this.#fault?.lasting === true
  }

  /** Nothing is tried meanwhile. */
  get isPausing(): boolean {
    return this.#pausing !== undefined
  }

  /** A transaction was refused: from here on one at a time. */
  get isCareful(): boolean {
    return this.#isCareful
  }

  /** Something of the log is durable in the copy. */
  wentOn(): void {
    this.#isCareful = false
    this.#attempt = 0
    this.recovered()
  }

  /** The copy could be opened. */
  recovered(): void {
    if (this.#fault === undefined) return
    this.#fault = undefined
    const { store, tell } = this.#options
    tell('info', 'applied-again', `Store '${store}' is applied again.`)
  }

  synchronised(): void {
    this.#attempt = 0
  }

  /** Somebody has mended it: it is tried at once. */
  released(): void {
    this.#fault = undefined
    this.#isCareful = false
    this.#attempt = 0
    this.#pause?.abort()
  }

  /** A fault that may pass: says so once, and waits longer each time. `applies`: it is tried again by itself. */
  retryLater(error: unknown, applies: boolean): void {
    const { store, tell, machine, outOfStep, closing, changed } = this.#options
    const { code, message } = named(error)
    if (this.#fault?.code !== code) {
      const what = applies ? 'applied to' : 'synchronised'
      tell('error', code, `Store '${store}' cannot be ${what} now: ${message} It is tried again.`)
    }
    this.#fault = { code, message, lasting: false }
    const pause = new AbortController()
    this.#pause = pause
    const delayMs = retryDelayMs(++this.#attempt)
    this.#pausing = machine.clock.sleep(delayMs, AbortSignal.any([pause.signal, closing])).then(() => {
      this.#pausing = undefined
      if (!applies && !closing.aborted) {
        this.#fault = undefined
        outOfStep(`store '${store}' is to be synchronised again`)
      }
      changed()
    })
  }

  /** It cannot be synchronised until somebody has mended it. */
  cannotSync(error: unknown): void {
    const { store, tell, changed } = this.#options
    const { code, message } = named(error)
    this.#fault = { code, message, lasting: true }
    tell(
      'error',
      code,
      `Store '${store}' cannot be synchronised: ${message} Mend it, then release the store.`,
    )
    changed()
  }

  /** Of applying, from `source` if that had begun. */
  async answer(thrown: unknown, source: LogSource | undefined): Promise<void> {
    const { place, closing, failed } = this.#options
    try {
      await this.#answer(describeSystemError(thrown, `Applying to ${place.path}`), source)
    } catch (fault) {
      if (closing.aborted) return
      const described = describeSystemError(fault, `Putting aside what ${place.path} refused`)
      if (applyFault(described) === 'passing') this.retryLater(described, true)
      else failed(described)
    }
  }

  async #answer(error: unknown, source: LogSource | undefined): Promise<void> {
    const { store, tell, failed, outOfStep, progress, quarantine, putOut } = this.#options
    if (error instanceof LogUnreadable) {
      if (error.code !== 'log-removed') return failed(error.cause)
      await putOut()
      tell(
        'warning',
        'store-out-of-step',
        `What the copy of store '${store}' needs is not kept in the log any more: it is compared with the upstream's.`,
      )
      return outOfStep(`store '${store}' has to be synchronised`)
    }
    if (applyFault(error) === 'passing') return this.retryLater(error, true)
    // it is merely not known any more what the copy has
    if (quarantine() !== undefined) return progress.stays()
    // alone, so that all before it are in the copy
    if (source !== undefined && !this.#isCareful) {
      this.#isCareful = true
      return
    }
    await this.#putAside(error, source)
  }

  async #putAside(error: unknown, source: LogSource | undefined): Promise<void> {
    const { store, machine, settings, state, log, tell, progress, closing } = this.#options
    const number = source?.number
    const after = progress.number ?? progress.through
    const refusal = { store, number, after, error, atMs: machine.clock.nowMs() }
    const quarantine = await putAside(machine.storage, settings.stateDirectory, log, refusal, closing)
    await state.updateStore(store, stored => ({ ...stored, quarantine }))
    progress.stays()
    this.#isCareful = false
    const what =
      number === undefined
        ? 'its copy cannot be used'
        : `it refused transaction ${number}, which is kept aside`
    tell(
      'error',
      'store-quarantined',
      `Store '${store}' takes nothing more until it is released: ${what} (${quarantine.message}). 'hotspare release ${store}' tries it again; with --synchronise the copy gets what differs.`,
    )
  }

  halt(): void {
    this.#pause?.abort()
  }

  /** Resolves when it waits for nothing any more. */
  async idle(): Promise<void> {
    await this.#pausing
  }
}

function named(error: unknown): { readonly code: string; readonly message: string } {
  return {
    code: error instanceof HotspareError ? error.code : 'internal',
    message: error instanceof Error ? error.message : String(error),
  }
}
