/** Who takes from a log, and how far each has come. */
import type { SubscriberState } from './log.ts'
import type { Subscriber } from './log-state.ts'

export class SubscriberTable {
  readonly #subscribers: Map<string, Subscriber>

  constructor(subscribers: ReadonlyMap<string, Subscriber>) {
    this.#subscribers = new Map(subscribers)
  }

  get all(): ReadonlyMap<string, Subscriber> {
    return this.#subscribers
  }

  list(): SubscriberState[] {
    return [...this.#subscribers].map(([name, { acknowledged, kept }]) => ({ name, acknowledged, kept }))
  }

  get(name: string): Subscriber | undefined {
    return this.#subscribers.get(name)
  }

  /** Undefined removes it. */
  set(name: string, subscriber: Subscriber | undefined): void {
    if (subscriber === undefined) this.#subscribers.delete(name)
    else this.#subscribers.set(name, subscriber)
  }

  /** False when it changes nothing. */
  acknowledge(name: string, number: number): boolean {
    const subscriber = this.#subscribers.get(name)
    if (subscriber === undefined || number <= subscriber.acknowledged) return false
    this.#subscribers.set(name, { ...subscriber, acknowledged: number })
    return true
  }

  /** What all that are kept for have acknowledged; `last` when nobody is. */
  least(last: number): number {
    let least = last
    for (const { acknowledged, kept } of this.#subscribers.values())
      if (kept && acknowledged < least) least = acknowledged
    return least
  }

  /** The one that is kept for and has come least far, when that is not up to `last`. */
  slowest(last: number): { readonly name: string; readonly acknowledged: number } | undefined {
    let slowest: { name: string; acknowledged: number } | undefined
    for (const [name, { acknowledged, kept }] of this.#subscribers)
      if (kept && acknowledged < (slowest?.acknowledged ?? last)) slowest = { name, acknowledged }
    return slowest
  }
}
