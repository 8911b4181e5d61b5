/**
 * Follows a directory of append-only files.
 *
 * Invariant: what is sent is, at every entry, a prefix of what the source's engine wrote: packs in ascending order, each
 * whole before the next begins, then trees and whole files, and what is gone at the source last. A drain ends in a
 * consistent commit. Every unfinished pack is open, so that one that is deleted is still finished. Continuity with what
 * the sink has is proved by digests before anything is sent, and what was sent over a time is read again when its pack
 * is finished.
 *
 * A crash here leaves nothing behind. The worst outcome is that a change in the middle of a pack, which such an engine
 * never makes, is found only when that pack is finished.
 */
import { ChunkPool } from '../../os/chunk-pool.ts'
import type { Clock } from '../../os/clock.ts'
import { describeSystemError, HotspareError, isSystemError } from '../../os/errors.ts'
import type { Storage } from '../../os/storage.ts'
import { openWatcher, type Watcher, watchEvent } from '../../os/watch.ts'
import {
  displayPath,
  type Entry,
  type EntryPath,
  entryPath,
  type Position,
  type StoreName,
} from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import type { Backlog, ReadOptions, Source } from '../../stream/source.ts'
import type { Notice } from '../driver.ts'
import { sendDifference } from './difference.ts'
import { changedInside, outOfOrder, rootReplaced, truncated } from './faults.ts'
import { Ledger } from './ledger.ts'
import type { Pack } from './pack.ts'
import { packBacklog } from './pack-backlog.ts'
import { PackSet, type Scan, sourceMissing } from './pack-set.ts'
import { decodePosition, type PacksPosition } from './position.ts'
import type { Profile } from './profile.ts'
import { proveContinuity } from './prove.ts'
import { readAhead } from './read-ahead.ts'
import { checkSuccession, type Succession } from './sequence.ts'
import { Verification } from './verification.ts'
import { WholeFiles } from './whole-files.ts'
import { usableEnd } from './zero-tail.ts'

const safetyPollMs = 5000
/** While packs are growing, everything else is looked at this often. */
const scanIntervalMs = 1000
/** A modification without growth that lasts so long makes the pack be read again. */
const suspicionMs = 1000
/** Finished packs are held until their commit is durable, but no more than so many. */
const finishedHeldMax = 64

const watchedEvents =
  watchEvent.modify |
  watchEvent.attributes |
  watchEvent.moved |
  watchEvent.create |
  watchEvent.delete |
  watchEvent.deleteSelf |
  watchEvent.moveSelf

/** After these, finished packs are looked at too; else that is done with the safety poll. */
const touchingEvents = watchEvent.moved | watchEvent.attributes | watchEvent.overflow

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
  readonly #clock: Clock
  readonly #store: StoreName
  readonly #root: string
  readonly #profile: Profile
  readonly #onNotice: (notice: Notice) => void
  readonly #packs: PackSet
  readonly #wholes: WholeFiles
  readonly #watcher: Watcher = openWatcher()
  readonly #rootInode: bigint
  readonly #ledger: Ledger
  readonly #chunks = new ChunkPool()
  readonly #noticed = new Set<string>()
  /** Trees that the copy has. */
  #trees = new Set<string>()
  /** What the copy has and the source no longer. */
  #strays = new Set<EntryPath>()
  #scan: Scan | undefined
  #scannedMs = 0
  /** A thorough look is due: the safety poll has passed. */
  #thorough = true
  #searchedMs = 0
  readonly #verification: Verification
  /** Finished since the sink was last known to have everything; the position may still name one of them. */
  readonly #justFinished: Pack[] = []
  #acknowledged: Position | undefined

  private constructor(options: PacksSourceOptions, rootInode: bigint) {
    this.#storage = options.storage
    this.#clock = options.clock
    this.#store = options.store
    this.#root = options.root
    this.#profile = options.profile
    this.#onNotice = notice => options.onNotice(notice)
    this.#rootInode = rootInode
    this.#packs = new PackSet(options)
    this.#ledger = new Ledger(options)
    this.#wholes = new WholeFiles(options)
    this.#verification = new Verification(options.root, this.#packs)
  }

  static async open(options: PacksSourceOptions): Promise<PacksSource> {
    const stat = await options.storage.stat(options.root)
    if (stat === undefined) throw sourceMissing(options.root)
    const source = new PacksSource(options, stat.inode)
    try {
      // watch first, then look: what happens in between gives a hint
      source.#watcher.add(options.root, watchedEvents)
      await source.#packs.scan(new AbortController().signal, true)
    } catch (error) {
      await source.close()
      throw isSystemError(error, 'ENOENT') ? sourceMissing(options.root) : error
    }
    const reason = source.#watcher.pollingReason
    if (reason !== undefined) source.#notice('polling', `${options.root} is polled: ${reason}.`)
    return source
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const { signal } = options
    try {
      const ledger = this.#ledger
      const continues = from !== undefined && from === ledger.committed && !ledger.isOpen
      if (continues) await this.#settle()
      else await this.#forgetSent()
      if (continues && ledger.isConsistent && !this.#isScanDue()) {
        const before = ledger.commits
        yield* this.#drainNewest(signal)
        if (ledger.commits !== before) {
          await this.#verification.compare(options, 'piece')
          return
        }
      }
      // until all of it is given there may be more than the newest pack to give
      this.#scan = undefined
      const scan = await this.#look(signal)
      if (scan === undefined) return
      if (continues) {
        yield* this.#drain(scan, this.#succession(scan), signal)
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
    const dueMs = Math.min(this.#wholes.retryInMs(), this.#suspectInMs())
    const result = await this.#watcher.wait(signal, Math.min(safetyPollMs, dueMs))
    if (result === 'timeout' || result === 'overflow') this.#thorough = true
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
    this.#watcher.close()
    await this.#packs.close()
  }

  // ---- looking

  #isScanDue(): boolean {
    const events = this.#watcher.takeEvents()
    if (this.#clock.nowMs() - this.#searchedMs >= safetyPollMs) this.#thorough = true
    return (
      this.#thorough ||
      this.#scan === undefined ||
      (events & ~(watchEvent.modify | watchEvent.closeWrite)) !== 0 ||
      this.#watcher.pollingReason !== undefined ||
      this.#clock.nowMs() - this.#scannedMs >= scanIntervalMs
    )
  }

  async #look(signal: AbortSignal): Promise<Scan | undefined> {
    const root = await this.#storage.stat(this.#root)
    if (root === undefined) throw sourceMissing(this.#root)
    if (root.inode !== this.#rootInode) throw rootReplaced(this.#root)
    const events = this.#watcher.takeEvents()
    const scan = await this.#packs.scan(signal, this.#thorough || (events & touchingEvents) !== 0)
    if (scan === undefined) return undefined
    this.#scannedMs = this.#clock.nowMs()
    for (const name of scan.layout.leftOut) {
      const path = displayPath(name)
      this.#notice(`not-copied:${path}`, `${path} in ${this.#root} is not a plain file, and is not copied.`)
    }
    return scan
  }

  #notice(code: string, message: string): void {
    if (this.#noticed.has(code)) return
    this.#noticed.add(code)
    this.#onNotice({ code: code.split(':')[0]!, message })
  }

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
        yield* this.#drain(scan, this.#succession(scan), options.signal)
      } else {
        yield* this.#compare(scan, inventory, options.signal)
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
    yield* this.#drain(scan, this.#successionFrom(newest, scan), options.signal)
  }

  async #forgetSent(): Promise<void> {
    this.#ledger.restart()
    this.#trees.clear()
    this.#strays.clear()
    this.#wholes.forget()
    this.#verification.forget()
    this.#justFinished.length = 0
    for (const pack of this.#packs.all()) {
      // nothing of it can be read again, and what the copy has of it stands in the inventory
      if (pack.vanished && !pack.held) this.#packs.forget(pack)
      pack.sent = 0
      pack.created = false
      pack.finished = false
      pack.removed = false
      pack.cutTo = undefined
      pack.followed = false
      pack.suspectSinceMs = undefined
    }
  }

  async #releaseFinished(pack: Pack): Promise<void> {
    if (pack.finished && !pack.followed && !pack.vanished) await pack.release()
  }

  /** The sink has the last commit: what was finished or removed with it needs no descriptor any more. */
  async #settle(): Promise<void> {
    for (const pack of this.#justFinished.splice(0)) await this.#releaseFinished(pack)
    for (const pack of this.#packs.all()) {
      if (!pack.removed) continue
      this.#packs.forget(pack)
      await pack.release()
      this.#verification.forget(pack)
    }
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
    this.#trees = found.trees
    this.#strays = found.strays
    for (const [name, identity] of found.wholes) this.#wholes.know(name, identity)
    const last = position.newest?.path
    if (last === undefined || found.newest === undefined) return found.newest ?? last
    return this.#profile.compare(found.newest, last) > 0 ? found.newest : last
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

  /** Everything that differs from the inventory, as one transaction. */
  async *#compare(scan: Scan, inventory: Inventory, signal: AbortSignal): AsyncGenerator<Entry> {
    checkSuccession(this.#profile, this.#root, {
      newest: undefined,
      packs: scan.packs.map(pack => pack.path),
      coveredTo: scan.layout.coveredTo,
    })
    this.#ledger.open()
    yield* sendDifference({
      storage: this.#storage,
      store: this.#store,
      root: this.#root,
      scan,
      inventory,
      wholes: this.#wholes,
      trees: this.#trees,
      signal,
    })
    // an abandoned comparison is no transaction: what was given is void
    if (signal.aborted) return
    const last = scan.packs.at(-1)
    for (const pack of scan.packs) if (pack !== last) await this.#finish(pack)
    if (last !== undefined) await this.#ledger.makeCurrent(last)
    yield this.#ledger.commit(true)
  }

  // ---- sending

  /** The usual way: only the newest pack has grown. */
  async *#drainNewest(signal: AbortSignal): AsyncGenerator<Entry> {
    const newest = this.#scan!.packs.at(-1)
    if (newest === undefined) return
    yield* this.#sendPack(newest, false, signal)
    if (this.#ledger.isOpen) yield this.#ledger.commit(true)
  }

  async *#drain(scan: Scan, succession: Succession, signal: AbortSignal): AsyncGenerator<Entry> {
    const wasConsistent = this.#ledger.isConsistent
    if (succession.kind === 'covered') {
      this.#ledger.leaveConsistency()
      yield* this.#sendTrees(scan)
      yield* this.#removeCovered(scan, succession.upTo)
    }
    const last = scan.packs.at(-1)
    for (const pack of scan.packs) {
      if (pack.finished || pack.removed) continue
      yield* this.#sendPack(pack, pack !== last, signal)
      if (signal.aborted) {
        if (this.#ledger.isOpen) yield this.#ledger.commit(this.#ledger.isConsistent)
        return
      }
      if (pack !== last) await this.#finish(pack)
    }
    yield* this.#sendTrees(scan)
    for await (const entry of this.#wholes.send(scan)) {
      this.#ledger.open()
      yield entry
    }
    yield* this.#removeVanished(scan)
    if (this.#thorough) this.#searchedMs = this.#clock.nowMs()
    this.#thorough = false
    if (this.#ledger.isOpen || !wasConsistent || this.#ledger.committed === undefined)
      yield this.#ledger.commit(true)
  }

  async *#sendPack(pack: Pack, hasSuccessor: boolean, signal: AbortSignal): AsyncGenerator<Entry> {
    const file = await pack.file()
    const stat = await file.stat()
    if (pack.cutTo !== undefined) yield* this.#cutTail(pack, pack.cutTo)
    else if (stat.size < pack.sent) yield* this.#cutTail(pack, stat.size)
    const thorough = this.#thorough && stat.mtimeNs !== pack.searchedMtimeNs
    const end = hasSuccessor ? stat.size : await usableEnd(file, pack.sent, stat.size, thorough)
    if (thorough) pack.searchedMtimeNs = stat.mtimeNs
    if (stat.size === pack.sent) await this.#lookAgain(pack, stat.mtimeNs !== pack.stat.mtimeNs)
    else pack.suspectSinceMs = undefined
    pack.stat = stat
    if (!pack.created) {
      await this.#ledger.makeCurrent(pack)
      pack.created = true
      this.#ledger.open()
      // makes the file, though it may have no bytes yet
      yield { type: 'write', store: this.#store, path: pack.path, offset: 0, data: Buffer.alloc(0) }
    } else if (pack.sent > 0 && end > pack.sent) {
      pack.followed = true
    }
    if (end <= pack.sent) return
    await this.#ledger.makeCurrent(pack)
    for await (const { data, recycle } of readAhead(this.#chunks, file, pack.sent, end)) {
      const offset = pack.sent
      this.#ledger.append(pack, data)
      yield { type: 'write', store: this.#store, path: pack.path, offset, data, recycle }
      if (this.#ledger.isCommitDue) yield this.#ledger.commit(this.#ledger.isConsistent)
      if (signal.aborted) return
      // what was made meanwhile is opened at once, lest it be deleted unseen
      if ((this.#watcher.takeEvents() & ~watchEvent.modify) !== 0) {
        this.#thorough = true
        await this.#packs.scan(signal, false)
      }
    }
    if (pack.sent < end) throw truncated(this.#root, pack, pack.sent)
  }

  async *#cutTail(pack: Pack, size: number): AsyncGenerator<Entry> {
    if (!this.#profile.tailMayShrink) throw truncated(this.#root, pack, size)
    this.#notice(
      `tail-cut:${pack.path}:${size}`,
      `${pack.name} in ${this.#root} was cut from ${pack.sent} bytes by its engine; the copy is, to ${size}.`,
    )
    pack.sent = size
    pack.cutTo = undefined
    pack.followed = true
    await this.#ledger.cut(pack)
    yield { type: 'truncate', store: this.#store, path: pack.path, size }
  }

  async #finish(pack: Pack): Promise<void> {
    pack.finished = true
    this.#justFinished.push(pack)
    if (this.#justFinished.length > finishedHeldMax) await this.#releaseFinished(this.#justFinished.shift()!)
  }

  async *#sendTrees(scan: Scan): AsyncGenerator<Entry> {
    for (const name of scan.layout.trees) {
      if (this.#trees.has(name)) continue
      let sent = false
      for await (const entry of this.#wholes.sendTree(name)) {
        this.#ledger.open()
        sent = true
        yield entry
      }
      if (sent) this.#trees.add(name)
      else this.#thorough = true
    }
  }

  async *#removeCovered(scan: Scan, upTo: number): AsyncGenerator<Entry> {
    const listed = new Set<string>(scan.layout.packs)
    const number = (path: EntryPath) => this.#profile.sequenceNumber?.(path) ?? Number.POSITIVE_INFINITY
    const covered = [...this.#strays].filter(path => number(path) <= upTo)
    for (const pack of this.#packs.all()) {
      if (pack.vanished && number(pack.path) <= upTo && !listed.has(pack.path)) covered.push(pack.path)
    }
    yield* this.#remove(covered)
  }

  /** What is gone at the source, once its successors were sent. */
  async *#removeVanished(scan: Scan): AsyncGenerator<Entry> {
    // by what this drain has sent: a look meanwhile may know of a newer layout, whose files are not all sent yet
    const listed = new Set<string>(scan.layout.packs)
    const gone = this.#packs
      .all()
      .filter(pack =>
        this.#profile.vanished === 'drop'
          ? pack.vanished && !listed.has(pack.path)
          : pack.vanished && pack.finished,
      )
      .map(pack => pack.path)
    const trees = [...this.#trees].filter(name => !scan.view.entries.has(name)).map(entryPath)
    const wholes = this.#wholes.vanished(scan).map(entryPath)
    yield* this.#remove([...gone, ...trees, ...wholes, ...this.#strays])
  }

  async *#remove(paths: readonly EntryPath[]): AsyncGenerator<Entry> {
    for (const path of [...new Set(paths)].sort(this.#profile.compare)) {
      const isStray = this.#strays.delete(path)
      this.#trees.delete(path)
      this.#wholes.drop(path)
      const pack = this.#packs.get(path)
      if (pack !== undefined && !isStray) {
        if (pack.removed) continue
        pack.removed = true
        if (!pack.created) continue
      }
      this.#ledger.open()
      yield { type: 'remove', store: this.#store, path }
    }
  }

  // ---- looking again at what was sent

  /** A modification without growth: the tail is compared now, the whole pack when no growth follows. */
  async #lookAgain(pack: Pack, modified: boolean): Promise<void> {
    if (pack.sent === 0 || !pack.created) return
    const nowMs = this.#clock.nowMs()
    if (pack.suspectSinceMs !== undefined && nowMs - pack.suspectSinceMs >= suspicionMs) {
      pack.suspectSinceMs = undefined
      this.#verification.request(pack)
    }
    if (!modified) return
    pack.suspectSinceMs ??= nowMs
    const at = await this.#ledger.compareTail(pack)
    if (at !== undefined) throw changedInside(this.#root, pack, at)
  }

  #suspectInMs(): number {
    const newest = this.#scan?.packs.at(-1)
    if (newest?.suspectSinceMs === undefined) return safetyPollMs
    return Math.max(0, newest.suspectSinceMs + suspicionMs - this.#clock.nowMs())
  }
}

function described(profile: string, pattern: string | undefined): string {
  return `profile ${profile}${pattern === undefined ? '' : ` and pattern '${pattern}'`}`
}

async function isEmpty(inventory: Inventory): Promise<boolean> {
  for await (const _ of inventory.files()) return false
  return true
}
