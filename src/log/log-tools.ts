/**
 * What can be done with a log from outside: looked at and checked, also while a server has it open; and, when nobody has
 * it, emptied or shortened.
 *
 * Looking takes no lock and changes nothing. A transaction that is just being written counts as the end.
 */
import type { Clock } from '../os/clock.ts'
import { HotspareError, isSystemError } from '../os/errors.ts'
import type { Random } from '../os/random.ts'
import type { Storage } from '../os/storage.ts'
import { decodeEntry } from '../stream/codec.ts'
import { displayPath, type Entry, type Position, type StoreName } from '../stream/entry.ts'
import type { Epoch } from '../stream/epoch.ts'
import { readFrame } from '../stream/frame.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import { takeLog } from './log-lock.ts'
import { statePath } from './log-opening.ts'
import { type LogState, readState, writeState } from './log-state.ts'
import { segmentName, segmentNumber } from './segment.ts'
import { openLog } from './segment-log.ts'
import { readSegment } from './segment-reader.ts'
import { type SegmentScan, scanSegment } from './segment-scan.ts'
import { writeTransactions } from './txlog-file.ts'

export interface LogPlace {
  readonly storage: Storage
  readonly directory: string
}

export interface LogOverview {
  readonly stream: string
  readonly epoch: Epoch
  readonly first: number
  readonly next: number
  readonly bytes: number
  readonly segments: number
  readonly subscribers: readonly {
    readonly name: string
    readonly acknowledged: number
    readonly kept: boolean
  }[]
}

export interface LogFinding {
  readonly file: string
  readonly offset: number
  readonly what: string
  /** The first transaction that cannot be read for it. */
  readonly number: number
}

/** Reads the whole log. Findings: what had been durable and cannot be read. */
export async function verifyLog(place: LogPlace): Promise<{
  readonly overview: LogOverview
  readonly transactions: number
  readonly findings: readonly LogFinding[]
}> {
  const state = await stateOf(place)
  const findings: LogFinding[] = []
  let expected: { number: number; chain: Chain } | undefined
  let first: number | undefined
  let transactions = 0
  let bytes = 0
  let epoch = state.epoch
  const names = await segmentNames(place, state)
  for (const [i, name] of names.entries()) {
    const scan = await scanNamed(place, name)
    if (scan === undefined) continue // removed meanwhile
    const { segment } = scan
    const file = `${place.directory}/${name}`
    const number = segmentNumber(name) as number
    if (expected !== undefined && number !== expected.number)
      findings.push({ file, offset: 0, what: 'a segment is missing before it', number: expected.number })
    if (segment === undefined) {
      findings.push({ file, offset: scan.fault?.offset ?? 0, what: scan.fault?.what ?? 'no header', number })
      expected = undefined
      continue
    }
    if (expected?.number === number && expected.chain !== segment.start.chainBefore)
      findings.push({ file, offset: 0, what: 'its chain does not follow on', number })
    const isTorn = i === names.length - 1 && !hadBeenDurable(scan, state)
    if (scan.fault !== undefined && !isTorn) findings.push({ file, ...scan.fault, number: segment.last + 1 })
    first ??= segment.first
    transactions += segment.last - segment.first + 1
    bytes += segment.end
    epoch = scan.epoch.number > epoch.number ? scan.epoch : epoch
    expected = { number: segment.last + 1, chain: segment.chain }
  }
  const next = expected?.number ?? state.first
  if (findings.length === 0 && next <= state.durable) {
    const what = 'the log ends before what had been durable'
    findings.push({ file: `${place.directory}/${names.at(-1) ?? ''}`, offset: 0, what, number: next })
  }
  const subscribers = [...state.subscribers].map(([name, subscriber]) => ({ name, ...subscriber }))
  const { stream } = state
  const overview = { stream, epoch, first: first ?? next, next, bytes, segments: names.length, subscribers }
  return { overview, transactions, findings }
}

function hadBeenDurable(scan: SegmentScan, state: LogState): boolean {
  return (scan.fault?.offset ?? 0) < scan.durableEnd || (scan.segment?.last ?? 0) < state.durable
}

/** The transactions that can be read from `from` on (from the first one, without it), as they stand in the log. */
export async function* readLog(place: LogPlace, from = 0): AsyncGenerator<LogPiece> {
  const state = await stateOf(place)
  for (const name of await segmentNames(place, state)) {
    const path = `${place.directory}/${name}`
    const file = await openIfThere(place.storage, path)
    if (file === undefined) continue
    try {
      const { segment } = await scanSegment(file, path)
      if (segment === undefined || segment.last < from || segment.isEmpty) continue
      const { last, end } = segment
      const begin = Math.max(from, segment.first)
      yield* readSegment(file, { path, place: segment.seek(begin), from: begin, to: last, end })
    } finally {
      await file.close()
    }
  }
}

export interface ShownTransaction {
  readonly number: number
  readonly epoch: Epoch
  readonly store: StoreName
  readonly position: Position
  readonly timeMs: number
  readonly consistent: boolean
  readonly chain: Chain
  readonly bytes: number
  readonly entryCount: number
  /** The first ones; `entryCount` may be more. */
  readonly entries: readonly ShownEntry[]
}

export interface ShownEntry {
  readonly type: Entry['type']
  readonly text: string
  /** The first bytes of its data: as hex, and as text with dots for what is not printable. */
  readonly preview?: { readonly hex: string; readonly text: string; readonly bytes: number }
}

export interface ShowOptions {
  /** Of each transaction, at most so many; 1,000. */
  readonly entriesMax?: number
  /** Of each entry's data, at most so many; 64. */
  readonly previewBytes?: number
}

/** Transactions for people to read, one after another, with bounded memory. */
export async function* showTransactions(
  pieces: AsyncIterable<LogPiece>,
  options: ShowOptions = {},
): AsyncGenerator<ShownTransaction> {
  const entriesMax = options.entriesMax ?? 1000
  let begin: Extract<LogPiece, { type: 'begin' }> | undefined
  let entries: ShownEntry[] = []
  let entryCount = 0
  let bytes = 0
  for await (const piece of pieces) {
    if (piece.type === 'begin') {
      begin = piece
      entries = []
      entryCount = 0
      bytes = 0
    } else if (piece.type === 'entries') {
      bytes += piece.data.length
      for (const payload of payloads(piece.data)) {
        if (entryCount++ < entriesMax)
          entries.push(showEntry(decodeEntry(payload), options.previewBytes ?? 64))
      }
    } else if (begin !== undefined) {
      const { number, epoch, store } = begin
      const { position, timeMs, consistent, chain } = piece
      yield { number, epoch, store, position, timeMs, consistent, chain, bytes, entryCount, entries }
    }
  }
}

function* payloads(data: Buffer): Generator<Buffer> {
  for (let at = 0; at < data.length; ) {
    const frame = readFrame(data, at)
    if (frame.kind !== 'frame')
      throw new HotspareError('log-damaged', `An entry cannot be read: its frame is ${frame.kind}.`)
    yield frame.payload
    at = frame.end
  }
}

function showEntry(entry: Entry, previewBytes: number): ShownEntry {
  const { type } = entry
  if (type === 'commit')
    return { type, text: `commit ${entry.position}${entry.consistent ? '' : ', not consistent'}` }
  const path = displayPath(entry.path)
  switch (type) {
    case 'write':
      return {
        type,
        text: `write ${entry.data.length} bytes at ${entry.offset} of '${path}'`,
        preview: preview(entry.data, previewBytes),
      }
    case 'record': {
      const key = preview(entry.key, previewBytes).text
      if (entry.value === undefined) return { type, text: `delete record '${key}' of '${path}'` }
      return { type, text: `put record '${key}' of '${path}'`, preview: preview(entry.value, previewBytes) }
    }
    case 'truncate':
      return { type, text: `set the size of '${path}' to ${entry.size}` }
    case 'rename':
      return { type, text: `rename '${path}' to '${displayPath(entry.to)}'` }
    case 'node':
      return { type, text: `make ${entry.node.kind} '${path}'` }
    default:
      return { type, text: `${type} '${path}'` }
  }
}

function preview(data: Uint8Array, previewBytes: number): { hex: string; text: string; bytes: number } {
  const some = Buffer.from(data.buffer, data.byteOffset, Math.min(data.length, previewBytes))
  return {
    hex: some.toString('hex'),
    text: some.toString('latin1').replace(/[^\x20-\x7e]/g, '.'),
    bytes: data.length,
  }
}

/** Writes transaction `number` (the first one, without it) to a file of its own (txlog-file.ts). `log-removed`. */
export async function extractTransaction(
  place: LogPlace,
  path: string,
  number?: number,
): Promise<{ readonly number: number }> {
  const { stream } = await stateOf(place)
  const pieces = readLog(place, number)
  const first = await pieces.next()
  const begin = first.done ? undefined : first.value
  if (begin?.type !== 'begin' || (number !== undefined && begin.number !== number)) {
    await pieces.return(undefined)
    const which = number === undefined ? 'any transaction' : `transaction ${number}`
    throw new HotspareError('log-removed', `The log in '${place.directory}' does not have ${which}.`)
  }
  const chainBefore = await chainOfLogBefore(place, begin.number)
  await writeTransactions(
    place.storage,
    path,
    { stream, first: begin.number, chainBefore },
    one(begin, pieces),
  )
  return { number: begin.number }
}

async function* one(begin: LogPiece, rest: AsyncIterable<LogPiece>): AsyncGenerator<LogPiece> {
  yield begin
  for await (const piece of rest) {
    yield piece
    if (piece.type === 'end') return
  }
}

async function chainOfLogBefore(place: LogPlace, number: number): Promise<Chain> {
  const state = await stateOf(place)
  const name = (await segmentNames(place, state)).findLast(one => (segmentNumber(one) as number) <= number)
  const scan = name === undefined ? undefined : await scanNamed(place, name, number - 1)
  if (scan?.segment === undefined || scan.segment.last !== number - 1)
    throw new HotspareError(
      'log-removed',
      `The log in '${place.directory}' does not have transaction ${number}.`,
    )
  return scan.segment.chain
}

export interface LogMachine extends LogPlace {
  readonly clock: Clock
  readonly random: Random
}

/**
 * Drops all transactions: the log goes on with the number after its last, and whoever takes from it has to synchronise.
 * `log-busy` while a server has it. Gives how many were dropped.
 */
export async function clearLog(machine: LogMachine): Promise<{ readonly transactions: number }> {
  const log = await openLog({ ...machine, limits: unlimited, onNotice: () => undefined })
  try {
    const { first, next } = log
    const positions = new Map<StoreName, Position | undefined>()
    for (const store of log.marks().keys()) {
      const sink = log.sink(store)
      positions.set(store, await sink.position(store))
      await sink.close()
    }
    // a chain that nobody has: nothing may follow on what was dropped
    await log.restart({ next, chain: machine.random.bytes(8).toString('hex') })
    // what is committed in the stores from here on follows; nothing is read into the log a second time
    for (const [store, position] of positions) await log.rebase(store, position)
    return { transactions: next - first }
  } finally {
    await log.close()
  }
}

const unlimited = {
  bytesMax: Number.MAX_SAFE_INTEGER,
  whenFull: 'block',
  keepMs: 0,
  keepBytes: Number.MAX_SAFE_INTEGER,
} as const

/**
 * The log begins with transaction `first` at the earliest: those before it are dropped, and count as acknowledged by
 * nobody; so a subscriber that needs them has to synchronise. Whole segments go, so that some before it may stay, and
 * then are not for anybody. `log-busy` while a server has it.
 */
export async function moveLogStart(
  machine: LogMachine,
  first: number,
): Promise<{ readonly first: number; readonly dropped: readonly string[] }> {
  const lock = await takeLog(machine.storage, machine.directory)
  const dropped: string[] = []
  try {
    const state = await stateOf(machine)
    const { overview, findings } = await verifyLog(machine)
    if (findings.length > 0)
      throw new HotspareError('log-damaged', 'The log is damaged: it is put right when a server opens it.')
    if (first < overview.first || first > overview.next) {
      throw new HotspareError(
        'log-removed',
        `The log has ${overview.first} to ${overview.next - 1}: its start cannot be moved to ${first}.`,
      )
    }
    const names = await segmentNames(machine, state)
    const start =
      names.findLast(name => (segmentNumber(name) as number) <= first) ?? segmentName(overview.first)
    const number = segmentNumber(start) as number
    const scan = await scanNamed(machine, start)
    const chainBefore = scan?.segment?.start.chainBefore ?? state.chainBefore
    const subscribers = new Map(
      [...state.subscribers].map(([name, subscriber]) => {
        const loses = subscriber.acknowledged < first - 1
        if (loses && subscriber.kept) dropped.push(name)
        return [name, loses ? { ...subscriber, kept: false } : subscriber]
      }),
    )
    await writeState(machine.storage, statePath(machine.directory), {
      ...state,
      first: number,
      chainBefore,
      subscribers,
    })
    for (const name of names)
      if ((segmentNumber(name) as number) < number)
        await machine.storage.remove(`${machine.directory}/${name}`)
    return { first: number, dropped }
  } finally {
    await lock.release()
  }
}

async function stateOf({ storage, directory }: LogPlace): Promise<LogState> {
  const read = await readState(storage, statePath(directory))
  if (read.kind === 'state') return read.state
  if (read.kind === 'absent') throw new HotspareError('log-removed', `There is no log in '${directory}'.`)
  throw new HotspareError('log-damaged', `The state of the log in '${directory}' is damaged: ${read.what}.`)
}

/** Of the log as its state has it, in ascending order. */
async function segmentNames({ storage, directory }: LogPlace, state: LogState): Promise<string[]> {
  const names = (await storage.list(directory)).filter(name => segmentNumber(name) !== undefined).sort()
  return names.filter((_, i) => {
    const later = names[i + 1]
    return later === undefined || (segmentNumber(later) as number) > state.first
  })
}

async function scanNamed(place: LogPlace, name: string, upTo?: number): Promise<SegmentScan | undefined> {
  const path = `${place.directory}/${name}`
  const file = await openIfThere(place.storage, path)
  if (file === undefined) return undefined
  try {
    return await scanSegment(file, path, upTo)
  } finally {
    await file.close()
  }
}

async function openIfThere(storage: Storage, path: string) {
  try {
    return await storage.open(path, 'read')
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
}
