/**
 * Who waits for which sync: those who come while one is under way share the next one.
 *
 * Where many come again as soon as their sync has ended, the next one begins when half of them have: the other half is
 * appended while the disk is busy, and neither waits for the other.
 */

/** From so many waiters on a sync begins before somebody asks for it. */
const manyWaiters = 4

export class SyncGroup {
  /** The last number that becomes durable with it; known when it has begun. */
  to: number | undefined
  waiters = 0
  readonly ended = Promise.withResolvers<void>()

  constructor() {
    this.ended.promise.catch(() => undefined) // it may run before anybody waits
  }
}

export class SyncGroups {
  readonly #run: (group: SyncGroup) => Promise<void>
  #running: SyncGroup | undefined
  #next: SyncGroup | undefined
  #lastWaiters = 0
  /** Since the newest one began. */
  #appended = 0

  /** `run` gives the group its number `to`, and ends when that is durable. */
  constructor(run: (group: SyncGroup) => Promise<void>) {
    this.#run = run
  }

  /** Resolves when everything up to `last`, the newest one, is durable. */
  wait(last: number): Promise<void> {
    const group = this.#groupFor(last)
    group.waiters++
    return group.ended.promise
  }

  #groupFor(last: number): SyncGroup {
    const running = this.#running
    if (running === undefined) return this.#begin(new SyncGroup())
    if (running.to === undefined || running.to >= last) return running
    this.#next ??= new SyncGroup()
    return this.#next
  }

  /** A transaction more is there to be made durable. */
  appended(): void {
    this.#appended++
    if (this.#running !== undefined || this.#lastWaiters < manyWaiters) return
    if (2 * this.#appended >= this.#lastWaiters) this.#begin(new SyncGroup())
  }

  #begin(group: SyncGroup): SyncGroup {
    this.#running = group
    this.#appended = 0
    this.#run(group)
      .finally(() => {
        this.#lastWaiters = group.waiters
        this.#running = undefined
        const next = this.#next
        this.#next = undefined
        if (next !== undefined) this.#begin(next)
      })
      .then(group.ended.resolve, group.ended.reject)
    return group
  }
}
