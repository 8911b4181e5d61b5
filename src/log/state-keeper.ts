/**
 * Keeps a log's state file (log-state.ts) up to what is known in memory.
 *
 * An act that must not be forgotten (`set...`, `addRebase`) is durable when its promise resolves, and has not been made
 * when that rejects. Acknowledgements are written in time (`soon`), and tried again when that fails: after a crash less
 * is known to be acknowledged, and so more is kept.
 *
 * Invariant: the file is written by one at a time, each time with all that is known then. A write that failed may have
 * come as far as the disk: then a crash finds the act made, which whoever asked for it was told it was not.
 */
import { describeSystemError, HotspareError } from '../os/errors.ts'
import type { StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { LogOptions, StoreMark } from './log.ts'
import { statePath } from './log-opening.ts'
import { type LogState, readState, type Subscriber, writeState } from './log-state.ts'
import { neededRebases, positionOf, type Rebase } from './rebases.ts'
import { SubscriberTable } from './subscriber-table.ts'
import { Turns } from './turns.ts'

/** Acknowledgements are made durable so long after they came, at the latest. */
const delayMs = 1000

export class StateKeeper {
  readonly stream: string
  readonly generation: number
  /** May be changed by itself where less known after a crash does no harm; then `soon` is to be called. */
  readonly subscribers: SubscriberTable
  readonly #options: Pick<LogOptions, 'storage' | 'clock' | 'directory' | 'onNotice'>
  readonly #durable: () => number
  #epoch: Epoch
  #first: number
  #chainBefore: Chain
  #rebases: readonly Rebase[]
  readonly #turns = new Turns()
  #isDue = false
  #writing: Promise<void> | undefined
  #isReplaced = false
  readonly #ended = new AbortController()

  /** `durable`: the last number that is durable in the segments. */
  constructor(
    options: Pick<LogOptions, 'storage' | 'clock' | 'directory' | 'onNotice'>,
    state: LogState,
    epoch: Epoch,
    durable: () => number,
  ) {
    this.stream = state.stream
    this.generation = state.generation
    this.subscribers = new SubscriberTable(state.subscribers)
    this.#options = options
    this.#durable = durable
    this.#epoch = epoch
    this.#first = state.first
    this.#chainBefore = state.chainBefore
    this.#rebases = state.rebases
  }

  get epoch(): Epoch {
    return this.#epoch
  }

  /** All that is known now. */
  get state(): LogState {
    return {
      stream: this.stream,
      generation: this.generation,
      epoch: this.#epoch,
      first: this.#first,
      chainBefore: this.#chainBefore,
      durable: this.#durable(),
      cutAfter: undefined,
      rebases: this.#rebases,
      subscribers: new Map(this.subscribers.all),
    }
  }

  /** On what the store's next transaction follows, when its last one was this. */
  positionOf(store: StoreName, mark: StoreMark | undefined) {
    return positionOf(store, mark, this.#rebases)
  }

  /** Of a transaction that was received: the transaction itself makes it durable. */
  hasEpoch(epoch: Epoch): void {
    this.#epoch = epoch
  }

  setEpoch(epoch: Epoch): Promise<void> {
    const before = this.#epoch
    this.#epoch = epoch
    return this.write(() => {
      this.#epoch = before
    })
  }

  addRebase(rebase: Rebase): Promise<void> {
    this.#rebases = [...this.#rebases, rebase]
    return this.write(() => {
      this.#rebases = this.#rebases.filter(one => one !== rebase)
    })
  }

  /** Undefined removes it. */
  setSubscriber(name: string, subscriber: Subscriber | undefined): Promise<void> {
    const before = this.subscribers.get(name)
    this.subscribers.set(name, subscriber)
    return this.write(() => this.subscribers.set(name, before))
  }

  /** Transactions before `first` may be removed when it resolves. */
  setFirst(first: number, chainBefore: Chain): Promise<void> {
    const before = { first: this.#first, chainBefore: this.#chainBefore }
    this.#first = first
    this.#chainBefore = chainBefore
    return this.write(() => {
      this.#first = before.first
      this.#chainBefore = before.chainBefore
    })
  }

  /** Writes it in time. */
  soon(): void {
    this.#isDue = true
    this.#writing ??= this.#writeInTime()
  }

  async #writeInTime(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#ended
    let isTold = false
    while (this.#isDue && !signal.aborted) {
      await clock.sleep(delayMs, signal)
      if (signal.aborted) break
      try {
        await this.write()
      } catch (error) {
        // it is safe to go on: after a crash less is known to be acknowledged
        if (!isTold) this.#noticeUnwritten(error)
        isTold = true
      }
    }
    this.#writing = undefined
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

  /** Durable when it resolves. When it fails, `undo` is called before anybody else writes. */
  write(undo?: () => void): Promise<void> {
    return this.#turns.run(async () => {
      this.#isDue = false
      this.#rebases = neededRebases(this.#rebases, this.#first)
      try {
        if (this.#isReplaced) throw replaced()
        await this.#put(this.state)
      } catch (error) {
        this.#isDue = true
        undo?.()
        throw describeSystemError(error, `Cannot write the state of the log in '${this.#options.directory}'`)
      }
    })
  }

  /**
   * Writes this state, and then nothing any more: the file is for whoever opens the segments anew. When that fails, and
   * the file may be this state nevertheless, nothing is written either, and `isReplaced` says so.
   */
  replace(state: LogState): Promise<void> {
    return this.#turns.run(async () => {
      try {
        await this.#put(state)
        this.#isReplaced = true
      } catch (error) {
        this.#isReplaced = await this.#mayBeReplaced()
        throw describeSystemError(error, `Cannot write the state of the log in '${this.#options.directory}'`)
      } finally {
        if (this.#isReplaced) this.#ended.abort()
      }
    })
  }

  get isReplaced(): boolean {
    return this.#isReplaced
  }

  /** What is appended from here on would not be of the log that the next opening finds. */
  async #mayBeReplaced(): Promise<boolean> {
    try {
      const read = await readState(this.#options.storage, statePath(this.#options.directory))
      return (
        read.kind !== 'state' ||
        read.state.generation !== this.generation ||
        read.state.cutAfter !== undefined
      )
    } catch {
      return true // it is not known, so the worse is taken to be so
    }
  }

  #put(state: LogState): Promise<void> {
    return writeState(this.#options.storage, statePath(this.#options.directory), state)
  }

  /** Nothing is written in time any more; resolves when nothing is being written. */
  async end(): Promise<void> {
    this.#ended.abort()
    await this.#writing
  }
}

function replaced(): HotspareError {
  return new HotspareError(
    'log-closed',
    'The log is begun anew, or cut: its state is not written here any more.',
  )
}
