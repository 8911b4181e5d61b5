/**
 * A driver for tests of whole servers: its store is a directory on any Storage, so that it runs on a disk that fails
 * and under a clock that is not real.
 *
 * The application (`ScriptStore`) appends each transaction to the file `journal`, durably, and then makes its changes to
 * the other files; the journal is part of the store. So a copy proves itself: its journal is a prefix of that of its
 * primary, and its other files are what that journal says (`scriptContent`). A copy that is released is a live store.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { xxh64 } from '@node-rs/xxhash'
import type { CheckReport, CopyOptions, Driver, ReplicaOptions, SourceOptions } from '../../drivers/driver.ts'
import { snapshotBlockBytes } from '../../drivers/snapshot.ts'
import type { Clock } from '../../os/clock.ts'
import { HotspareError } from '../../os/errors.ts'
import { parentDirectory, readSmallFile, type Storage } from '../../os/storage.ts'
import { cloneFileCopy } from '../../replica/clone.ts'
import { openFileReplica } from '../../replica/file-replica.ts'
import { snapshotRecorded } from '../../replica/recorded-snapshot.ts'
import { type Change, type Entry, entryPath, type Position, position } from '../../stream/entry.ts'
import { encodeFrame, readFrame } from '../../stream/frame.ts'
import { barePosition } from '../../stream/numbered-position.ts'
import type { Inventory } from '../../stream/sink.ts'
import type { ReadOptions, Source } from '../../stream/source.ts'

const journalName = 'journal'
const journalBytesMax = 64 * 1024 * 1024
const pollMs = 1000
// what a snapshot wants
const copyBlockBytes = snapshotBlockBytes

export type ScriptChange =
  | { readonly type: 'write'; readonly path: string; readonly offset: number; readonly data: string }
  | { readonly type: 'truncate'; readonly path: string; readonly size: number }
  | { readonly type: 'remove'; readonly path: string }

export interface ScriptTransaction {
  readonly timeMs: number
  readonly changes: readonly ScriptChange[]
  /** Where its frame ends in the journal. */
  readonly end: number
}

/** The whole transactions of a journal, from the end of one on; a torn one at its end is none. */
export function scriptTransactions(journal: Buffer, from = 0): ScriptTransaction[] {
  const found: ScriptTransaction[] = []
  for (let at = from; ; ) {
    const frame = readFrame(journal, at)
    if (frame.kind !== 'frame') return found
    found.push({ ...JSON.parse(frame.payload.toString('utf8')), end: frame.end })
    at = frame.end
  }
}

/** Where the last whole transaction of a journal ends. */
export function scriptJournalEnd(journal: Buffer): number {
  for (let at = 0; ; ) {
    const frame = readFrame(journal, at)
    if (frame.kind !== 'frame') return at
    at = frame.end
  }
}

/** What a store with this journal has: all files, the journal among them. */
export function scriptContent(journal: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  let end = 0
  for (const transaction of scriptTransactions(journal)) {
    for (const change of transaction.changes) applyTo(files, change)
    end = transaction.end
  }
  files.set(journalName, journal.subarray(0, end))
  return files
}

export async function readScriptJournal(storage: Storage, path: string): Promise<Buffer> {
  return (await readSmallFile(storage, `${path}/${journalName}`, journalBytesMax)) ?? Buffer.alloc(0)
}

function applyTo(files: Map<string, Buffer>, change: ScriptChange): void {
  if (change.type === 'remove') {
    files.delete(change.path)
    return
  }
  const before = files.get(change.path) ?? Buffer.alloc(0)
  const data = change.type === 'write' ? Buffer.from(change.data, 'latin1') : Buffer.alloc(0)
  const size = change.type === 'write' ? Math.max(before.length, change.offset + data.length) : change.size
  const after = Buffer.alloc(size)
  before.copy(after)
  if (change.type === 'write') data.copy(after, change.offset)
  files.set(change.path, after)
}

/** The application. */
export class ScriptStore {
  readonly path: string
  readonly #storage: Storage
  readonly #clock: Clock
  readonly #wakers: Set<() => void>

  constructor(driver: ScriptDriver, storage: Storage, clock: Clock, path: string) {
    this.path = path
    this.#storage = storage
    this.#clock = clock
    this.#wakers = driver.wakersOf(path)
  }

  /** Starts the application: what a crash left of its last transaction is completed, or cut. */
  async open(): Promise<void> {
    await this.#storage.makeDirectory(this.path)
    await this.#storage.syncDirectory(parentDirectory(this.path))
    const journal = await readScriptJournal(this.#storage, this.path)
    const content = scriptContent(journal)
    for (const name of await this.#storage.list(this.path)) {
      if (!content.has(name)) await this.#storage.remove(`${this.path}/${name}`)
    }
    for (const [name, bytes] of content) await this.#put(name, bytes)
    await this.#storage.syncDirectory(this.path)
  }

  /** Resolves when the transaction is durable, with where it ends in the journal. */
  async commit(changes: readonly ScriptChange[]): Promise<number> {
    const file = await this.#storage.open(`${this.path}/${journalName}`, 'create')
    let end: number
    try {
      const { size } = await file.stat()
      const frame = encodeFrame(Buffer.from(JSON.stringify({ timeMs: this.#clock.nowMs(), changes }), 'utf8'))
      await file.write(frame, size)
      await file.sync()
      end = size + frame.length
    } finally {
      await file.close()
    }
    for (const change of changes) await this.#make(change)
    for (const wake of [...this.#wakers]) wake()
    return end
  }

  async #make(change: ScriptChange): Promise<void> {
    const path = `${this.path}/${change.path}`
    if (change.type === 'remove') return this.#storage.remove(path)
    const file = await this.#storage.open(path, 'create')
    try {
      if (change.type === 'write') await file.write(Buffer.from(change.data, 'latin1'), change.offset)
      else await file.truncate(change.size)
    } finally {
      await file.close()
    }
  }

  async #put(name: string, bytes: Buffer): Promise<void> {
    const file = await this.#storage.open(`${this.path}/${name}`, 'create')
    try {
      await file.write(bytes, 0)
      await file.truncate(bytes.length)
      await file.sync()
    } finally {
      await file.close()
    }
  }
}

interface ScriptPosition {
  readonly end: number
  /** Of the journal up to there. */
  readonly digest: string
}

class ScriptSource implements Source {
  readonly #options: SourceOptions
  readonly #wakers: Set<() => void>
  #last: ScriptPosition | undefined

  constructor(options: SourceOptions, wakers: Set<() => void>) {
    this.#options = options
    this.#wakers = wakers
  }

  async *read(from: Position | undefined, options: ReadOptions): AsyncGenerator<Entry> {
    const journal = await readScriptJournal(this.#options.storage, this.#options.path)
    const wanted = from === undefined ? undefined : (JSON.parse(barePosition(from)) as ScriptPosition)
    const known = this.#last !== undefined && wanted !== undefined && this.#last.digest === wanted.digest
    // as real drivers: a source that has just been opened asks what the copy has
    const inventory = known ? undefined : await options.inventory()
    const proved =
      wanted !== undefined && wanted.end <= journal.length && at(journal, wanted.end).digest === wanted.digest
    if (!proved) {
      yield* this.#compare(journal, inventory)
    } else {
      this.#last = wanted
    }
    for (const { end, changes, timeMs } of scriptTransactions(journal, this.#last?.end)) {
      if (options.signal.aborted) return
      const start = this.#last?.end ?? 0
      for (const change of changes) yield this.#entry(change)
      const data = Buffer.from(journal.subarray(start, end))
      yield { type: 'write', store: this.#options.store, path: entryPath(journalName), offset: start, data }
      yield this.#commit(journal, end, timeMs)
    }
  }

  /** The difference as one transaction. */
  async *#compare(journal: Buffer, inventory: Inventory | undefined): AsyncGenerator<Entry> {
    const { store } = this.#options
    const content = scriptContent(journal)
    for await (const { path } of inventory?.files() ?? []) {
      if (!content.has(path)) yield { type: 'remove', store, path }
    }
    for (const [name, bytes] of content) {
      const path = entryPath(name)
      const found = await inventory?.file(path)
      const blockBytes = found?.blockBytes ?? copyBlockBytes
      if (found === undefined) yield { type: 'write', store, path, offset: 0, data: Buffer.alloc(0) }
      for (let offset = 0; offset < bytes.length; offset += blockBytes) {
        const block = bytes.subarray(offset, offset + blockBytes)
        const isSame =
          found !== undefined &&
          Math.min(blockBytes, found.size - offset) === block.length &&
          blake3(block).equals(Buffer.from(await found.digests(offset / blockBytes, 1)))
        if (!isSame) yield { type: 'write', store, path, offset, data: Buffer.from(block) }
      }
      if (found !== undefined && found.size > bytes.length)
        yield { type: 'truncate', store, path, size: bytes.length }
    }
    yield this.#commit(journal, (content.get(journalName) as Buffer).length, this.#options.clock.nowMs())
  }

  #entry(change: ScriptChange): Change {
    const common = { store: this.#options.store, path: entryPath(change.path) }
    switch (change.type) {
      case 'write':
        return { type: 'write', ...common, offset: change.offset, data: Buffer.from(change.data, 'latin1') }
      case 'truncate':
        return { type: 'truncate', ...common, size: change.size }
      case 'remove':
        return { type: 'remove', ...common }
    }
  }

  #commit(journal: Buffer, end: number, timeMs: number): Entry {
    this.#last = at(journal, end)
    return {
      type: 'commit',
      store: this.#options.store,
      position: position(JSON.stringify(this.#last)),
      consistent: true,
      timeMs,
    }
  }

  async wait(signal: AbortSignal): Promise<void> {
    const over = new AbortController()
    const wake = () => over.abort()
    this.#wakers.add(wake)
    try {
      // what was written before anybody listened
      const journal = await this.#options.storage.stat(`${this.#options.path}/${journalName}`)
      if ((journal?.size ?? 0) > (this.#last?.end ?? 0)) return
      await this.#options.clock.sleep(pollMs, AbortSignal.any([signal, over.signal]))
    } finally {
      this.#wakers.delete(wake)
    }
  }

  async acknowledge(): Promise<void> {}
  async close(): Promise<void> {}
}

function at(journal: Buffer, end: number): ScriptPosition {
  return { end, digest: xxh64(journal.subarray(0, end), 0n).toString(16) }
}

function openReplica(options: ReplicaOptions) {
  return openFileReplica(options, { applies: 'atomic', blockBytes: copyBlockBytes })
}

export class ScriptDriver implements Driver {
  readonly name = 'script'
  readonly summary = 'what a test writes'
  readonly profiles = []
  readonly capabilities = { singleFile: false, appendsOnly: false, holdsWriters: false, stateDigest: false }
  readonly tools = []
  readonly #wakers = new Map<string, Set<() => void>>()

  wakersOf(path: string): Set<() => void> {
    const known = this.#wakers.get(path) ?? new Set()
    this.#wakers.set(path, known)
    return known
  }

  async detect(): Promise<undefined> {}

  async openSource(options: SourceOptions): Promise<Source> {
    if ((await options.storage.stat(`${options.path}/${journalName}`)) === undefined)
      throw new HotspareError('source-missing', `${options.path} has no journal.`)
    return new ScriptSource(options, this.wakersOf(options.path))
  }

  openReplica(options: ReplicaOptions) {
    return openReplica(options)
  }

  async recover(options: CopyOptions): Promise<void> {
    const replica = await openReplica({ ...options, resync: false, noDelete: false })
    await replica.close()
  }

  async check({ storage, path }: CopyOptions): Promise<CheckReport> {
    const journal = await readScriptJournal(storage, path)
    const content = scriptContent(journal)
    const names = await storage.list(path)
    const findings = names
      .filter(name => !content.has(name))
      .map(name => ({ ok: false, what: `${name} is not in the journal` }))
    for (const [name, bytes] of content) {
      const found = await readSmallFile(storage, `${path}/${name}`, journalBytesMax)
      const ok = found?.equals(bytes) ?? false
      findings.push({ ok, what: `${name} is what the journal says` })
    }
    return { valid: findings.every(({ ok }) => ok), findings, bytes: journal.length }
  }

  clone(options: Parameters<Driver['clone']>[0]) {
    return cloneFileCopy(options)
  }

  snapshot(options: Parameters<NonNullable<Driver['snapshot']>>[0]) {
    return snapshotRecorded(options)
  }

  async backlog(): Promise<undefined> {}
}
