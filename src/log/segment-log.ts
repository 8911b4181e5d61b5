/**
 * The log in local files: segments of whole transactions (log-record.ts), and a small state beside them (log-state.ts).
 *
 *     lock                      held while the log is open
 *     state                     stream, epoch, rebases, subscribers
 *     NNNNNNNNNNNNNNNNNNNN.seg  transactions from number N on
 *     spool-STORE               a large transaction before its commit; void after a crash
 *     damaged/                  what was found damaged, as it was found
 *
 * Invariant: `read`, `wait` and the pieces that they give are of transactions that are durable. Numbers are given when
 * a transaction is appended as a whole, so that there are no gaps. A crash leaves a prefix of what was appended that
 * contains all that `sync` has said to be durable.
 */
import { assert, describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import { type FileLock, parentDirectory, type Storage, type StorageFile } from '../os/storage.ts'
import type { Commit, Position, StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import type { Sink } from '../stream/sink.ts'
import type { Readable } from './frame-cursor.ts'
import type {
  Log,
  LogDamage,
  LogLimits,
  LogOptions,
  LogStart,
  OpenLog,
  StoreMark,
  SubscriberState,
} from './log.ts'
import { chainBytes, chainOf } from './log-chain.ts'
import { type OpenedSegments, openSegments, statePath } from './log-opening.ts'
import { encodeRecord, saltBytes } from './log-record.ts'
import { LogSpace } from './log-space.ts'
import { type LogState, type Subscriber, writeState } from './log-state.ts'
import { LogWaiters } from './log-waiters.ts'
import { neededRebases, positionOf, type Rebase } from './rebases.ts'
import { ReceivedTransaction } from './receiver.ts'
import { removableCount } from './retention.ts'
import { type Segment, segmentName } from './segment.ts'
import { readSegment } from './segment-reader.ts'
import { SegmentWriter } from './segment-writer.ts'
import { StoreSink } from './store-sink.ts'
import { SubscriberTable } from './subscriber-table.ts'
import { TransactionSpool } from './transaction-spool.ts'
import { Turns } from './turns.ts'
import { writeTransactions } from './txlog-file.ts'

const segmentBytesDefault = 16 * 1024 * 1024
const segmentBytesMin = 4 * 1024
const bufferBytesDefault = 4 * 1024 * 1024
/** Acknowledgements are made durable so long after they came, at the latest. */
const stateDelayMs = 1000
const receivePieceBytes = 1024 * 1024

export const openLog: OpenLog = async options => {
  const { storage, directory, onNotice } = options
  const lock = await takeLog(storage, directory)
  try {
    const opened = await openSegments(options)
    for (const damage of opened.damage) {
      onNotice({
        level: 'error',
        code: 'log-damaged',
        message: damageText(damage),
        details: { ...damage },
      })
    }
    return new SegmentLog(options, lock, opened)
  } catch (error) {
    await lock.release()
    throw describeSystemError(error, `Cannot open the log in '${directory}'`)
  }
}

/** The lock of a log that nobody has open; `log-busy`. */
export async function takeLog(storage: Storage, directory: string): Promise<FileLock> {
  await makeDurably(storage, directory)
  const lock = await storage.lock(`${directory}/lock`, 'exclusive')
  if (lock !== undefined) return lock
  throw new HotspareError('log-busy', `The log in '${directory}' is in use by another process.`, {
    details: { directory },
  })
}

/** Also when it is there already: whoever made it may have been stopped before its name was durable. */
async function makeDurably(storage: Storage, directory: string): Promise<void> {
  const parent = parentDirectory(directory)
  if ((await storage.stat(parent)) === undefined) await makeDurably(storage, parent)
  await storage.makeDirectory(directory)
  await storage.syncDirectory(parent)
}

function damageText({ fromNumber, toNumber, file, offset, what, goesOn }: LogDamage): string {
  const numbers =
    toNumber < fromNumber ? 'no transactions are' : `transactions ${fromNumber} to ${toNumber} are`
  const kept = file === undefined ? '' : ` It is kept as '${file}'.`
  return `The log is damaged (${what}, at offset ${offset}): ${numbers} gone from it, and it goes on ${goesOn} the damage.${kept}`
}

class SegmentLog implements Log {
  readonly #options: LogOptions
  readonly #storage: Storage
  readonly #lock: FileLock
  readonly damage: readonly LogDamage[]
  #limits: LogLimits
  #state: LogState
  #segments: Segment[]
  #marks: Map<StoreName, StoreMark>
  #rebases: readonly Rebase[]
  #subscribers: SubscriberTable
  #epoch: Epoch
  /** Of the last transaction. */
  #lastEpoch: Epoch
  #writer: SegmentWriter
  #space: LogSpace
  /** Transactions come in one after another. Who waits for space waits here, and holds up nobody who subscribes. */
  readonly #incoming = new Turns()
  /** Who appends, or begins a segment; nothing else changes what the log has. */
  readonly #appending = new Turns()
  readonly #stating = new Turns()
  readonly #trims = new Turns()
  readonly #sinks = new Map<StoreName, StoreSink>()
  #received: ReceivedTransaction | undefined
  #receiving = new AbortController()
  /** Who waits for space holds the turn to append: aborted when others need it. */
  #waitingForSpace = new AbortController()
  readonly #waiters = new LogWaiters()
  /** What is read from an older one may have been taken back. */
  #generation = 0
  /** Bytes of all segments but the last. */
  #closedBytes = 0
  #stateDue: Promise<void> | undefined
  #isStateDue = false
  #trimming: Promise<void> | undefined
  readonly #closing = new AbortController()

  constructor(options: LogOptions, lock: FileLock, opened: OpenedSegments) {
    this.#options = options
    this.#storage = options.storage
    this.#lock = lock
    this.#limits = options.limits
    this.damage = opened.damage
    this.#state = opened.state
    this.#segments = opened.segments
    this.#marks = opened.marks
    this.#rebases = opened.state.rebases
    this.#subscribers = new SubscriberTable(opened.state.subscribers)
    this.#epoch = opened.epoch
    this.#lastEpoch = opened.lastEpoch
    this.#writer = this.#newWriter(opened)
    this.#space = this.#newSpace()
    this.#countClosed()
  }

  #newWriter({ file, segments }: OpenedSegments): SegmentWriter {
    const segment = segments.at(-1) as Segment
    return new SegmentWriter(this.#storage, { file, segment }, this.#bufferBytes, number =>
      this.#waiters.wake(number),
    )
  }

  get #bufferBytes(): number {
    return this.#options.bufferBytes ?? bufferBytesDefault
  }

  #newSpace(): LogSpace {
    const log = this
    return new LogSpace(
      {
        get bytes() {
          return log.bytes
        },
        get last() {
          return log.next - 1
        },
        get limits() {
          return log.#limits
        },
        makeRoom: () => log.#appending.run(() => log.#makeRoom()),
        sync: () => log.#writer.sync(),
        subscribersChanged: () => log.#stateSoon(),
      },
      this.#options.clock,
      this.#subscribers,
      this.#options.onNotice,
    )
  }

  #countClosed(): void {
    this.#closedBytes = this.#segments.slice(0, -1).reduce((sum, segment) => sum + segment.end, 0)
  }

  get stream(): string {
    return this.#state.stream
  }

  get first(): number {
    return (this.#segments[0] as Segment).first
  }

  get next(): number {
    return this.#writer.segment.last + 1
  }

  get durable(): number {
    return this.#writer.durable
  }

  get bytes(): number {
    return this.#closedBytes + this.#writer.end
  }

  get epoch(): Epoch {
    return this.#epoch
  }

  get limits(): LogLimits {
    return this.#limits
  }

  get fullSinceMs(): number | undefined {
    return this.#space.fullSinceMs
  }

  get #chain(): Chain {
    return this.#writer.segment.chain
  }

  #check(): void {
    if (this.#closing.signal.aborted) throw closed()
    this.#writer.check()
  }

  // appending

  sink(store: StoreName, signal?: AbortSignal): Sink {
    this.#check()
    assert(!this.#sinks.has(store), `there is a sink for '${store}' already`)
    const sink = new StoreSink(
      {
        position: () => this.#position(store),
        append: (_, spool, commit) => this.#append(store, spool, commit, signal),
        sync: () => this.sync(),
        released: () => this.#sinks.delete(store),
      },
      store,
      new TransactionSpool(this.#storage, `${this.#options.directory}/spool-${store}`, this.#bufferBytes),
    )
    this.#sinks.set(store, sink)
    return sink
  }

  /** What was written and not synced would be read from the source and numbered a second time. */
  async #position(store: StoreName): Promise<Position | undefined> {
    await this.sync()
    return positionOf(store, this.#marks.get(store), this.#rebases)
  }

  mark(store: StoreName): StoreMark | undefined {
    return this.#marks.get(store)
  }

  lastBefore(store: StoreName): number | undefined {
    return this.#segments[0]?.numbersBefore.get(store)
  }

  marks(): ReadonlyMap<StoreName, StoreMark> {
    return this.#marks
  }

  #append(
    store: StoreName,
    spool: TransactionSpool,
    commit: Commit,
    signal: AbortSignal | undefined,
  ): Promise<void> | undefined {
    this.#check()
    const { memory, bytes } = spool
    const isSimple =
      memory !== undefined && this.#space.fits(bytes) && !this.#mustRoll && !this.#writer.mustFlush
    if (this.#incoming.isFree && this.#appending.isFree && isSimple) {
      this.#appendMemory(store, spool, memory, commit)
      return undefined
    }
    return this.#incoming.run(async () => {
      this.#check()
      const waiting = this.#waitingForSpace.signal
      const either = signal === undefined ? waiting : AbortSignal.any([waiting, signal])
      await this.#space.room(spool.bytes, either)
      await this.#appending.run(() => this.#appendSlowly(store, spool, commit))
    }, signal)
  }

  async #appendSlowly(store: StoreName, spool: TransactionSpool, commit: Commit): Promise<void> {
    this.#check()
    assert(this.#received === undefined, 'a transaction is appended while another is received')
    if (this.#mustRoll) await this.#roll()
    if (this.#writer.mustFlush) await this.#writer.flush()
    const { memory } = spool
    if (memory !== undefined) return this.#appendMemory(store, spool, memory, commit)
    this.#begin(this.next, this.#epoch, store)
    try {
      for await (const piece of spool.read()) {
        this.#writer.append(piece)
        if (this.#writer.mustFlush) await this.#writer.flush()
      }
    } catch (error) {
      await this.#writer.cutBack()
      throw error
    }
    this.#end(store, this.#chainOf(store, spool), commit, spool.bytes)
  }

  #appendMemory(store: StoreName, spool: TransactionSpool, memory: readonly Buffer[], commit: Commit): void {
    this.#begin(this.next, this.#epoch, store)
    for (const frame of memory) this.#writer.append(frame)
    this.#end(store, this.#chainOf(store, spool), commit, spool.bytes)
  }

  #chainOf(store: StoreName, spool: TransactionSpool): Chain {
    return chainOf(this.#chain, { number: this.next, epoch: this.#epoch, store, content: spool.content })
  }

  #begin(number: number, epoch: Epoch, store: StoreName): void {
    const { segment } = this.#writer
    assert(this.#writer.end === segment.end, 'a transaction begins within another')
    const { durableEnd, start } = segment
    this.#writer.append(encodeRecord({ type: 'begin', number, epoch, store, salt: start.salt, durableEnd }))
  }

  #end(store: StoreName, chain: Chain, commit: Commit, entryBytes: number): void {
    const number = this.next
    const { position, timeMs, consistent } = commit
    this.#writer.append(
      encodeRecord({ type: 'end', number, chain, position, timeMs, consistent, entryBytes }),
    )
    this.#writer.finish(number, chain, timeMs)
    this.#marks.set(store, { number, position, timeMs, consistent })
    this.#lastEpoch = this.#epoch
  }

  get #segmentBytes(): number {
    const wanted = this.#options.segmentBytes ?? segmentBytesDefault
    return Math.min(wanted, Math.max(segmentBytesMin, Math.floor(this.#limits.bytesMax / 8)))
  }

  get #mustRoll(): boolean {
    const { segment } = this.#writer
    return !segment.isEmpty && segment.end >= this.#segmentBytes
  }

  async #roll(): Promise<void> {
    const { stream, generation } = this.#state
    const path = `${this.#options.directory}/${segmentName(this.next)}`
    const salt = this.#options.random.bytes(saltBytes)
    const segment = await this.#writer.roll(
      path,
      before => ({
        stream,
        generation,
        salt,
        first: before.last + 1,
        chainBefore: before.chain,
        epochBefore: this.#epoch,
      }),
      this.#marks,
    )
    this.#segments.push(segment)
    this.#countClosed()
    this.#trimSoon()
  }

  // receiving

  receive(piece: LogPiece): Promise<void> {
    return this.#incoming.run(async () => {
      try {
        await this.#roomFor(piece)
        await this.#appending.run(() => this.#take(piece))
      } catch (error) {
        await this.#appending.run(() => this.#forgetReceived())
        throw error
      }
    })
  }

  async #roomFor(piece: LogPiece): Promise<void> {
    this.#check()
    if (piece.type === 'end') return
    // what is refused need not wait
    if (piece.type === 'begin' && this.#received === undefined)
      new ReceivedTransaction(piece, this.next, this.#epoch)
    const bytes = piece.type === 'begin' ? 0 : piece.data.length
    if (!this.#space.fits(bytes)) await this.#space.room(bytes, this.#receiveSignal)
  }

  async #take(piece: LogPiece): Promise<void> {
    this.#check()
    if (piece.type === 'begin') {
      if (this.#received !== undefined)
        throw new HotspareError('log-gap', `A transaction begins within ${this.#received.begin.number}.`)
      const received = new ReceivedTransaction(piece, this.next, this.#epoch)
      if (this.#mustRoll) await this.#roll()
      this.#begin(piece.number, piece.epoch, piece.store)
      this.#received = received
      return
    }
    const received = this.#received
    if (received === undefined)
      throw new HotspareError('log-gap', 'A piece came that belongs to no transaction.')
    if (piece.type === 'entries') {
      received.entries(piece.data)
      for (let at = 0; at < piece.data.length; at += receivePieceBytes)
        this.#writer.append(piece.data.subarray(at, at + receivePieceBytes))
      if (this.#writer.mustFlush) await this.#writer.flush()
      return
    }
    const commit = received.end(piece, this.#chain)
    this.#epoch = received.begin.epoch
    this.#end(received.begin.store, piece.chain, commit, received.entryBytes)
    this.#received = undefined
  }

  get #receiveSignal(): AbortSignal {
    return AbortSignal.any([this.#receiving.signal, this.#waitingForSpace.signal])
  }

  async abandon(): Promise<void> {
    // who waits for space holds up what comes behind
    this.#receiving.abort(new HotspareError('log-gap', 'What was received of the transaction was abandoned.'))
    await this.#incoming.run(async () => {
      this.#receiving = new AbortController()
      await this.#appending.run(() => this.#forgetReceived())
    })
  }

  async #forgetReceived(): Promise<void> {
    if (this.#received === undefined) return
    this.#received = undefined
    await this.#writer.cutBack()
  }

  // reading

  sync(): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(closed())
    return this.#writer.sync()
  }

  async *read(from: number, signal: AbortSignal): AsyncGenerator<LogPiece> {
    const generation = this.#generation
    this.#checkReadable(from)
    for (let number = from; number <= this.durable && !signal.aborted; ) {
      if (number < this.first) throw this.#removed(number)
      const segment = this.#segmentOf(number)
      const to = Math.min(this.durable, segment.last)
      const end = segment.durableEnd
      const file = this.#toRead(segment, number)
      try {
        const readBytes = Math.min(512 * 1024, Math.max(4096, end - segment.seek(number).offset))
        const range = { path: segment.path, place: segment.seek(number), from: number, to, end, readBytes }
        for await (const piece of readSegment(file, range)) {
          this.#checkSame(number, generation)
          yield piece
          if (piece.type === 'end') number = piece.number + 1
          if (signal.aborted) return
        }
      } finally {
        await file.close()
      }
    }
  }

  #checkReadable(number: number): void {
    if (this.#closing.signal.aborted) throw closed()
    if (number > this.next) {
      throw new HotspareError(
        'log-gap',
        `Transaction ${number} was asked for, and the log has come to ${this.next - 1}.`,
      )
    }
    if (number < this.first) throw this.#removed(number)
  }

  /** What is read goes on as long as the file is open, even when it is removed. */
  #checkSame(number: number, generation: number): void {
    if (this.#closing.signal.aborted) throw closed()
    if (generation !== this.#generation)
      throw new HotspareError(
        'log-removed',
        `The log was begun anew, or cut, while it was read at ${number}.`,
      )
  }

  #removed(number: number): HotspareError {
    return new HotspareError(
      'log-removed',
      `Transaction ${number} is not kept any more: the log begins with ${this.first}.`,
      { details: { number, first: this.first } },
    )
  }

  #segmentOf(number: number): Segment {
    let low = 0
    let high = this.#segments.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.#segments[middle] as Segment).first <= number) low = middle
      else high = middle - 1
    }
    return this.#segments[low] as Segment
  }

  /** Opened only when what is asked for is not in memory any more. */
  #toRead(segment: Segment, number: number): Readable & { close(): Promise<void> } {
    let file: StorageFile | undefined
    return {
      read: async (buffer, offset) => {
        if (this.#writer.readRecent(segment, buffer, offset)) return buffer.length
        file ??= await this.#openToRead(segment, number)
        return file.read(buffer, offset)
      },
      close: async () => file?.close(),
    }
  }

  async #openToRead(segment: Segment, number: number): Promise<StorageFile> {
    try {
      return await this.#storage.open(segment.path, 'read')
    } catch (error) {
      if (isSystemError(error, 'ENOENT') && this.first > number) throw this.#removed(number)
      throw describeSystemError(error, `Cannot read the log's segment '${segment.path}'`)
    }
  }

  wait(number: number, signal: AbortSignal): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(closed())
    if (this.durable > number || signal.aborted) return Promise.resolve()
    return this.#waiters.wait(number, signal)
  }

  async chainAfter(number: number): Promise<Chain | undefined> {
    if (number === this.next - 1) return this.#chain
    if (number < this.first - 1 || number >= this.next) return undefined
    if (number === this.first - 1) return (this.#segments[0] as Segment).start.chainBefore
    const segment = this.#segmentOf(number)
    if (segment.last === number) return segment.chain
    await this.sync()
    try {
      for await (const piece of this.read(number, new AbortController().signal))
        if (piece.type === 'end') return piece.chain
    } catch (error) {
      if (!(error instanceof HotspareError && error.code === 'log-removed')) throw error
    }
    return undefined
  }

  // subscribers

  subscribers(): readonly SubscriberState[] {
    return this.#subscribers.list()
  }

  subscribe(name: string, acknowledged: number): Promise<void> {
    return this.#appending.run(async () => {
      this.#check()
      if (acknowledged < this.first - 1) throw this.#removed(acknowledged + 1)
      if (acknowledged >= this.next) {
        throw new HotspareError(
          'log-gap',
          `'${name}' wants what follows ${acknowledged}, and the log has come to ${this.next - 1}.`,
        )
      }
      await this.#writer.sync()
      await this.#changeSubscriber(name, { acknowledged, kept: true })
    })
  }

  unsubscribe(name: string): Promise<void> {
    return this.#appending.run(async () => {
      this.#check()
      await this.#changeSubscriber(name, undefined)
      this.#space.changed()
      this.#trimSoon()
    })
  }

  async #changeSubscriber(name: string, subscriber: Subscriber | undefined): Promise<void> {
    const before = this.#subscribers.get(name)
    this.#subscribers.set(name, subscriber)
    try {
      await this.#writeState()
    } catch (error) {
      this.#subscribers.set(name, before)
      throw error
    }
  }

  acknowledge(name: string, number: number): void {
    if (!this.#subscribers.acknowledge(name, Math.min(number, this.durable))) return
    this.#space.changed()
    this.#stateSoon()
    if ((this.#segments[0] as Segment).last <= this.#subscribers.least(this.next - 1)) this.#trimSoon()
  }

  setLimits(limits: LogLimits): void {
    this.#limits = limits
    this.#space.changed()
    this.#trimSoon()
  }

  // what is durable beside the segments

  #stateSoon(): void {
    this.#isStateDue = true
    this.#stateDue ??= this.#writeStateInTime()
  }

  async #writeStateInTime(): Promise<void> {
    let isTold = false
    while (this.#isStateDue && !this.#closing.signal.aborted) {
      await this.#options.clock.sleep(stateDelayMs, this.#closing.signal)
      if (this.#closing.signal.aborted) break
      try {
        await this.#writeState()
      } catch (error) {
        // it is safe to go on: after a crash less is known to be acknowledged
        if (!isTold) this.#noticeUnwritten(error)
        isTold = true
      }
    }
    this.#stateDue = undefined
  }

  #noticeUnwritten(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error)
    this.#options.onNotice({
      level: 'warning',
      code: 'log-state-unwritten',
      message: `What was acknowledged cannot be written down, and will be tried again: ${why}`,
      details: { directory: this.#options.directory },
    })
  }

  #writeState(): Promise<void> {
    return this.#stating.run(async () => {
      this.#isStateDue = false
      this.#rebases = neededRebases(this.#rebases, this.#state.first)
      const state: LogState = {
        ...this.#state,
        epoch: this.#epoch,
        durable: this.durable,
        rebases: this.#rebases,
        subscribers: new Map(this.#subscribers.all),
      }
      try {
        await writeState(this.#storage, statePath(this.#options.directory), state)
        this.#state = { ...state, first: this.#state.first, chainBefore: this.#state.chainBefore }
      } catch (error) {
        this.#isStateDue = true
        throw describeSystemError(error, `Cannot write the state of the log in '${this.#options.directory}'`)
      }
    })
  }

  rebase(store: StoreName, position: Position | undefined): Promise<void> {
    return this.#appending.run(async () => {
      this.#check()
      assert(this.#sinks.get(store)?.isInside !== true, `store '${store}' is rebased within a transaction`)
      await this.#writer.sync()
      const rebase = { store, after: this.next - 1, position }
      this.#rebases = [...this.#rebases, rebase]
      try {
        await this.#writeState()
      } catch (error) {
        this.#rebases = this.#rebases.filter(one => one !== rebase)
        throw error
      }
    })
  }

  giveUpEpoch(): Promise<void> {
    return this.#appending.run(async () => {
      this.#check()
      const before = this.#epoch
      if (compareEpochs(before, this.#lastEpoch) === 0) return
      this.#epoch = this.#lastEpoch
      try {
        await this.#writeState()
      } catch (error) {
        this.#epoch = before
        throw error
      }
    })
  }

  beginEpoch(epoch: Epoch): Promise<void> {
    return this.#appending.run(async () => {
      this.#check()
      const before = this.#epoch
      if (compareEpochs(epoch, before) < 0) {
        throw new HotspareError(
          'epoch-old',
          `Epoch ${epochText(epoch)} is older than the log's, which is ${epochText(before)}.`,
        )
      }
      this.#epoch = epoch
      try {
        await this.#writeState()
      } catch (error) {
        this.#epoch = before
        throw error
      }
    })
  }

  // removing

  /** Called by who holds the turn to append. */
  async #makeRoom(): Promise<void> {
    await this.#trim(false)
    const { segment } = this.#writer
    const isAcknowledged = this.#subscribers.least(segment.last) >= segment.last
    if (!isAcknowledged || segment.isEmpty || this.#received !== undefined) return
    await this.#roll()
    await this.#trim(false)
  }

  #trimSoon(): void {
    this.#trimming ??= this.#trim(true)
      .catch(error => this.#noticeUnwritten(error)) // tried again with the next segment, or acknowledgement
      .finally(() => {
        this.#trimming = undefined
      })
  }

  #removable(history: boolean): number {
    return removableCount(
      this.#segments.map(({ last, end, newestTimeMs }) => ({ last, bytes: end, newestTimeMs })),
      this.#subscribers.least(this.durable),
      this.#limits,
      this.#options.clock.nowMs(),
      history,
    )
  }

  #trim(history: boolean): Promise<void> {
    return this.#trims.run(() => this.#trimNow(history))
  }

  async #trimNow(history: boolean): Promise<void> {
    const count = this.#removable(history)
    if (count === 0 || this.#closing.signal.aborted) return
    if (!history && this.#removable(true) < count) {
      this.#options.onNotice({
        level: 'warning',
        code: 'log-kept-less',
        message: 'The log is full: what everybody has is kept less long than was asked for.',
        details: { bytes: this.bytes, bytesMax: this.#limits.bytesMax },
      })
    }
    const removed = this.#segments.splice(0, count)
    this.#countClosed()
    this.#noteFirst()
    try {
      await this.#writeState()
    } catch (error) {
      this.#segments.unshift(...removed)
      this.#countClosed()
      this.#noteFirst()
      throw error
    }
    for (const segment of removed) await this.#storage.remove(segment.path)
    this.#space.changed()
  }

  #noteFirst(): void {
    const { first, chainBefore } = (this.#segments[0] as Segment).start
    this.#state = { ...this.#state, first, chainBefore }
  }

  restart(start: LogStart & { readonly stream?: string; readonly epoch?: Epoch }): Promise<void> {
    return this.#alone(async () => {
      assert(Number.isSafeInteger(start.next) && start.next >= 1, `a log cannot begin with ${start.next}`)
      chainBytes(start.chain)
      await this.#reopen({
        ...this.#state,
        stream: start.stream ?? this.#state.stream,
        generation: this.#state.generation + 1,
        epoch: start.epoch ?? this.#epoch,
        first: start.next,
        chainBefore: start.chain,
        durable: start.next - 1,
        rebases: [],
        subscribers: new Map(),
      })
    })
  }

  cutAfter(number: number, asidePath: string): Promise<{ readonly transactions: number }> {
    return this.#alone(async () => {
      await this.#writer.sync()
      const transactions = Math.max(0, this.next - 1 - number)
      if (transactions === 0) return { transactions }
      if (number < this.first - 1) throw this.#removed(number + 1)
      const header = {
        stream: this.stream,
        first: number + 1,
        chainBefore: (await this.chainAfter(number)) as Chain,
      }
      await writeTransactions(this.#storage, asidePath, header, this.read(number + 1, this.#closing.signal))
      await this.#reopen({
        ...this.#state,
        epoch: this.#epoch,
        durable: number,
        cutAfter: number,
        rebases: this.#rebases.filter(({ after }) => after <= number),
        subscribers: new Map(this.#subscribers.all),
      })
      return { transactions }
    })
  }

  /** Nothing is appended, and nothing that was begun is taken further. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    this.#waitingForSpace.abort(new HotspareError('log-removed', 'The log is begun anew, or cut.'))
    return this.#appending.run(async () => {
      this.#waitingForSpace = new AbortController()
      this.#check()
      await this.#forgetReceived()
      for (const [store, sink] of this.#sinks)
        assert(!sink.isInside, `the log is begun anew within a transaction of '${store}'`)
      await this.#trimming
      return work()
    })
  }

  /** Makes this the state, and the segments what it says, as after a restart of the process. */
  #reopen(state: LogState): Promise<void> {
    return this.#stating.run(async () => {
      await writeState(this.#storage, statePath(this.#options.directory), state)
      await this.#writer.close()
      const opened = await openSegments(this.#options)
      this.#generation++
      this.#state = opened.state
      this.#segments = opened.segments
      this.#marks = opened.marks
      this.#rebases = opened.state.rebases
      this.#epoch = opened.epoch
      this.#lastEpoch = opened.lastEpoch
      this.#subscribers = new SubscriberTable(opened.state.subscribers)
      this.#writer = this.#newWriter(opened)
      this.#space = this.#newSpace()
      this.#countClosed()
    })
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#waitingForSpace.abort(closed())
    await this.abandon().catch(() => undefined) // what was not whole is void in any case
    let failed: unknown
    try {
      await this.#writer.sync()
    } catch (error) {
      failed = error
    }
    this.#closing.abort(closed())
    this.#waiters.end(closed())
    await this.#stateDue
    await this.#trimming
    try {
      if (failed === undefined) await this.#writeState()
    } catch (error) {
      failed = error
    }
    for (const sink of [...this.#sinks.values()]) await sink.close().catch(() => undefined) // void after a crash, too
    await this.#writer.close().catch(() => undefined) // nothing is left to be written
    await this.#lock.release()
    if (failed !== undefined) throw failed
  }
}

function closed(): HotspareError {
  return new HotspareError('log-closed', 'The log was closed.')
}
