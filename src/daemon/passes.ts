/**
 * Stands between the pump and a source, so that passes can be asked for: one that is durable when it is answered, and
 * one inside a maintenance window, of which it is told at once when everything has been read, and later that it is
 * durable. The pump knows nothing of it.
 *
 * Invariant: the commit that ends a held read reaches the sink only when the window was concluded well. When it was not,
 * or who asked has gone, the read ends with `PassAbandoned`, the attempt with it, and what came after the last commit is
 * void at the sink.
 */
import { HotspareError } from '../os/errors.ts'
import { type Commit, changeBytes, type Entry, type Position } from '../stream/entry.ts'
import type { Hold, ReadOptions, Source } from '../stream/source.ts'
import { aborted } from './step.ts'

/** A source that can be told that its writers are stopped. */
export interface HoldableSource extends Source {
  hold(): Promise<WatchfulHold>
  /** From the next read on, a read costs what changed. Idempotent. */
  watch?(): void
}

export interface WatchfulHold extends Hold {
  /** Paths (for people) that somebody wrote since `hold` all the same. */
  changed?(): Promise<readonly string[]>
}

export interface PassReport {
  /** What was sent: bytes of files, and how many files got new content. */
  readonly bytes: number
  readonly files: number
  readonly removed: number
}

export interface HeldPassReport extends PassReport {
  /** Named, some of them; and how many. */
  readonly changed: readonly string[]
  readonly changedCount: number
  /** False: the source did not hold still. */
  readonly consistent: boolean
}

export interface HeldPass {
  readonly read: Promise<HeldPassReport>
  readonly durable: Promise<void>
  conclude(keep: boolean): void
}

export interface PassClient {
  /** A pass that begins after the call; resolves when it is durable. Then no other begins until `hold` or `end`. */
  pass(): Promise<PassReport>
  hold(): HeldPass
  /** All that was asked for and is not done is abandoned. */
  end(): void
}

/** How a held read ends that does not count. Not a fault of source or sink. */
export class PassAbandoned extends Error {
  override readonly name = 'PassAbandoned'
}

export const changedNamesMax = 20

export class PassGate {
  #attached = false
  #unsupported = false
  #fault: HotspareError | undefined
  #client: Client | undefined
  #wake: (() => void) | undefined

  /** One client at a time. Paths in `ignore` are kept from the sink while it is there: a flag file of ours. */
  connect(ignore: readonly string[] = []): PassClient {
    if (this.#client !== undefined) {
      throw new HotspareError('target-busy', 'Another mirror of this copy is at work. Wait for its end.')
    }
    const client = new Client(this, new Set(ignore))
    this.#client = client
    return client
  }

  /** What the pump is to read from, for one attempt. */
  attach(source: Source): Source {
    this.#fault = undefined
    this.#attached = true
    if (source.hold === undefined) {
      this.#unsupported = true
      return source
    }
    return new GatedSource(this, source as HoldableSource)
  }

  /** An attempt failed; what was asked for fails with it, and so does what is asked for before the next. */
  failed(error: unknown): void {
    const abandoned = error instanceof PassAbandoned
    const fault =
      error instanceof HotspareError
        ? error
        : new HotspareError('io-error', error instanceof Error ? error.message : String(error), {
            cause: error,
          })
    if (!abandoned) this.#fault = fault
    this.#attached = false
    this.#client?.fail(abandoned ? error : fault)
  }

  /** For a client's request: throws what keeps it from being served. */
  checkServed(): void {
    if (this.#fault !== undefined && !this.#attached) throw this.#fault
    if (this.#unsupported) {
      throw new HotspareError('unsupported', 'A copy of this kind needs no maintenance window.')
    }
  }

  /** Writers wait for a read: what takes time and can be done later has to wait for its end. */
  get holding(): boolean {
    return this.#client?.holding ?? false
  }

  get client(): Client | undefined {
    return this.#client
  }

  disconnect(client: Client): void {
    if (this.#client === client) this.#client = undefined
    this.wake()
  }

  wake(): void {
    this.#wake?.()
  }

  /** Until there is something to serve, the source has a hint (unless no read is to begin now), or the signal aborts. */
  async wait(source: Source, signal: AbortSignal): Promise<void> {
    if (this.#client?.wanting) return
    const woken = new AbortController()
    const either = AbortSignal.any([signal, woken.signal])
    this.#wake = () => woken.abort()
    try {
      await (this.#client?.quiet ? aborted(either) : source.wait(either))
    } finally {
      this.#wake = undefined
    }
  }
}

class Client implements PassClient {
  readonly #gate: PassGate
  readonly ignore: ReadonlySet<string>
  #passes: Request<PassReport>[] = []
  #held: HeldRequest | undefined
  /** A pass was done, and the window is to come. */
  quiet = false

  constructor(gate: PassGate, ignore: ReadonlySet<string>) {
    this.#gate = gate
    this.ignore = ignore
  }

  get wanting(): boolean {
    return this.#passes.some(pass => !pass.begun) || this.#held?.begun === false
  }

  get holding(): boolean {
    return this.#held?.begun ?? false
  }

  async pass(): Promise<PassReport> {
    this.#gate.checkServed()
    const request = new Request<PassReport>()
    this.#passes.push(request)
    this.#gate.wake()
    return request.outcome
  }

  hold(): HeldPass {
    const request = new HeldRequest()
    try {
      this.#gate.checkServed()
      this.#held = request
      this.#gate.wake()
    } catch (error) {
      request.fail(error)
    }
    return request
  }

  end(): void {
    this.fail(new PassAbandoned('The one who asked for the pass has gone.'))
    this.quiet = false
    this.#gate.disconnect(this)
  }

  fail(error: unknown): void {
    for (const pass of this.#passes.splice(0)) pass.reject(error)
    this.#held?.fail(error)
    this.#held = undefined
    this.quiet = false
  }

  /** What the read that begins now is for. */
  take(): { readonly passes: readonly Request<PassReport>[]; readonly held: HeldRequest | undefined } {
    const passes = this.#passes.filter(pass => !pass.begun)
    for (const pass of passes) pass.begun = true
    const held = passes.length === 0 && this.#held?.begun === false ? this.#held : undefined
    if (held !== undefined) held.begun = true
    return { passes, held }
  }

  done(passes: readonly Request<PassReport>[], report: PassReport): void {
    this.#passes = this.#passes.filter(pass => !passes.includes(pass))
    this.quiet = true
    for (const pass of passes) pass.resolve(report)
  }

  /** The held read is over. */
  released(held: HeldRequest): void {
    if (this.#held === held) this.#held = undefined
    this.quiet = false
  }
}

/** An outcome that is told from elsewhere. */
export class Request<T> {
  begun = false
  readonly outcome: Promise<T>
  resolve!: (value: T) => void
  reject!: (error: unknown) => void

  constructor() {
    this.outcome = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    this.outcome.catch(() => undefined)
  }
}

class HeldRequest implements HeldPass {
  begun = false
  readonly #read = new Request<HeldPassReport>()
  readonly #durable = new Request<void>()
  readonly #concluded = new Request<boolean>()
  readonly #abandoned = new AbortController()

  get read(): Promise<HeldPassReport> {
    return this.#read.outcome
  }
  get durable(): Promise<void> {
    return this.#durable.outcome
  }
  /** True: what was read counts. */
  get concluded(): Promise<boolean> {
    return this.#concluded.outcome
  }
  /** Aborts when what is being read does not count any more. */
  get abandoned(): AbortSignal {
    return this.#abandoned.signal
  }

  conclude(keep: boolean): void {
    this.#concluded.resolve(keep)
    if (!keep) this.#abandon(new PassAbandoned('The maintenance window was given up.'))
  }

  /** From the source's side, or because who asked has gone. Once it is concluded well, the read goes on to be durable. */
  fail(error: unknown): void {
    this.#concluded.resolve(false)
    this.#abandon(error)
  }

  /** The sink takes no more; why, `fail` will tell. Said at once, since writers wait. */
  endedEarly(): void {
    this.#concluded.resolve(false)
    this.#read.reject(new PassAbandoned('The read inside the window ended early.'))
  }

  wasRead(report: HeldPassReport): void {
    this.#read.resolve(report)
  }

  wasMadeDurable(): void {
    this.#durable.resolve()
  }

  #abandon(error: unknown): void {
    this.#abandoned.abort()
    this.#read.reject(error)
    this.#durable.reject(error)
  }
}

class GatedSource implements Source {
  readonly #gate: PassGate
  readonly #source: HoldableSource
  /** What is told when this commit is acknowledged. */
  #awaited: { readonly position: Position; tell(): void } | undefined

  constructor(gate: PassGate, source: HoldableSource) {
    this.#gate = gate
    this.#source = source
    if (source.backlog !== undefined) this.backlog = () => source.backlog!()
  }

  backlog?: () => Promise<{ readonly bytes: number }>

  hold(): Promise<Hold> {
    return this.#source.hold()
  }

  read(from: Position | undefined, options: ReadOptions): AsyncIterable<Entry> {
    const client = this.#gate.client
    const wanted = client?.take()
    if (client === undefined || wanted === undefined) return this.#source.read(from, options)
    if (wanted.held !== undefined) return this.#readHeld(from, options, client, wanted.held)
    return this.#readFor(from, options, client, wanted.passes)
  }

  wait(signal: AbortSignal): Promise<void> {
    return this.#gate.wait(this.#source, signal)
  }

  async acknowledge(position: Position): Promise<void> {
    await this.#source.acknowledge(position)
    if (this.#awaited?.position !== position) return
    this.#awaited.tell()
    this.#awaited = undefined
  }

  close(): Promise<void> {
    return this.#source.close()
  }

  async *#readFor(
    from: Position | undefined,
    options: ReadOptions,
    client: Client,
    passes: readonly Request<PassReport>[],
  ): AsyncIterable<Entry> {
    // so that the read inside the window, which comes next, need not look at everything
    if (passes.length > 0) this.#source.watch?.()
    const tally = new Tally()
    const done = () => client.done(passes, tally.report())
    let kept: Entry | undefined
    for await (const entry of this.#source.read(from, options)) {
      if (isIgnored(entry, client.ignore)) continue
      tally.add(entry)
      // one is kept back, so that it is known of the last commit that it is the last before it is acknowledged
      if (kept !== undefined) yield kept
      kept = entry
    }
    if (passes.length > 0 && !options.signal.aborted) {
      if (kept?.type === 'commit') this.#awaited = { position: kept.position, tell: done }
      else done()
    }
    if (kept !== undefined) yield kept
  }

  async *#readHeld(
    from: Position | undefined,
    options: ReadOptions,
    client: Client,
    held: HeldRequest,
  ): AsyncIterable<Entry> {
    try {
      const last = yield* this.#readInside(from, options, client, held)
      const over = aborted(options.signal, held.abandoned).then(() => false)
      if (!(await Promise.race([held.concluded, over])))
        throw new PassAbandoned('The maintenance window was given up.')
      this.#awaited = { position: last.position, tell: () => held.wasMadeDurable() }
      client.released(held)
      yield last
    } catch (error) {
      held.fail(error)
      client.released(held)
      throw error
    }
  }

  /** Gives all but the last commit, and that one back. */
  async *#readInside(
    from: Position | undefined,
    options: ReadOptions,
    client: Client,
    held: HeldRequest,
  ): AsyncGenerator<Entry, Commit> {
    const signal = AbortSignal.any([options.signal, held.abandoned])
    const tally = new Tally()
    const hold = await this.#source.hold()
    let whole = false
    try {
      let commit: Commit | undefined
      for await (const entry of this.#source.read(from, { ...options, signal })) {
        if (signal.aborted) throw new PassAbandoned('The maintenance window was given up.')
        if (isIgnored(entry, client.ignore)) continue
        tally.add(entry)
        if (commit !== undefined) yield commit
        commit = undefined
        if (entry.type === 'commit') commit = entry
        else yield entry
      }
      if (signal.aborted) throw new PassAbandoned('The maintenance window was given up.')
      if (commit === undefined) throw new Error('a held read ended without a commit')
      const changed = (await hold.changed?.()) ?? []
      held.wasRead({
        ...tally.report(),
        changed: changed.slice(0, changedNamesMax),
        changedCount: changed.length,
        consistent: commit.consistent,
      })
      whole = true
      return commit
    } finally {
      // the sink gave up in the middle (a full disk): said before anything is tidied up, since writers wait
      if (!whole) held.endedEarly()
      await hold.release()
    }
  }
}

function isIgnored(entry: Entry, ignore: ReadonlySet<string>): boolean {
  return entry.type !== 'commit' && ignore.size > 0 && ignore.has(entry.path)
}

class Tally {
  #bytes = 0
  #files = 0
  #removed = 0
  #lastPath: string | undefined

  add(entry: Entry): void {
    if (entry.type === 'commit') return
    this.#bytes += changeBytes(entry)
    if (entry.type === 'remove') this.#removed++
    const content = entry.type === 'write' || entry.type === 'replace' || entry.type === 'truncate'
    if (content && entry.path !== this.#lastPath) {
      this.#files++
      this.#lastPath = entry.path
    }
  }

  report(): PassReport {
    return { bytes: this.#bytes, files: this.#files, removed: this.#removed }
  }
}
