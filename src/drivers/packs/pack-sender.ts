/**
 * Gives what the copy lacks, and knows what it has beside packs.
 *
 * Invariant: every prefix of what is given is what the engine might have found after a crash of its own: packs in
 * ascending order, each whole before the next begins, then trees and whole files, and what is gone at the source last. A
 * drain that comes to its end ends in a consistent commit; a longer one is cut into several. A pack's descriptor is let
 * go of only when what was given of it is committed (`settle`).
 */
import { ChunkPool } from '../../os/chunk-pool.ts'
import type { Storage } from '../../os/storage.ts'
import { type Entry, type EntryPath, entryPath, type StoreName } from '../../stream/entry.ts'
import type { Inventory } from '../../stream/sink.ts'
import { sendDifference } from './difference.ts'
import { truncated } from './faults.ts'
import type { Ledger } from './ledger.ts'
import type { Lookout } from './lookout.ts'
import type { Pack } from './pack.ts'
import type { PackSet, Scan } from './pack-set.ts'
import type { Profile } from './profile.ts'
import { readAhead } from './read-ahead.ts'
import type { Succession } from './sequence.ts'
import type { Suspicion } from './suspicion.ts'
import type { Verification } from './verification.ts'
import type { WholeFiles } from './whole-files.ts'
import { usableEnd } from './zero-tail.ts'

/** Finished packs are held until their commit is durable, but no more than so many. */
const finishedHeldMax = 64

export interface SenderOptions {
  readonly storage: Storage
  readonly store: StoreName
  readonly root: string
  readonly profile: Profile
  /** Each code is said once. */
  notice(code: string, message: string): void
}

export interface SenderParts {
  readonly packs: PackSet
  readonly wholes: WholeFiles
  readonly ledger: Ledger
  readonly lookout: Lookout
  readonly suspicion: Suspicion
  readonly verification: Verification
}

export class PackSender {
  readonly #options: SenderOptions
  readonly #store: StoreName
  readonly #profile: Profile
  readonly #packs: PackSet
  readonly #wholes: WholeFiles
  readonly #ledger: Ledger
  readonly #lookout: Lookout
  readonly #suspicion: Suspicion
  readonly #verification: Verification
  readonly #chunks = new ChunkPool()
  /** Trees that the copy has. */
  #trees = new Set<string>()
  /** What the copy has and the source no longer. */
  #strays = new Set<EntryPath>()
  /** Finished since the sink was last known to have everything; the position may still name one of them. */
  readonly #justFinished: Pack[] = []

  constructor(options: SenderOptions, parts: SenderParts) {
    this.#options = options
    this.#store = options.store
    this.#profile = options.profile
    this.#packs = parts.packs
    this.#wholes = parts.wholes
    this.#ledger = parts.ledger
    this.#lookout = parts.lookout
    this.#suspicion = parts.suspicion
    this.#verification = parts.verification
  }

  // ---- what the copy has

  /** Nothing is known of the copy any more. */
  forget(): void {
    this.#trees.clear()
    this.#strays.clear()
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

  /** The copy was found to have these trees, and these files that the source no longer has. */
  know(found: { readonly trees: Iterable<string>; readonly strays: Iterable<EntryPath> }): void {
    this.#trees = new Set(found.trees)
    this.#strays = new Set(found.strays)
  }

  /** The sink has the last commit: what was finished or removed with it needs no descriptor any more. */
  async settle(): Promise<void> {
    for (const pack of this.#justFinished.splice(0)) await releaseFinished(pack)
    for (const pack of this.#packs.all()) {
      if (!pack.removed) continue
      this.#packs.forget(pack)
      await pack.release()
      this.#verification.forget(pack)
    }
  }

  // ---- giving

  /** The usual way: only the newest pack has grown. */
  async *drainNewest(newest: Pack | undefined, signal: AbortSignal): AsyncGenerator<Entry> {
    if (newest === undefined) return
    yield* this.#sendPack(newest, false, signal)
    if (this.#ledger.isOpen) yield this.#ledger.commit(true)
  }

  /** All that the look found and the copy does not have. */
  async *drain(scan: Scan, succession: Succession, signal: AbortSignal): AsyncGenerator<Entry> {
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
    this.#lookout.given()
    if (this.#ledger.isOpen || !wasConsistent || this.#ledger.committed === undefined)
      yield this.#ledger.commit(true)
  }

  /** Everything that differs from the inventory, as one transaction. */
  async *compare(scan: Scan, inventory: Inventory, signal: AbortSignal): AsyncGenerator<Entry> {
    const { storage, root } = this.#options
    this.#ledger.open()
    yield* sendDifference({
      storage,
      store: this.#store,
      root,
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

  async *#sendPack(pack: Pack, hasSuccessor: boolean, signal: AbortSignal): AsyncGenerator<Entry> {
    const file = await pack.file()
    const stat = await file.stat()
    if (pack.cutTo !== undefined) yield* this.#cutTail(pack, pack.cutTo)
    else if (stat.size < pack.sent) yield* this.#cutTail(pack, stat.size)
    const thorough = this.#lookout.isThorough && stat.mtimeNs !== pack.searchedMtimeNs
    const end = hasSuccessor ? stat.size : await usableEnd(file, pack.sent, stat.size, thorough)
    if (thorough) pack.searchedMtimeNs = stat.mtimeNs
    if (stat.size === pack.sent) await this.#suspicion.look(pack, stat.mtimeNs !== pack.stat.mtimeNs)
    else this.#suspicion.clear(pack)
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
      await this.#lookout.openNew(signal)
    }
    if (pack.sent < end) throw truncated(this.#options.root, pack, pack.sent)
  }

  async *#cutTail(pack: Pack, size: number): AsyncGenerator<Entry> {
    const { root, notice } = this.#options
    if (!this.#profile.tailMayShrink) throw truncated(root, pack, size)
    notice(
      `tail-cut:${pack.path}:${size}`,
      `${pack.name} in ${root} was cut from ${pack.sent} bytes by its engine; the copy is, to ${size}.`,
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
    if (this.#justFinished.length > finishedHeldMax) await releaseFinished(this.#justFinished.shift()!)
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
      else this.#lookout.lookThoroughly()
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
}

async function releaseFinished(pack: Pack): Promise<void> {
  if (pack.finished && !pack.followed && !pack.vanished) await pack.release()
}
