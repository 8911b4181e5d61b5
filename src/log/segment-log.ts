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
 *
 * Each act is done by the part whose it is (log-parts.ts); here is said what may not happen at the same time: whatever
 * changes what the log has holds the turn to append.
 */
import { assert, describeSystemError, HotspareError } from '../os/errors.ts'
import type { FileLock } from '../os/storage.ts'
import type { Position, StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochText } from '../stream/epoch.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import type { Sink } from '../stream/sink.ts'
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
import { chainBytes } from './log-chain.ts'
import { takeLog } from './log-lock.ts'
import { type OpenedSegments, openSegments } from './log-opening.ts'
import { bufferBytesOf, type LastingLog, LogParts } from './log-parts.ts'
import type { LogState } from './log-state.ts'
import { LogWaiters } from './log-waiters.ts'
import { StoreSink } from './store-sink.ts'
import { TransactionSpool } from './transaction-spool.ts'
import { Turns } from './turns.ts'
import { writeTransactions } from './txlog-file.ts'

export const openLog: OpenLog = async options => {
  const { storage, directory } = options
  const lock = await takeLog(storage, directory)
  try {
    return new SegmentLog(options, lock, await openNamed(options))
  } catch (error) {
    await lock.release()
    throw describeSystemError(error, `Cannot open the log in '${directory}'`)
  }
}

/** What is found damaged is said to whoever runs the log. */
async function openNamed(options: LogOptions): Promise<OpenedSegments> {
  const opened = await openSegments(options)
  for (const damage of opened.damage) {
    options.onNotice({
      level: 'error',
      code: 'log-damaged',
      message: damageText(damage),
      details: { ...damage },
    })
  }
  return opened
}

function damageText({ fromNumber, toNumber, file, offset, what, goesOn }: LogDamage): string {
  const numbers =
    toNumber < fromNumber ? 'no transactions are' : `transactions ${fromNumber} to ${toNumber} are`
  const kept = file === undefined ? '' : ` It is kept as '${file}'.`
  return `The log is damaged (${what}, at offset ${offset}): ${numbers} gone from it, and it goes on ${goesOn} the damage.${kept}`
}

class SegmentLog implements Log, LastingLog {
  readonly options: LogOptions
  readonly waiters = new LogWaiters()
  readonly appending = new Turns()
  readonly #lock: FileLock
  #limits: LogLimits
  #parts: LogParts
  readonly #sinks = new Map<StoreName, StoreSink>()
  #damage: readonly LogDamage[]
  /** Why the log takes no more work. */
  #ended: HotspareError | undefined
  #closed: Promise<void> | undefined

  constructor(options: LogOptions, lock: FileLock, opened: OpenedSegments) {
    this.options = options
    this.#damage = opened.damage
    this.#lock = lock
    this.#limits = options.limits
    this.#parts = new LogParts(this, opened)
  }

  get stream(): string {
    return this.#parts.state.stream
  }

  get first(): number {
    return this.#parts.segments.oldest.first
  }

  get next(): number {
    return this.#parts.appender.next
  }

  get durable(): number {
    return this.#parts.durable
  }

  get bytes(): number {
    return this.#parts.bytes
  }

  get epoch(): Epoch {
    return this.#parts.state.epoch
  }

  get damage(): readonly LogDamage[] {
    return this.#damage
  }

  get limits(): LogLimits {
    return this.#limits
  }

  get fullSinceMs(): number | undefined {
    return this.#parts.space.fullSinceMs
  }

  check(): void {
    if (this.#ended !== undefined) throw this.#ended
    this.#parts.writer.check()
  }

  // taking in

  sink(store: StoreName, signal?: AbortSignal): Sink {
    this.check()
    assert(!this.#sinks.has(store), `there is a sink for '${store}' already`)
    const { storage, directory } = this.options
    const sink = new StoreSink(
      {
        position: () => this.#position(store),
        append: (_, spool, commit) => this.#parts.intake.append(store, spool, commit, signal),
        sync: () => this.sync(),
        released: () => this.#sinks.delete(store),
      },
      store,
      new TransactionSpool(storage, `${directory}/spool-${store}`, bufferBytesOf(this.options)),
    )
    this.#sinks.set(store, sink)
    return sink
  }

  /** What was written and not synced would be read from the source and numbered a second time. */
  async #position(store: StoreName): Promise<Position | undefined> {
    await this.sync()
    return this.#parts.state.positionOf(store, this.mark(store))
  }

  mark(store: StoreName): StoreMark | undefined {
    return this.marks().get(store)
  }

  lastBefore(store: StoreName): number | undefined {
    return this.#parts.segments.oldest.numbersBefore.get(store)
  }

  marks(): ReadonlyMap<StoreName, StoreMark> {
    return this.#parts.appender.marks
  }

  receive(piece: LogPiece): Promise<void> {
    return this.#parts.intake.receive(piece)
  }

  abandon(): Promise<void> {
    return this.#parts.intake.abandon()
  }

  sync(): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    return this.#parts.sync()
  }

  // giving

  read(from: number, signal: AbortSignal): AsyncIterable<LogPiece> {
    return this.#parts.reader.read(from, signal)
  }

  wait(number: number, signal: AbortSignal): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    if (this.durable > number || signal.aborted) return Promise.resolve()
    return this.waiters.wait(number, signal)
  }

  chainAfter(number: number): Promise<Chain | undefined> {
    return this.#parts.reader.chainAfter(number)
  }

  // subscribers

  subscribers(): readonly SubscriberState[] {
    return this.#parts.state.subscribers.list()
  }

  subscribe(name: string, acknowledged: number): Promise<void> {
    return this.appending.run(async () => {
      this.check()
      const { reader, state } = this.#parts
      await this.#parts.sync()
      // from here to where it counts as kept for nobody is waited for: else what it needs could be removed in between
      if (acknowledged < this.first - 1) throw reader.removed(acknowledged + 1)
      if (acknowledged >= this.next) {
        throw new HotspareError(
          'log-gap',
          `'${name}' wants what follows ${acknowledged}, and the log has come to ${this.next - 1}.`,
        )
      }
      await state.setSubscriber(name, { acknowledged, kept: true })
    })
  }

  unsubscribe(name: string): Promise<void> {
    return this.appending.run(async () => {
      this.check()
      const { state, space, trimmer } = this.#parts
      await state.setSubscriber(name, undefined)
      space.changed()
      trimmer.soon()
    })
  }

  acknowledge(name: string, number: number): void {
    const { state, segments, space, trimmer } = this.#parts
    if (!state.subscribers.acknowledge(name, Math.min(number, this.durable))) return
    state.soon()
    space.changed()
    if (segments.oldest.last <= state.subscribers.least(this.next - 1)) trimmer.soon()
  }

  setLimits(limits: LogLimits): void {
    this.#limits = limits
    this.#parts.space.changed()
    this.#parts.trimmer.soon()
  }

  // what holds for the transactions to come

  rebase(store: StoreName, position: Position | undefined): Promise<void> {
    return this.appending.run(async () => {
      this.check()
      assert(this.#sinks.get(store)?.isInside !== true, `store '${store}' is rebased within a transaction`)
      await this.#parts.sync()
      await this.#parts.state.addRebase({ store, after: this.next - 1, position })
    })
  }

  giveUpEpoch(): Promise<void> {
    return this.appending.run(async () => {
      this.check()
      const { state, appender } = this.#parts
      if (compareEpochs(state.epoch, appender.lastEpoch) !== 0) await state.setEpoch(appender.lastEpoch)
    })
  }

  beginEpoch(epoch: Epoch): Promise<void> {
    return this.appending.run(async () => {
      this.check()
      const { state } = this.#parts
      if (compareEpochs(epoch, state.epoch) < 0) {
        throw new HotspareError(
          'epoch-old',
          `Epoch ${epochText(epoch)} is older than the log's, which is ${epochText(state.epoch)}.`,
        )
      }
      await state.setEpoch(epoch)
    })
  }

  // beginning anew

  restart(start: LogStart & { readonly stream?: string; readonly epoch?: Epoch }): Promise<void> {
    return this.#alone(async () => {
      assert(Number.isSafeInteger(start.next) && start.next >= 1, `a log cannot begin with ${start.next}`)
      chainBytes(start.chain)
      const { state } = this.#parts.state
      await this.#reopen({
        ...state,
        stream: start.stream ?? state.stream,
        generation: state.generation + 1,
        epoch: start.epoch ?? state.epoch,
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
      const { reader, state } = this.#parts
      await this.#parts.sync()
      const transactions = Math.max(0, this.next - 1 - number)
      if (transactions === 0) return { transactions }
      if (number < this.first - 1) throw reader.removed(number + 1)
      const header = {
        stream: this.stream,
        first: number + 1,
        chainBefore: (await reader.chainAfter(number)) as Chain,
      }
      const cut = reader.read(number + 1, new AbortController().signal)
      const aside = await writeTransactions(this.options.storage, asidePath, header, cut)
      assert(aside.transactions === transactions, 'what is put aside is not all that is taken back')
      await this.#reopen({
        ...state.state,
        durable: number,
        cutAfter: number,
        rebases: state.state.rebases.filter(({ after }) => after <= number),
      })
      return { transactions }
    })
  }

  /** Nothing is appended, and nothing that was begun is taken further. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    this.#parts.intake.letGo(new HotspareError('log-removed', 'The log is begun anew, or cut.'))
    return this.appending.run(async () => {
      const { intake, receiver, trimmer } = this.#parts
      intake.waitAgain()
      this.check()
      await receiver.forget()
      for (const [store, sink] of this.#sinks)
        assert(!sink.isInside, `the log is begun anew within a transaction of '${store}'`)
      return trimmer.hold(work)
    })
  }

  /**
   * Makes this the state, and the segments what it says, as after a restart of the process. When it fails after the state
   * may have been written, the log takes no more work: the next opening completes it.
   */
  async #reopen(state: LogState): Promise<void> {
    const parts = this.#parts
    try {
      await parts.state.replace(state)
      await parts.retire(begunAnew)
      const opened = await openNamed(this.options)
      this.#damage = [...this.#damage, ...opened.damage]
      this.#parts = new LogParts(this, opened)
    } catch (error) {
      if (parts.state.isReplaced) {
        this.#ended = unopened(error)
        this.waiters.end(this.#ended)
        await parts.retire(() => unopened(error)).catch(() => undefined) // nothing is left to be written
      }
      throw error
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#parts.intake.letGo(closed())
    await this.abandon().catch(() => undefined) // what was not whole is void in any case
    let failed: unknown
    try {
      await this.#parts.sync()
    } catch (error) {
      failed = this.#ended ?? error
    }
    const { writer, state, trimmer, reader } = this.#parts
    this.#ended ??= closed()
    this.waiters.end(this.#ended)
    reader.end(closed)
    await state.end()
    await trimmer.end()
    try {
      if (failed === undefined) await state.write()
    } catch (error) {
      failed = error
    }
    for (const sink of [...this.#sinks.values()]) await sink.close().catch(() => undefined) // void after a crash, too
    await writer.close(this.#ended).catch(() => undefined) // nothing is left to be written
    await this.#lock.release()
    if (failed !== undefined) throw failed
  }
}

function closed(): HotspareError {
  return new HotspareError('log-closed', 'The log was closed.')
}

function unopened(cause: unknown): HotspareError {
  return new HotspareError(
    'log-closed',
    'The log was begun anew, or cut, and could not be gone on with. Open it anew.',
    { cause },
  )
}

function begunAnew(number: number): HotspareError {
  return new HotspareError(
    'log-removed',
    `The log was begun anew, or cut, while transaction ${number} was waited for.`,
  )
}
