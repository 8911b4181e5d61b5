/**
 * Follows a directory of append-only files: decides what is to be given, and from where; pack-sender.ts gives it.
 *
 * Invariant: what is sent is, at every entry, a prefix of what the source's engine wrote. Every unfinished pack is open,
 * so that one that is deleted is still finished. Continuity with what the sink has is proved by digests before anything
 * is sent, and what was sent over a time is read again when its pack is finished.
 *
 * A crash here leaves nothing behind. The worst outcome is that a change in the middle of a pack, which such an engine
 * never makes, is found only when that pack is finished.
 */
import type { Clock } from '../../os/clock.ts'
import { describeSystemError, HotspareError, isSystemError } from '../../os/errors.ts'
import type { Storage } from '../../os/storage.ts'
import type { Entry, EntryPath, Position, StoreName } from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import type { Backlog, ReadOptions, Source } from '../../stream/source.ts'
import type { Notice } from '../driver.ts'
import { outOfOrder } from './faults.ts'
import { Ledger } from './ledger.ts'
import { Lookout } from './lookout.ts'
import type { Pack } from './pack.ts'
import { packBacklog } from './pack-backlog.ts'
import { PackSender } from './pack-sender.ts'
import { PackSet, type Scan, sourceMissing } from './pack-set.ts'
import { decodePosition, type PacksPosition } from './position.ts'
import type { Profile } from './profile.ts'
import { proveContinuity } from './prove.ts'
import { checkSuccession, type Succession } from './sequence.ts'
import { Suspicion } from './suspicion.ts'
import { Verification } from './verification.ts'
import { WholeFiles } from './whole-files.ts'

export interface PacksSourceOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly store: StoreName
  readonly root: string
  readonly profile: Profile
  onNotice(notice: Notice): void
}

export class PacksSource implements Source {
  readonly #storage: Storage
  readonly #root: string
  readonly #profile: Profile
  readonly #packs: PackSet
  readonly #wholes: WholeFiles
  readonly #ledger: Ledger
  readonly #lookout: Lookout
  readonly #suspicion: Suspicion
  readonly #verification: Verification
  readonly #sender: PackSender
  /** The last look, when all that it found was given. */
  #scan: Scan | undefined
  #acknowledged: Position | undefined

  private constructor(options: PacksSourceOptions) {
    this.#storage = options.storage
    this.#root = options.root
    this.#profile = options.profile
    const noticed = { ...options, notice: noticeOnce(options) }
    this.#packs = new PackSet(options)
    this.#ledger = new Ledger(options)
    this.#wholes = new WholeFiles(options)
    this.#lookout = new Lookout(noticed, this.#packs)
    this.#verification = new Verification(options.root, this.#packs)
    this.#suspicion = new Suspicion(options, this.#ledger, this.#verification)
    this.#sender = new PackSender(noticed, {
      packs: this.#packs,
      wholes: this.#wholes,
      ledger: this.#ledger,
      lookout: this.#lookout,
      suspicion: this.#suspicion,
      verification: this.#verification,
    })
  }

  static async open(options: PacksSourceOptions): Promise<PacksSource> {
    const source = new PacksSource(options)
    try {
      await source.#lookout.begin()
      return source
    } catch (error) {
      await source.close()
      throw isSystemError(error, 'ENOENT') ? sourceMissing(options.root) : error
    }
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const { signal } = options
    try {
      const ledger = this.#ledger
      const continues = from !== undefined && from === ledger.committed && !ledger.isOpen
      if (continues) await this.#sender.settle()
      else this.#forgetSent()
      if (continues && ledger.isConsistent && !this.#isLookDue()) {
        const before = ledger.commits
        yield* this.#sender.drainNewest(this.#newestSeen, signal)
        if (ledger.commits !== before) {
          await this.#verification.compare(options, 'piece')
          return
        }
      }
      // until all of it is given there may be more than the newest pack to give
      this.#scan = undefined
      const scan = await this.#lookout.look(signal)
      if (scan === undefined) return
      if (continues) {
        yield* this.#sender.drain(scan, this.#succession(scan), signal)
      } else {
        yield* this.#begin(from, scan, options)
      }
      if (!signal.aborted) this.#scan = scan
      await this.#verification.compare(options, continues ? 'piece' : 'all')
    } catch (error) {
      throw describeSystemError(error, `reading ${this.#root}`)
    }
  }

  async wait(signal: AbortSignal): Promise<void> {
    if (this.#verification.isDue) return
    const dueMs = Math.min(this.#wholes.retryInMs(), this.#suspicion.dueInMs(this.#newestSeen))
    await this.#lookout.wait(signal, dueMs)
  }

  async acknowledge(position: Position): Promise<void> {
    this.#acknowledged = position
  }

  /** Bytes at the source beyond what is durable downstream; withheld zeros do not count. */
  async backlog(): Promise<Backlog> {
    const done = this.#acknowledged ?? this.#ledger.committed
    const newest = done === undefined ? undefined : decodePosition(done).newest
    const behind = await packBacklog(this.#storage, this.#root, this.#profile, newest)
    return behind ?? { bytes: 0 }
  }

  async close(): Promise<void> {
    this.#lookout.close()
    await this.#packs.close()
  }

  #isLookDue(): boolean {
    const isDue = this.#lookout.isDue()
    return isDue || this.#scan === undefined
  }

  get #newestSeen(): Pack | undefined {
    return this.#scan?.packs.at(-1)
  }

  #forgetSent(): void {
    this.#ledger.restart()
    this.#wholes.forget()
    this.#verification.forget()
    this.#sender.forget()
  }

  // ---- what may follow on what the copy has

  #highest(): Pack | undefined {
    const created = this.#packs.all().filter(pack => pack.created)
    return created.reduce<Pack | undefined>(
      (high, pack) => (high === undefined || this.#profile.compare(pack.path, high.path) > 0 ? pack : high),
      undefined,
    )
  }

  #succession(scan: Scan): Succession {
    const highest = this.#highest()
    if (this.#profile.vanished === 'finish' && highest !== undefined) {
      const late = scan.packs.find(
        pack => !pack.created && !pack.removed && this.#profile.compare(pack.path, highest.path) < 0,
      )
      if (late !== undefined) {
        throw outOfOrder(this.#root, late, highest)
      }
    }
    return checkSuccession(this.#profile, this.#root, {
      newest: highest,
      packs: scan.packs.map(pack => pack.path),
      coveredTo: scan.layout.coveredTo,
    })
  }

  #successionFrom(newest: EntryPath | undefined, scan: Scan): Succession {
    const pack = newest === undefined ? undefined : scan.packs.find(one => one.path === newest)
    if (newest === undefined || pack !== undefined) return this.#succession(scan)
    return checkSuccession(this.#profile, this.#root, {
      newest: { path: newest, finished: false },
      packs: scan.packs.map(one => one.path),
      coveredTo: scan.layout.coveredTo,
    })
  }

  // ---- continuity with what the sink has

  async *#begin(from: Position | undefined, scan: Scan, options: ReadOptions): AsyncGenerator<Entry> {
    const inventory = await options.inventory()
    if (from === undefined) {
      // the copy begins with what there is now: what vanished before is no part of it
      for (const pack of this.#packs.all()) {
        if (!pack.vanished) continue
        this.#packs.forget(pack)
        await pack.release()
      }
      scan = { ...scan, packs: scan.packs.filter(pack => !pack.vanished) }
      if (inventory === undefined || (await isEmpty(inventory))) {
        yield* this.#sender.drain(scan, this.#succession(scan), options.signal)
      } else {
        checkSuccession(this.#profile, this.#root, {
          newest: undefined,
          packs: scan.packs.map(pack => pack.path),
          coveredTo: scan.layout.coveredTo,
        })
        yield* this.#sender.compare(scan, inventory, options.signal)
      }
      return
    }
    const position = decodePosition(from)
    if (position.profile !== this.#profile.name || position.pattern !== this.#profile.pattern) {
      const made = described(position.profile, position.pattern)
      const asked = described(this.#profile.name, this.#profile.pattern)
      throw new HotspareError(
        'diverged',
        `The copy was made with ${made}, not with ${asked}. Follow it with the same, or use --resync.`,
        { details: { expected: made, found: asked } },
      )
    }
    const newest = await this.#prove(position, scan, inventory)
    this.#ledger.restart({ committed: from, position })
    yield* this.#sender.drain(scan, this.#successionFrom(newest, scan), options.signal)
  }

  /** Gives the newest pack that the copy has. */
  async #prove(
    position: PacksPosition,
    scan: Scan,
    inventory: Inventory | undefined,
  ): Promise<EntryPath | undefined> {
    const found = await proveContinuity({
      root: this.#root,
      storage: this.#storage,
      profile: this.#profile,
      position,
      scan,
      inventory,
    })
    this.#sender.know(found)
    for (const [name, identity] of found.wholes) this.#wholes.know(name, identity)
    const last = position.newest?.path
    if (last === undefined || found.newest === undefined) return found.newest ?? last
    return this.#profile.compare(found.newest, last) > 0 ? found.newest : last
  }
}

function described(profile: string, pattern: string | undefined): string {
  return `profile ${profile}${pattern === undefined ? '' : ` and pattern '${pattern}'`}`
}

async function isEmpty(inventory: Inventory): Promise<boolean> {
  for await (const _ of inventory.files()) return false
  return true
}

/** Says each code once. */
function noticeOnce(options: PacksSourceOptions): (code: string, message: string) => void {
  const noticed = new Set<string>()
  return (code, message) => {
    if (noticed.has(code)) return
    noticed.add(code)
    options.onNotice({ code: code.split(':')[0]!, message })
  }
}
