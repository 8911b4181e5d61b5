/**
 * An upstream that a test writes: a log of its own on a disk that never fails, and stores whose content tells which
 * transaction it is of. It keeps the protocol's order and judges nothing.
 *
 * A store's transaction `n` appends the line `n` to the file `journal`, and writes `value`. So a copy is right when its
 * journal has the lines 1 to n and `value` is n.
 */
import type { LinkMessage, StoreDescription } from '../../../link/messages.ts'
import type { Channel, Session } from '../../../link/session.ts'
import type { Log } from '../../../log/log.ts'
import { openLog } from '../../../log/segment-log.ts'
import type { Clock } from '../../../os/clock.ts'
import { FaultyStorage } from '../../../os/testing/faulty-storage.ts'
import { MemoryDisk } from '../../../os/testing/memory-disk.ts'
import { encodeEntry } from '../../../stream/codec.ts'
import {
  type Change,
  type Entry,
  entryPath,
  type Position,
  position,
  type StoreName,
} from '../../../stream/entry.ts'
import type { Epoch } from '../../../stream/epoch.ts'
import type { LogPiece } from '../../../stream/log-piece.ts'
import type { Sink } from '../../../stream/sink.ts'
import { testRandom } from './test-random.ts'

type Of<T extends LinkMessage['type']> = Extract<LinkMessage, { readonly type: T }>

export interface Acknowledged {
  received: number
  applied: number
}

interface ScriptedStore {
  readonly sink: Sink
  /** Its transactions. */
  count: number
  /** Their numbers in the log. */
  readonly numbers: number[]
  /** The log's transactions of it after this number follow on what is sent beside it. */
  rebasedAt: number
}

export class UpstreamScript {
  readonly log: Log
  readonly epoch: Epoch
  readonly stores = new Map<StoreName, ScriptedStore>()
  /** What the downstream has said, over all sessions. */
  readonly acknowledged: Acknowledged = { received: 0, applied: 0 }
  /** What of it is to be synchronised anyway, with the next session. */
  readonly toSync = new Set<StoreName>()
  syncs = 0
  sessions = 0
  /** So many go together. */
  piecesMax = 1
  /** Where a log begins anew; at the end when undefined. */
  restartsAt: number | undefined
  /** No store that is brought comes to its end before. */
  mayEnd: Promise<void> = Promise.resolve()

  static async open(clock: Clock, names: readonly StoreName[], epoch: Epoch): Promise<UpstreamScript> {
    const storage = new FaultyStorage(new MemoryDisk())
    const log = await openLog({
      storage,
      clock,
      random: testRandom(7),
      directory: '/log',
      limits: { bytesMax: 64 * 1024 * 1024, whenFull: 'block', keepMs: 0, keepBytes: 64 * 1024 * 1024 },
      onNotice() {},
      epoch,
    })
    const upstream = new UpstreamScript(log, epoch)
    for (const name of names)
      upstream.stores.set(name, { sink: log.sink(name), count: 0, numbers: [], rebasedAt: 0 })
    return upstream
  }

  private constructor(log: Log, epoch: Epoch) {
    this.log = log
    this.epoch = epoch
  }

  /** One more transaction of the store, in the log. */
  async commit(store: StoreName, damaged?: (entry: Entry) => Entry): Promise<number> {
    const scripted = this.#store(store)
    scripted.count++
    for (const entry of transaction(store, scripted.count))
      await scripted.sink.write(damaged?.(entry) ?? entry)
    await scripted.sink.sync()
    scripted.numbers.push(this.log.durable)
    return this.log.durable
  }

  countOf(store: StoreName): number {
    return this.#store(store).count
  }

  /** Its transactions up to a number of the log. */
  countUpTo(store: StoreName, number: number): number {
    return this.#store(store).numbers.filter(each => each <= number).length
  }

  /** Serves one session to its end. */
  async serve(session: Session): Promise<void> {
    this.sessions++
    const control = session.channel('control')
    const subscribe = await first(control.messages(), 'subscribe')
    const restart =
      session.peer.stream !== this.log.stream ||
      subscribe.next > this.log.next ||
      subscribe.next < this.log.first ||
      (await this.log.chainAfter(subscribe.next - 1)) !== subscribe.chain
    const next = restart ? (this.restartsAt ?? this.log.next) : subscribe.next
    const sync = [...this.stores.keys()].filter(store => {
      const stand = subscribe.stores.find(each => each.store === store)
      const isBehind = stand?.number === undefined || stand.number < this.#store(store).rebasedAt
      return restart || ((isBehind || this.toSync.has(store)) && stand?.quarantined !== true)
    })
    this.toSync.clear()
    await control.send({
      type: 'subscribed',
      next,
      chain: (await this.log.chainAfter(next - 1)) as string,
      restart,
      stream: this.log.stream,
      epoch: this.log.epoch,
      stores: [...this.stores.keys()].map(described),
      sync,
    })
    const log = session.channel('log')
    const done = new AbortController()
    void session.over.then(() => done.abort())
    await Promise.allSettled([
      ...sync.map(store => this.synchronise(session, store)),
      this.#ship(log, next, done.signal),
      this.#hear(log),
    ])
  }

  /** Brings all of the store as it is now, beside the log. */
  async synchronise(session: Session, store: StoreName): Promise<void> {
    this.syncs++
    const channel = session.channel(`sync ${store}`)
    const answers = channel.messages()
    await channel.send({ type: 'sync-begin', description: described(store) })
    await first(answers, 'sync-ready', false)
    await channel.send({ type: 'inventory-ask', after: undefined })
    const { files } = await first(answers, 'inventory-page', false)
    const count = this.countOf(store)
    // half of it first, to be broken off there
    const entries: Entry[] = [
      ...files.map(({ path }): Change => ({ type: 'remove', store, path })),
      ...whole(store, count),
    ]
    for (const entry of entries) await channel.send({ type: 'sync-entries', data: encodeEntry(entry) })
    await channel.send({ type: 'sync-flush', id: 1 })
    await first(answers, 'sync-durable', false)
    await this.mayEnd
    const number = this.log.durable
    const at = positionOf(count)
    await this.log.rebase(store, at)
    this.#store(store).rebasedAt = number
    await channel.send({ type: 'sync-end', number, position: at })
    await first(answers, 'sync-ended', false)
  }

  async #ship(channel: Channel, from: number, signal: AbortSignal): Promise<void> {
    let next = from
    while (!signal.aborted) {
      let pieces: LogPiece[] = []
      for await (const piece of this.log.read(next, signal)) {
        pieces.push(piece)
        if (piece.type === 'end') next = piece.number + 1
        if (pieces.length < this.piecesMax) continue
        await channel.send({ type: 'log', pieces })
        pieces = []
      }
      if (pieces.length > 0) await channel.send({ type: 'log', pieces })
      await channel.send({ type: 'mark', number: next - 1, timeMs: 0 })
      await this.log.wait(next - 1, signal)
    }
  }

  async #hear(channel: Channel): Promise<void> {
    for await (const message of channel.messages()) {
      if (message.type !== 'acknowledge') continue
      this.acknowledged.received = Math.max(this.acknowledged.received, message.received)
      this.acknowledged.applied = message.applied
    }
  }

  #store(store: StoreName): ScriptedStore {
    const scripted = this.stores.get(store)
    if (scripted === undefined) throw new Error(`no store '${store}'`)
    return scripted
  }
}

export function positionOf(count: number): Position {
  return position(JSON.stringify({ count }))
}

function transaction(store: StoreName, count: number): Entry[] {
  const line = `${count}\n`
  const before = lines(count - 1).length
  return [
    { type: 'write', store, path: entryPath('journal'), offset: before, data: Buffer.from(line) },
    {
      type: 'write',
      store,
      path: entryPath('value'),
      offset: 0,
      data: Buffer.from(String(count).padStart(8)),
    },
    commitOf(store, count),
  ]
}

function whole(store: StoreName, count: number): Entry[] {
  return [
    { type: 'write', store, path: entryPath('journal'), offset: 0, data: Buffer.from(lines(count)) },
    {
      type: 'write',
      store,
      path: entryPath('value'),
      offset: 0,
      data: Buffer.from(String(count).padStart(8)),
    },
    commitOf(store, count),
  ]
}

function commitOf(store: StoreName, count: number): Entry {
  return { type: 'commit', store, position: positionOf(count), consistent: true, timeMs: 1000 + count }
}

export function lines(count: number): string {
  return Array.from({ length: count }, (_, i) => `${i + 1}\n`).join('')
}

function described(store: StoreName): StoreDescription {
  return { store, driver: 'script' }
}

/** The next message, which is of this type. With `ends`, nobody reads on. */
async function first<T extends LinkMessage['type']>(
  messages: AsyncIterable<LinkMessage>,
  type: T,
  ends = true,
): Promise<Of<T>> {
  const iterator = messages[Symbol.asyncIterator]()
  const next = await iterator.next()
  if (ends) await iterator.return?.()
  if (next.done === true || next.value.type !== type) {
    throw new Error(`'${next.done === true ? 'the end' : next.value.type}' came, and not '${type}'`)
  }
  return next.value as Of<T>
}
