/**
 * Recovers and checks the copies of a standby that is promoted, as far as the time allows that nobody writes: what is
 * small is checked wholly, of what is large it is proved that it was closed at a recorded commit and recovers.
 */
import type { PromotedStore } from '../failover/promotion.ts'
import type { ReplicaStand } from './downstream/downstream.ts'
import type { ServerParts } from './parts.ts'

/** Larger databases are not read as a whole before they are promoted. */
const wholeBytesMax = 64 * 1024 * 1024
/** For the checks of all stores together. */
const checkMsMax = 600

export class CopyChecks {
  readonly #parts: ServerParts
  #running = new AbortController()

  constructor(parts: ServerParts) {
    this.#parts = parts
  }

  async run(stands: readonly ReplicaStand[], signal: AbortSignal): Promise<readonly PromotedStore[]> {
    const { clock } = this.#parts.machine
    this.#running = new AbortController()
    const timer = new AbortController()
    const late = new AbortController()
    const timing = clock.sleep(checkMsMax, timer.signal).then(() => {
      if (!timer.signal.aborted) late.abort()
    })
    const within = AbortSignal.any([signal, late.signal, this.#running.signal])
    const stores: PromotedStore[] = []
    try {
      for (const stand of stands) stores.push(await this.#look(stand, signal, within))
    } finally {
      timer.abort()
      await timing
    }
    return stores
  }

  cancel(): void {
    this.#running.abort()
  }

  async #look(stand: ReplicaStand, signal: AbortSignal, within: AbortSignal): Promise<PromotedStore> {
    const { store, copy, consistent, fault } = stand
    const findings: string[] = fault === undefined ? [] : [fault]
    let valid = consistent !== undefined
    let isUnread = false
    if (consistent === undefined) findings.push('there is no consistent copy of it yet')
    else {
      const checked = await this.#check(stand, signal, within)
      findings.push(...checked.findings)
      valid = checked.valid
      isUnread = checked.unread === true
    }
    const last = this.#parts.log.mark(store)?.number ?? 0
    const isBehind = consistent !== undefined && last > consistent.number
    if (isBehind) {
      findings.push(
        `it is as of transaction ${consistent.number}: what the log has of it after that, up to ${last}, is not in it`,
      )
    }
    return {
      store,
      path: copy.path,
      position: consistent?.position,
      valid,
      findings,
      ...(isBehind ? { lacks: { fromNumber: consistent.number + 1, sinceMs: consistent.timeMs } } : {}),
      ...(isUnread ? { unread: true } : {}),
    }
  }

  async #check(
    { driver, copy }: ReplicaStand,
    signal: AbortSignal,
    within: AbortSignal,
  ): Promise<Pick<PromotedStore, 'valid' | 'findings' | 'unread'>> {
    const options = { ...copy, onProgress() {}, onNotice() {} }
    try {
      await driver.recover({ ...options, signal })
    } catch (error) {
      signal.throwIfAborted()
      return { valid: false, findings: [`it cannot be recovered: ${textOf(error)}`] }
    }
    const stat = await this.#parts.machine.storage.stat(copy.path)
    if (stat?.kind === 'file' && stat.size > wholeBytesMax) {
      const mebibytes = Math.round(stat.size / 1024 / 1024)
      return {
        valid: true,
        unread: true,
        findings: [
          `it was closed at a commit whose digest was proved, and recovers; its ${mebibytes} MiB were not read as a whole`,
        ],
      }
    }
    try {
      const report = await driver.check({ ...options, signal: within })
      return {
        valid: report.valid,
        findings: report.findings.map(({ ok, what }) => (ok ? what : `WRONG: ${what}`)),
      }
    } catch (error) {
      signal.throwIfAborted()
      if (!within.aborted) return { valid: false, findings: [`it cannot be checked: ${textOf(error)}`] }
      return {
        valid: true,
        unread: true,
        findings: [
          'it was closed at a recorded commit, and recovers; a check of all of it would have taken longer',
        ],
      }
    }
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
