/** What a primary does for those below it: a feed for each store, and links that are shipped the log. */
import type { Log } from '../../log/log.ts'
import type { StoreName } from '../../stream/entry.ts'
import type { StoreStatus } from '../server.ts'
import type { Below } from './below.ts'
import type { DownstreamLink } from './downstream-link.ts'
import type { Role } from './role.ts'
import type { Mark } from './shipping.ts'
import { StoreFeed } from './store-feed.ts'
import type { UpstreamOptions } from './upstream.ts'
import type { Wake } from './wake.ts'

export interface RoleOptions extends UpstreamOptions {
  readonly below: Below
  links(): readonly DownstreamLink[]
  /** Somebody has come, gone, or come further. */
  readonly moved: Wake
}

export class PrimaryRole implements Role {
  readonly #options: RoleOptions
  readonly #feeds: readonly StoreFeed[]

  static async open(options: RoleOptions): Promise<PrimaryRole> {
    const role = await PrimaryRole.prepare(options)
    for (const feed of role.#feeds) feed.start()
    return role
  }

  /** Reads nothing, unless `readRest` is called. */
  static async prepare(options: RoleOptions): Promise<PrimaryRole> {
    const role = new PrimaryRole(options)
    for (const feed of role.#feeds) await feed.prepare()
    return role
  }

  private constructor(options: RoleOptions) {
    this.#options = options
    this.#feeds = options.settings.stores.map(
      store =>
        new StoreFeed({
          ...options,
          store,
          joined: options.moved,
          changed: () => options.moved.tell(),
        }),
    )
  }

  get #log(): Log {
    return this.#options.log
  }

  goesOn(store: StoreName): boolean {
    return this.#feeds.find(feed => feed.store === store)?.goesOn ?? false
  }

  restartAt(): number {
    return this.#log.durable + 1
  }

  mark(): Mark {
    return { number: this.#log.durable, timeMs: this.#options.machine.clock.nowMs() }
  }

  onMark(): () => void {
    return () => {}
  }

  joined(link: DownstreamLink, sync: readonly StoreName[]): void {
    for (const store of sync) void link.prepareSync(store)
  }

  left(): void {
    // a movement beside the log finds out by itself
  }

  moved(): void {
    for (const feed of this.#feeds) feed.look()
  }

  async invalidate(): Promise<void> {
    // a primary's log goes on from its own stores
  }

  async setEnqueuing(on: boolean): Promise<void> {
    await Promise.all(this.#feeds.map(feed => feed.setEnqueuing(on)))
  }

  async drain(signal: AbortSignal): Promise<number> {
    await Promise.all(this.#feeds.map(feed => feed.drain(signal)))
    await this.#log.sync()
    return this.#log.durable
  }

  stores(): readonly StoreStatus[] {
    return this.#feeds.map(feed => feed.status())
  }

  /** Sources stay open. */
  async stop(): Promise<void> {
    await Promise.all(this.#feeds.map(feed => feed.stop()))
  }

  /** After `stop`: what was written since. Resolves with the stores of which that cannot be proved. */
  async readRest(): Promise<readonly StoreName[]> {
    const unread: StoreName[] = []
    for (const feed of this.#feeds) {
      if (await feed.readOn()) continue
      unread.push(feed.store)
      this.#options.tell(
        'warning',
        'not-read-on',
        `What store '${feed.store}' has beyond the log cannot be read into it: it cannot be proved to follow.`,
      )
    }
    await this.#log.sync()
    return unread
  }

  async close(): Promise<void> {
    await Promise.all(this.#feeds.map(feed => feed.close()))
  }
}
