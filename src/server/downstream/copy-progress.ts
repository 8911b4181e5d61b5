/**
 * Where the copy of one store stands in this server's log, and what of the log it still needs.
 *
 * Invariant: the number is read from the copy each time it is opened, and from then on goes with what is durable in it. What
 * was acknowledged for the copies is never taken for what a copy holds.
 */
import type { Replica } from '../../drivers/driver.ts'
import type { Log } from '../../log/log.ts'
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Commit, Position, StoreName } from '../../stream/entry.ts'
import { barePosition, parseNumberedPosition } from '../../stream/numbered-position.ts'
import type { StoreStatus } from '../server.ts'
import type { StoreState } from '../state.ts'
import { numberOf, throughOf } from './copy-stand.ts'
import { CopyStatus } from './copy-status.ts'
import { applySubscriber, type ReplicaStand } from './downstream.ts'
import type { ReplicaPlace } from './replica-place.ts'

export interface CopyProgressOptions {
  readonly store: StoreName
  readonly log: Log
  readonly clock: Clock
  readonly place: ReplicaPlace
  /** As it is durable now. */
  base(): StoreState['base']
  until(): StoreState['until']
}

export class CopyProgress {
  readonly #options: CopyProgressOptions
  readonly #status: CopyStatus
  #isKnown = false
  #number: number | undefined
  #through: number
  /** Of a store that is to be synchronised: its first transaction since the upstream said so. */
  #firstSeen: number | undefined
  #isToSync = false
  #position: Position | undefined
  #consistent: StoreStatus['consistent']
  #standsConsistent: ReplicaStand['consistent']
  #mayRest = false
  #wasConsistent = false

  constructor(options: CopyProgressOptions) {
    this.#options = options
    this.#through = this.acknowledged ?? 0
    this.#status = new CopyStatus(options.place, options.clock)
  }

  /** What the copy holds was read from it. */
  get isKnown(): boolean {
    return this.#isKnown
  }

  /** The store's last transaction in the copy; undefined: it has to be synchronised. */
  get number(): number | undefined {
    return this.#number
  }

  /** All of the store up to here is in the copy; of one that has to be synchronised: what it needs no more. */
  get through(): number {
    return this.#through
  }

  /** What it needs of the log begins after this number. */
  get needed(): number {
    if (this.#number !== undefined || !this.#isKnown) return this.#through
    const { durable } = this.#options.log
    const first = this.#isToSync ? this.#firstSeen : undefined
    return Math.max(this.#through, first === undefined ? durable : first - 1)
  }

  get isDry(): boolean {
    const { log, until } = this.#options
    return this.#isKnown && this.#through >= Math.min(log.durable, until() ?? Number.POSITIVE_INFINITY)
  }

  /** The driver's own. */
  get position(): Position | undefined {
    return this.#position
  }

  get consistent(): StoreStatus['consistent'] {
    return this.#consistent
  }

  /** The last consistent commit, with the driver's own position. */
  get standsConsistent(): ReplicaStand['consistent'] {
    return this.#standsConsistent
  }

  /**
   * It stands at a consistent commit; or it never had one (a directory before its first maintenance window), and then any
   * whole commit is as good as another.
   */
  get mayRest(): boolean {
    return this.#mayRest
  }

  mayRestAt(commit: Commit): boolean {
    return commit.consistent || !this.#wasConsistent
  }

  /** What all copies together have acknowledged, while the log keeps for them. */
  get acknowledged(): number | undefined {
    const subscriber = this.#options.log.subscribers().find(({ name }) => name === applySubscriber)
    return subscriber?.kept === true ? subscriber.acknowledged : undefined
  }

  // what happens to it

  /** What the opened copy holds; false: the log does not go on from there. Throws `diverged`. */
  read(position: Position | undefined, replica: Replica): boolean {
    const { log, store, base } = this.#options
    const number = numberOf(position, base(), log)
    if (number !== undefined && this.#number !== undefined && number < this.#number) {
      throw new HotspareError(
        'diverged',
        `The copy of store '${store}' has all up to transaction ${number}, and had all up to ${this.#number}.`,
      )
    }
    const through = number === undefined ? undefined : this.#throughOf(number)
    this.#position = position === undefined ? undefined : barePosition(position)
    if (position !== undefined) this.#noteConsistent(replica, position)
    if (number === undefined || through === undefined) return false
    this.#isKnown = true
    this.#number = number
    this.#through = Math.max(this.#through, through)
    return true
  }

  /** It was not changed, and nothing is known that speaks against it. */
  stays(): void {
    this.#isKnown = true
  }

  /** It has to be read anew. */
  forget(): void {
    this.#isKnown = false
  }

  /** What it holds counts for nothing in this log; nor does what the log has for it up to `until`. */
  putOut(until: number | undefined): void {
    this.#number = undefined
    this.#through = Math.max(this.#through, until ?? 0)
    this.#isKnown = true
  }

  durable(commit: Commit, replica: Replica): void {
    const number = parseNumberedPosition(commit.position)?.number
    if (number === undefined) throw new Error(`a commit without a number: ${commit.position}`)
    this.#number = number
    this.#through = Math.max(this.#through, number)
    this.#noteConsistent(replica, commit.position)
  }

  /** All of the store up to there was read from the log. */
  caughtUp(through: number): void {
    this.#through = Math.max(this.#through, through)
    this.#status.caughtUp()
  }

  /** The log has begun anew at `next`. */
  restarted(next: number): void {
    this.#through = next - 1
    this.#firstSeen = undefined
    // its numbers were another log's
    if (this.#standsConsistent !== undefined)
      this.#standsConsistent = { ...this.#standsConsistent, number: 0 }
  }

  // a synchronisation beside the log

  /** The upstream brings it beside the log; from `next` on this log has what it will need. */
  toSync(next: number): void {
    this.#isToSync = true
    this.#firstSeen = undefined
    this.#through = Math.max(this.#through, next - 1)
  }

  /** A transaction of the store was received. */
  seen(number: number): void {
    if (this.#isToSync) this.#firstSeen ??= number
  }

  /** Begun without `toSync`: what the log has that the copy has not may be needed. */
  syncBegins(): void {
    if (this.#isToSync) return
    this.#isToSync = true
    const last = this.#options.log.mark(this.#options.store)?.number ?? 0
    this.#firstSeen = last > this.#through ? this.#through + 1 : undefined
  }

  /** Finished or not: the next one begins with another session. */
  syncEnds(): void {
    this.#isToSync = false
  }

  /** It is equal to what transaction `number` leaves; all up to `through` is in it. */
  synchronised(replica: Replica, position: Position, number: number, through: number): void {
    this.#number = number
    this.#through = through
    this.#noteConsistent(replica, position)
  }

  async close(): Promise<void> {
    await this.#status.close()
  }

  #throughOf(number: number): number | undefined {
    const { log, store } = this.#options
    const { first, durable } = log
    return throughOf({
      number,
      last: log.mark(store)?.number,
      first,
      durable,
      lastBefore: log.lastBefore(store),
    })
  }

  #noteConsistent(replica: Replica, position: Position): void {
    this.#position = barePosition(position)
    const consistent = replica.consistent()
    this.#wasConsistent = consistent !== undefined
    this.#mayRest = consistent === undefined || consistent.position === position
    this.#status.moved(position, consistent)
    this.#consistent = undefined
    this.#standsConsistent = undefined
    if (consistent === undefined) return
    const number = parseNumberedPosition(consistent.position)?.number ?? this.#options.base()?.number
    const { timeMs, state } = consistent
    if (number === undefined) return
    this.#consistent = { number, timeMs, ...(state === undefined ? {} : { state }) }
    this.#standsConsistent = { ...consistent, number, position: barePosition(consistent.position) }
  }
}
