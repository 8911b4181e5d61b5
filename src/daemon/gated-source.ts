/**
 * Stands between the pump and a source, so that passes can be asked for: one that is durable when it is answered, and
 * one inside a maintenance window, of which it is told at once when everything has been read, and later that it is
 * durable. The pump knows nothing of it.
 *
 * Invariant: the commit that ends a held read reaches the sink only when the window was concluded well. When it was not,
 * or who asked has gone, the read ends with `PassAbandoned`, the attempt with it, and what came after the last commit is
 * void at the sink.
 */
import { type Commit, changeBytes, type Entry, type Position } from '../stream/entry.ts'
import type { Hold, ReadOptions, Source } from '../stream/source.ts'
import { type HeldRequest, PassAbandoned, type PassReport, type Request } from './pass-request.ts'
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

const changedNamesMax = 20

/** For whom a read is: what the gate knows of who asked. */
export interface Asking {
  /** Kept from the sink while it is there. */
  readonly ignore: ReadonlySet<string>
  /** What the read that begins now is for. */
  take(): { readonly passes: readonly Request<PassReport>[]; readonly held: HeldRequest | undefined }
  /** These are durable. */
  done(passes: readonly Request<PassReport>[], report: PassReport): void
  /** The held read is over. */
  released(held: HeldRequest): void
}

export interface Gate {
  readonly client: Asking | undefined
  wait(source: Source, signal: AbortSignal): Promise<void>
}

export class GatedSource implements Source {
  readonly #gate: Gate
  readonly #source: HoldableSource
  /** What is told when this commit is acknowledged. */
  #awaited: { readonly position: Position; tell(): void } | undefined

  constructor(gate: Gate, source: HoldableSource) {
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
    client: Asking,
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
    client: Asking,
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
    client: Asking,
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
