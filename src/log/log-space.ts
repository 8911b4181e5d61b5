/**
 * Waits for room in a log, as its policy says: `block`, whoever appends waits until subscribers have acknowledged
 * enough; `drop`, the slowest is no longer kept for. This host itself is never dropped: what it lacks was acknowledged to
 * others, and would be lost. A transaction always passes when there is nothing else to wait for, however large it is.
 */
import type { Clock } from '../os/clock.ts'
import type { LogLimits, LogNotice, LogOptions } from './log.ts'
import type { SubscriberTable } from './subscriber-table.ts'

const noticeEveryMs = 60_000

/** What it needs of its log. */
export interface SpacedLog {
  readonly bytes: number
  /** The last whole transaction. */
  readonly last: number
  readonly limits: LogLimits
  /** Removes what may go, history too. */
  makeRoom(): Promise<void>
  sync(): Promise<void>
  subscribersChanged(): void
}

export class LogSpace {
  readonly #log: SpacedLog
  readonly #clock: Clock
  readonly #subscribers: SubscriberTable
  readonly #notice: (notice: LogNotice) => void
  readonly #own: string | undefined
  #fullSinceMs: number | undefined
  /** Aborted when there may be space; there is none while nobody waits. */
  #changed: AbortController | undefined

  constructor(
    log: SpacedLog,
    clock: Clock,
    subscribers: SubscriberTable,
    options: Pick<LogOptions, 'onNotice' | 'own'>,
  ) {
    this.#log = log
    this.#clock = clock
    this.#subscribers = subscribers
    this.#notice = options.onNotice
    this.#own = options.own
  }

  get fullSinceMs(): number | undefined {
    return this.#fullSinceMs
  }

  fits(bytes: number): boolean {
    return this.#log.bytes + bytes <= this.#log.limits.bytesMax
  }

  /** Something was acknowledged, or limits have changed. */
  changed(): void {
    this.#changed?.abort()
    this.#changed = undefined
  }

  /** Resolves when so many bytes may be appended; rejects with the signal's reason. */
  async room(bytes: number, signal: AbortSignal): Promise<void> {
    const sinceMs = this.#clock.nowMs()
    let noticedMs: number | undefined
    try {
      for (;;) {
        signal.throwIfAborted()
        if (this.fits(bytes)) break
        this.#changed ??= new AbortController()
        const changed = this.#changed.signal
        // what is not durable has not been seen by anybody, and could not have been acknowledged
        await this.#log.sync()
        await this.#log.makeRoom()
        const { last } = this.#log
        if (this.fits(bytes) || this.#subscribers.least(last) >= last) break
        if (this.#log.limits.whenFull === 'drop' && this.#dropSlowest(last)) continue
        this.#fullSinceMs ??= sinceMs
        const nowMs = this.#clock.nowMs()
        if (noticedMs === undefined || nowMs - noticedMs >= noticeEveryMs) {
          noticedMs = nowMs
          this.#noticeFull(last)
        }
        await this.#clock.sleep(noticedMs + noticeEveryMs - nowMs, AbortSignal.any([changed, signal]))
      }
    } finally {
      if (this.#fullSinceMs !== undefined) {
        const waitedMs = this.#clock.nowMs() - this.#fullSinceMs
        this.#fullSinceMs = undefined
        if (!signal.aborted) {
          this.#notice({
            level: 'info',
            code: 'log-space',
            message: `The log has space again, after ${Math.round(waitedMs / 1000)} s.`,
            details: { waitedMs },
          })
        }
      }
    }
  }

  /** False when nobody is slower than this host itself, so that dropping makes no room. */
  #dropSlowest(last: number): boolean {
    const slowest = this.#subscribers.slowest(last)
    if (slowest === undefined) return false
    const { name, acknowledged } = slowest
    const own = this.#own === undefined ? undefined : this.#subscribers.get(this.#own)
    if (own?.kept && own.acknowledged <= acknowledged) return false
    this.#subscribers.set(name, { acknowledged, kept: false })
    this.#log.subscribersChanged()
    this.#notice({
      level: 'error',
      code: 'subscriber-dropped',
      message: `The log is full (${this.#log.bytes} bytes), and '${name}' has acknowledged only up to ${acknowledged} of ${last}: it is no longer kept for, and has to compare its stores when it returns.`,
      details: { subscriber: name, acknowledged, last, bytes: this.#log.bytes },
    })
    return true
  }

  #noticeFull(last: number): void {
    const slowest = this.#subscribers.slowest(last)
    const who =
      slowest === undefined
        ? ''
        : ` It waits for '${slowest.name}', which has ${slowest.acknowledged} of ${last}.`
    this.#notice({
      level: 'error',
      code: 'log-full',
      message: `The log is full (${this.#log.bytes} bytes of ${this.#log.limits.bytesMax}): nothing more is taken.${who}`,
      details: {
        bytes: this.#log.bytes,
        bytesMax: this.#log.limits.bytesMax,
        subscriber: slowest?.name,
        last,
      },
    })
  }
}
