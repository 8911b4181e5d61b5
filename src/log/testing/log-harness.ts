/** Logs on a disk in memory, and transactions to put into them. */
import type { Random } from '../../os/random.ts'
import type { Storage } from '../../os/storage.ts'
import { FaultyStorage } from '../../os/testing/faulty-storage.ts'
import { ManualClock } from '../../os/testing/manual-clock.ts'
import { MemoryDisk } from '../../os/testing/memory-disk.ts'
import { Random as SeededRandom } from '../../os/testing/random.ts'
import { decodeEntry } from '../../stream/codec.ts'
import { type Entry, entryPath, position, type StoreName, storeName } from '../../stream/entry.ts'
import { readFrame } from '../../stream/frame.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import type { Log, LogLimits, LogNotice, LogOptions } from '../log.ts'
import { openLog } from '../segment-log.ts'

export const roomy: LogLimits = { bytesMax: 1 << 30, whenFull: 'block', keepMs: 0, keepBytes: 0 }

export function seededRandom(seed: number): Random {
  const random = new SeededRandom(seed)
  return { fraction: () => random.below(2 ** 30) / 2 ** 30, bytes: count => random.bytes(count) }
}

/** On an empty disk. */
export function memory(): FaultyStorage {
  return new FaultyStorage(new MemoryDisk())
}

export interface TestLog {
  readonly log: Log
  readonly clock: ManualClock
  readonly notices: LogNotice[]
}

export async function openTestLog(storage: Storage, options: Partial<LogOptions> = {}): Promise<TestLog> {
  const clock = new ManualClock()
  const notices: LogNotice[] = []
  const log = await openLog({
    storage,
    clock,
    random: seededRandom(1),
    directory: '/log',
    limits: roomy,
    onNotice: notice => notices.push(notice),
    segmentBytes: 2000,
    ...options,
  })
  return { log, clock, notices }
}

export const storeA: StoreName = storeName('a')
export const storeB: StoreName = storeName('b')

/** A transaction that is known by its position; its content follows from it. */
export function transaction(store: StoreName, at: number | string, bytes = 100): Entry[] {
  const path = entryPath('file')
  const data = Buffer.alloc(bytes, String(at))
  return [
    { type: 'write', store, path, offset: Number.parseInt(String(at), 10) || 0, data },
    {
      type: 'commit',
      store,
      position: position(String(at)),
      consistent: true,
      timeMs: Number.parseInt(String(at), 10) || 0,
    },
  ]
}

/** Appends without a sync. */
export async function append(log: Log, store: StoreName, at: number | string, bytes = 100): Promise<void> {
  const sink = log.sink(store)
  try {
    for (const entry of transaction(store, at, bytes)) await sink.write(entry)
  } finally {
    await sink.close()
  }
}

export async function pieces(log: Log, from = log.first): Promise<LogPiece[]> {
  const read: LogPiece[] = []
  for await (const piece of log.read(from, new AbortController().signal)) read.push(piece)
  return read
}

export interface ReadTransaction {
  readonly number: number
  readonly store: StoreName
  readonly position: string
  readonly entries: readonly Entry[]
}

/** What can be read, with the entries decoded. */
export async function transactions(log: Log, from = log.first): Promise<ReadTransaction[]> {
  return toTransactions(await pieces(log, from))
}

export function toTransactions(read: readonly LogPiece[]): ReadTransaction[] {
  const found: ReadTransaction[] = []
  let store: StoreName = storeA
  let entries: Entry[] = []
  for (const piece of read) {
    if (piece.type === 'begin') {
      store = piece.store
      entries = []
    } else if (piece.type === 'entries') entries.push(...decodeAll(piece.data))
    else found.push({ number: piece.number, store, position: piece.position, entries })
  }
  return found
}

function decodeAll(data: Buffer): Entry[] {
  const entries: Entry[] = []
  for (let at = 0; at < data.length; ) {
    const frame = readFrame(data, at)
    if (frame.kind !== 'frame') throw new Error(`a piece has a frame that is ${frame.kind}`)
    entries.push(decodeEntry(frame.payload))
    at = frame.end
  }
  return entries
}

/** Takes the pieces into another log. */
export async function receiveAll(log: Log, read: readonly LogPiece[]): Promise<void> {
  for (const piece of read) await log.receive(piece)
}
