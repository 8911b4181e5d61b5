/**
 * The whole check of what was too large to be read before it was promoted: by the store's engine, in a process of its own,
 * while the application writes already.
 *
 * Invariant: nobody waits for it, and it changes nothing. What it finds is told, and durable with the promotion; after a
 * crash, or a fault that is not the store's, it is made at the next start.
 */
import type { PromotedStore } from '../failover/promotion.ts'
import { HotspareError } from '../os/errors.ts'
import type { StoreName } from '../stream/entry.ts'
import type { ServerParts } from './parts.ts'

export class WholeChecks {
  readonly #parts: Pick<ServerParts, 'settings' | 'machine' | 'state' | 'tell'>
  #stop = new AbortController()
  #running: Promise<void> | undefined
  #store: StoreName | undefined

  constructor(parts: Pick<ServerParts, 'settings' | 'machine' | 'state' | 'tell'>) {
    this.#parts = parts
  }

  /** Of a primary: makes those that were not made yet, if any. */
  begin(): void {
    if (this.#running !== undefined) return
    this.#stop = new AbortController()
    this.#running = this.#run(this.#stop.signal).finally(() => {
      this.#running = undefined
    })
  }

  get isRunning(): boolean {
    return this.#running !== undefined
  }

  /** Resolves when nothing of it has a store open any more. */
  async stop(): Promise<void> {
    this.#stop.abort(new HotspareError('server-stopped', 'The check was stopped.'))
    await this.#running
  }

  /** For the status; undefined: nothing is to be said of it. */
  messageOf(store: StoreName): string | undefined {
    const { promotion } = this.#parts.state.value
    const check = promotion?.checks?.[store]
    if (check !== undefined) {
      const findings = check.findings.join('; ')
      return check.valid ? `read as a whole since its promotion: ${findings}` : `NOT VALID: ${findings}`
    }
    if (this.#store === store) return 'it is being read as a whole, since it was promoted without'
    const isUnread = promotion?.result?.stores.some(one => one.store === store && one.unread === true)
    return isUnread === true ? 'it was promoted without being read as a whole' : undefined
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { promotion } = this.#parts.state.value
    for (const promoted of promotion?.result?.stores ?? []) {
      if (promoted.unread !== true || promotion?.checks?.[promoted.store] !== undefined) continue
      this.#store = promoted.store
      try {
        await this.#check(promoted, signal)
      } catch (error) {
        // the store is none the worse for it, and it is tried again at the next start
        if (!signal.aborted) this.#tellFault(promoted.store, error)
      } finally {
        this.#store = undefined
      }
      if (signal.aborted) return
    }
  }

  async #check({ store, path }: PromotedStore, signal: AbortSignal): Promise<void> {
    const { settings, machine, state, tell } = this.#parts
    const driver = settings.stores.find(one => one.store === store)?.driver
    if (driver === undefined) return
    const report = await machine.driverNamed(driver).checkLive?.({ path, signal })
    if (report === undefined) return
    const { valid } = report
    const findings = report.findings.map(({ what }) => what)
    const check = { valid, findings, atMs: machine.clock.nowMs() }
    await state.update(before => {
      const { promotion } = before
      if (promotion === undefined) return before
      return { ...before, promotion: { ...promotion, checks: { ...promotion.checks, [store]: check } } }
    })
    if (valid) tell('info', 'checked', `Store '${store}' was read as a whole: ${findings.join('; ')}.`)
    else
      tell(
        'error',
        'target-invalid',
        `STORE '${store}' IS NOT VALID, found when it was read as a whole after its promotion: ${findings.join('; ')}. Restore it, or promote another standby.`,
      )
  }

  #tellFault(store: StoreName, error: unknown): void {
    const code = error instanceof HotspareError ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    this.#parts.tell(
      'warning',
      code,
      `Store '${store}' could not be read as a whole after its promotion: ${message}`,
    )
  }
}
