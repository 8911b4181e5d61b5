/**
 * Opens a log's segments: completes what a crash cut short, cuts a torn end, names what is damaged and sets it aside.
 *
 * A torn end is what a crash leaves of bytes that were never known to be durable; it is cut without a word. What had
 * been durable and does not read as it was written is damage, and is never taken for a torn end: by what a segment tells
 * of itself (log-record.ts), by the state, and because all segments but the last are durable as a whole.
 *
 * Worst outcome of a crash in here: the same is found and done at the next opening; a file may be kept aside twice.
 */
import { HotspareError } from '../os/errors.ts'
import type { Storage, StorageFile } from '../os/storage.ts'
import type { StoreName } from '../stream/entry.ts'
import { compareEpochs, type Epoch, epochBeforeAll } from '../stream/epoch.ts'
import type { Chain } from '../stream/log-piece.ts'
import type { LogDamage, LogOptions, StoreMark } from './log.ts'
import { emptyChain } from './log-chain.ts'
import { saltBytes } from './log-record.ts'
import { type LogState, readState, type Subscriber, writeState } from './log-state.ts'
import { type Segment, segmentName, segmentNumber } from './segment.ts'
import { type SegmentScan, scanSegment } from './segment-scan.ts'
import { createSegment } from './segment-writer.ts'

const copyBytes = 1024 * 1024

export interface OpenedSegments {
  readonly state: LogState
  /** In ascending order; the last one is written to. */
  readonly segments: Segment[]
  readonly file: StorageFile
  readonly marks: Map<StoreName, StoreMark>
  readonly epoch: Epoch
  /** Of the last transaction: what `epoch` is when no later one was begun. */
  readonly lastEpoch: Epoch
  readonly damage: readonly LogDamage[]
}

export type OpeningOptions = Pick<
  LogOptions,
  'storage' | 'clock' | 'random' | 'directory' | 'refetch' | 'stream' | 'epoch'
>

export function statePath(directory: string): string {
  return `${directory}/state`
}

/** Opens the log, or makes one. The caller holds its lock. */
export async function openSegments(options: OpeningOptions): Promise<OpenedSegments> {
  const { storage, directory } = options
  const read = await readState(storage, statePath(directory))
  const names = await removeLeftovers(storage, directory)
  if (read.kind === 'state') return new Opening(options, read.state).run(names)
  const fresh = freshState(options)
  const opening = new Opening(options, fresh)
  // without the state it is not known what the segments mean: who has what, and on what a store's next one follows
  if (read.kind === 'damaged' || names.length > 0)
    await opening.setAllAside(names, read.kind === 'damaged' ? read.what : 'it is missing')
  await writeState(storage, statePath(directory), fresh)
  return opening.run([])
}

function freshState({ random, stream, epoch }: OpeningOptions): LogState {
  return {
    stream: stream ?? random.bytes(8).toString('hex'),
    generation: 1,
    epoch: epoch ?? epochBeforeAll,
    first: 1,
    chainBefore: emptyChain,
    durable: 0,
    cutAfter: undefined,
    rebases: [],
    subscribers: new Map(),
  }
}

/** Gives the names of segments, in ascending order. */
async function removeLeftovers(storage: Storage, directory: string): Promise<string[]> {
  const names = await storage.list(directory)
  for (const name of names)
    if (name.startsWith('spool-') || name.endsWith('.tmp')) await storage.remove(`${directory}/${name}`)
  return names.filter(name => segmentNumber(name) !== undefined).sort()
}

class Opening {
  readonly #options: OpeningOptions
  readonly #storage: Storage
  readonly #directory: string
  #state: LogState
  readonly #damage: LogDamage[] = []
  /** What is kept, in ascending order. */
  #kept: SegmentScan[] = []
  /** What comes next; the chain is undefined when it is taken from the next segment. */
  #expected: { number: number; chain: Chain | undefined }

  constructor(options: OpeningOptions, state: LogState) {
    this.#options = options
    this.#storage = options.storage
    this.#directory = options.directory
    this.#state = state
    this.#expected = { number: state.first, chain: state.chainBefore }
  }

  async run(names: readonly string[]): Promise<OpenedSegments> {
    const left = await this.#removeTrimmed(names)
    for (let i = 0; i < left.length; i++) {
      const goesOn = await this.#take(left[i] as string, left.slice(i + 1))
      if (!goesOn) break
    }
    return this.#finish()
  }

  /** Completes a removal that the state allowed. */
  async #removeTrimmed(names: readonly string[]): Promise<string[]> {
    const left = [...names]
    while (left.length > 1 && numberOf(left[1] as string) <= this.#state.first)
      await this.#storage.remove(this.#path(left.shift() as string))
    return left
  }

  /** Takes one segment; false when those after it are done with. */
  async #take(name: string, later: readonly string[]): Promise<boolean> {
    const { cutAfter } = this.#state
    // the first one keeps its beginning, which tells where the stores stand
    const stays = this.#kept.length === 0 && numberOf(name) === this.#expected.number
    if (cutAfter !== undefined && numberOf(name) > cutAfter && !stays) {
      await this.#storage.remove(this.#path(name))
      return true
    }
    const scan = await this.#scan(name, cutAfter)
    if (scan.segment !== undefined && scan.segment.start.generation !== this.#state.generation) {
      await this.#storage.remove(this.#path(name))
      return true
    }
    const isLast = later.length === 0
    if (isLast && this.#isUnfinished(scan, name)) {
      await this.#storage.remove(this.#path(name))
      return true
    }
    const { number } = this.#expected
    if (numberOf(name) > number) {
      const goesOn = await this.#missing(number, name, later)
      if (!goesOn) return false
    }
    const broken = this.#break(name, scan)
    const segment = scan.segment
    if (broken !== undefined || segment === undefined)
      return this.#damaged(name, undefined, broken ?? 'its beginning cannot be read', later)
    const lost = isLast
      ? cutAfter === undefined && scan.fault !== undefined && this.#hadBeenDurable(scan, scan.fault.offset)
      : scan.fault !== undefined
    if (lost) return this.#damaged(name, scan, scan.fault?.what ?? 'it ends too soon', later)
    this.#keep(scan, segment)
    return true
  }

  async #scan(name: string, cutAfter: number | undefined): Promise<SegmentScan> {
    const file = await this.#storage.open(this.#path(name), 'read')
    try {
      return await scanSegment(file, this.#path(name), cutAfter)
    } finally {
      await file.close()
    }
  }

  /** The crash came while the segment was made, so that nothing was ever in it. */
  #isUnfinished(scan: SegmentScan, name: string): boolean {
    return scan.segment === undefined && scan.seen === 0 && this.#state.durable < numberOf(name)
  }

  #hadBeenDurable(scan: SegmentScan, offset: number): boolean {
    return offset < scan.durableEnd || (scan.segment?.last ?? 0) < this.#state.durable
  }

  #break(name: string, scan: SegmentScan): string | undefined {
    const { segment } = scan
    if (segment === undefined) return undefined
    if (segment.first !== numberOf(name)) return `it begins with number ${segment.first}, against its name`
    if (segment.start.stream !== this.#state.stream) return 'it is of another stream'
    if (segment.first < this.#expected.number) return `number ${segment.first} has been before`
    const { chain } = this.#expected
    if (chain !== undefined && segment.start.chainBefore !== chain)
      return 'its chain does not follow on the transaction before it'
    return undefined
  }

  #keep(scan: SegmentScan, segment: Segment): void {
    if (this.#kept.length === 0)
      this.#state = { ...this.#state, first: segment.first, chainBefore: segment.start.chainBefore }
    segment.durableEnd = segment.end
    this.#kept.push(scan)
    this.#expected = { number: segment.last + 1, chain: segment.chain }
  }

  /** Segments before this one are not there. */
  async #missing(from: number, name: string, later: readonly string[]): Promise<boolean> {
    const toNumber = numberOf(name) - 1
    const goesOn = this.#whereToGoOn(toNumber, true)
    const what = 'a segment is missing'
    this.#damage.push({ fromNumber: from, toNumber, file: undefined, offset: 0, what, goesOn })
    if (goesOn === 'before') {
      for (const one of [name, ...later]) await this.#setAside(one)
      return false
    }
    await this.#dropKept()
    this.#expected = { number: numberOf(name), chain: undefined }
    return true
  }

  /** A segment that cannot be read to its end; `scan` when its beginning can. */
  async #damaged(
    name: string,
    scan: SegmentScan | undefined,
    what: string,
    later: readonly string[],
  ): Promise<boolean> {
    const next = later[0]
    const segment = scan?.segment
    const fromNumber = segment === undefined ? numberOf(name) : segment.last + 1
    const seen = Math.max(scan?.seen ?? 0, this.#state.durable)
    const toNumber = next === undefined ? Math.max(seen, fromNumber - 1) : numberOf(next) - 1
    const goesOn = this.#whereToGoOn(toNumber, next !== undefined)
    const offset = scan?.fault?.offset ?? 0
    if (goesOn === 'after') {
      await this.#dropKept()
      const file = await this.#setAside(name)
      this.#damage.push({ fromNumber, toNumber, file, offset, what, goesOn })
      this.#expected = { number: toNumber + 1, chain: undefined }
      return true
    }
    for (const one of later) await this.#setAside(one)
    let file: string
    if (scan === undefined || segment === undefined) {
      file = await this.#setAside(name)
      this.#expected = { number: fromNumber, chain: this.#expected.chain }
    } else {
      file = await this.#copyAside(name)
      this.#keep(scan, segment)
    }
    this.#damage.push({ fromNumber, toNumber: Math.max(toNumber, seen), file, offset, what, goesOn })
    return false
  }

  /** Nothing is kept. After damage it is not known where the stores stand: so a chain that no other log has. */
  #beginEmpty(): void {
    const { number: first, chain } = this.#expected
    const isWhole = this.#damage.length === 0 && chain !== undefined
    const chainBefore = isWhole ? chain : this.#options.random.bytes(8).toString('hex')
    this.#state = { ...this.#state, first, chainBefore }
  }

  /**
   * After the damage, when there is more behind it that can be read and nobody needs what is gone, or nobody else has it.
   */
  #whereToGoOn(lostTo: number, hasLater: boolean): 'after' | 'before' {
    if (!hasLater) return 'before'
    if (this.#options.refetch !== true) return 'after'
    const needed = [...this.#state.subscribers.values()].some(
      ({ kept, acknowledged }) => kept && acknowledged < lostTo,
    )
    return needed ? 'before' : 'after'
  }

  async #dropKept(): Promise<void> {
    for (const { segment } of this.#kept.splice(0))
      if (segment !== undefined) await this.#setAside(segmentName(segment.first))
  }

  async setAllAside(names: readonly string[], what: string): Promise<void> {
    const first = names[0]
    const last = names.at(-1)
    let file = first === undefined ? undefined : `${this.#directory}/damaged`
    for (const name of names) await this.#setAside(name)
    if ((await this.#storage.stat(statePath(this.#directory))) !== undefined)
      file = await this.#setAside('state')
    this.#damage.push({
      fromNumber: first === undefined ? 1 : numberOf(first),
      toNumber: last === undefined ? 0 : numberOf(last),
      file,
      offset: 0,
      what: `the log's state cannot be used: ${what}`,
      goesOn: 'after',
    })
  }

  async #asidePath(name: string): Promise<string> {
    const directory = `${this.#directory}/damaged`
    await this.#storage.makeDirectory(directory)
    for (let i = 1; ; i++) {
      const path = `${directory}/${name}${i === 1 ? '' : `.${i}`}`
      if ((await this.#storage.stat(path)) === undefined) return path
    }
  }

  async #setAside(name: string): Promise<string> {
    const path = await this.#asidePath(name)
    await this.#storage.rename(this.#path(name), path)
    await this.#storage.syncDirectory(`${this.#directory}/damaged`)
    await this.#storage.syncDirectory(this.#directory)
    return path
  }

  async #copyAside(name: string): Promise<string> {
    const path = await this.#asidePath(name)
    const source = await this.#storage.open(this.#path(name), 'read')
    try {
      const target = await this.#storage.open(path, 'create-new')
      try {
        const buffer = Buffer.allocUnsafe(copyBytes)
        for (let at = 0; ; ) {
          const length = await source.read(buffer, at)
          if (length === 0) break
          await target.write(buffer.subarray(0, length), at)
          at += length
        }
        await target.sync()
      } finally {
        await target.close()
      }
    } finally {
      await source.close()
    }
    await this.#storage.syncDirectory(`${this.#directory}/damaged`)
    await this.#storage.syncDirectory(this.#directory)
    return path
  }

  async #finish(): Promise<OpenedSegments> {
    const last = this.#expected.number - 1
    const { durable, cutAfter } = this.#state
    if (last < durable && cutAfter === undefined && this.#damage.every(one => one.goesOn === 'after')) {
      const what = 'the log ends before what had been durable'
      this.#damage.push({
        fromNumber: last + 1,
        toNumber: durable,
        file: undefined,
        offset: 0,
        what,
        goesOn: 'before',
      })
    }
    if (this.#kept.length === 0) this.#beginEmpty()
    const scan = this.#kept.at(-1)
    const marks = scan?.marks ?? new Map<StoreName, StoreMark>()
    const epoch = newer(scan?.epoch, this.#state.epoch)
    const segments = this.#kept.map(({ segment }) => segment as Segment)
    const file = scan === undefined ? await this.#create(segments, epoch) : await this.#resume(scan)
    try {
      const state = {
        ...this.#state,
        durable: last,
        cutAfter: undefined,
        rebases: this.#state.rebases.filter(({ after }) => after <= last),
        subscribers: settledSubscribers(this.#state, last),
      }
      await writeState(this.#storage, statePath(this.#directory), state)
      return { state, segments, file, marks, epoch, lastEpoch: scan?.epoch ?? epoch, damage: this.#damage }
    } catch (error) {
      await file.close()
      throw error
    }
  }

  async #create(segments: Segment[], epoch: Epoch): Promise<StorageFile> {
    const { stream, generation, first, chainBefore } = this.#state
    const salt = this.#options.random.bytes(saltBytes)
    // what was removed must not come back beside it: a beginning that a crash leaves is known by nothing following
    await this.#storage.syncDirectory(this.#directory)
    const { segment, file } = await createSegment(
      this.#storage,
      this.#path(segmentName(first)),
      { stream, generation, salt, first, chainBefore, epochBefore: epoch },
      new Map(),
    )
    segments.push(segment)
    return file
  }

  /**
   * Cuts what is behind the last whole transaction, and makes durable what may have been left unsynced. A sync alone
   * would not do: after one that failed the bytes can be read and yet count as written.
   */
  async #resume(scan: SegmentScan): Promise<StorageFile> {
    const segment = scan.segment as Segment
    const file = await this.#storage.open(segment.path, 'write')
    try {
      if (scan.size > segment.end) await file.truncate(segment.end)
      const buffer = Buffer.allocUnsafe(copyBytes)
      for (let at = Math.min(scan.durableEnd, segment.end); at < segment.end; ) {
        const length = await file.read(buffer.subarray(0, Math.min(copyBytes, segment.end - at)), at)
        if (length === 0) break
        await file.write(buffer.subarray(0, length), at)
        at += length
      }
      await file.sync()
      await this.#storage.syncDirectory(this.#directory)
      return file
    } catch (error) {
      await file.close()
      throw error
    }
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`
  }
}

function settledSubscribers(state: LogState, last: number): Map<string, Subscriber> {
  const settled = new Map<string, Subscriber>()
  for (const [name, { acknowledged, kept }] of state.subscribers)
    settled.set(name, {
      acknowledged: Math.min(acknowledged, last),
      kept: kept && acknowledged >= state.first - 1,
    })
  return settled
}

function newer(epoch: Epoch | undefined, other: Epoch): Epoch {
  return epoch === undefined || compareEpochs(epoch, other) < 0 ? other : epoch
}

function numberOf(name: string): number {
  const number = segmentNumber(name)
  if (number === undefined) throw new HotspareError('log-damaged', `'${name}' is not a segment's name.`)
  return number
}
