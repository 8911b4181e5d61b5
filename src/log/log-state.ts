/**
 * What a log knows beside its segments: a small file, written anew as a whole, durably.
 *
 * It is written before what it allows is done: segments are removed (`first`), void (`generation`) or cut (`cutAfter`)
 * only when it says so, and an act that a crash cut short is completed at the next opening. Acknowledgements in it may
 * be older than what was heard; never newer.
 */
import { HotspareError } from '../os/errors.ts'
import { readSmallFile, type Storage, writeFileDurably } from '../os/storage.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import type { Epoch } from '../stream/epoch.ts'
import { encodeFrame, readFrame } from '../stream/frame.ts'
import type { Chain } from '../stream/log-piece.ts'
import { chainBytes } from './log-chain.ts'
import { readChain, readEpoch, readPosition, readStore, streamBytesMax, writeEpoch } from './log-record.ts'
import type { Rebase } from './rebases.ts'

const stateType = 0x65
const formatVersion = 1
const stateBytesMax = 64 * 1024 * 1024
const countMax = 100_000

export interface Subscriber {
  readonly acknowledged: number
  readonly kept: boolean
}

export interface LogState {
  readonly stream: string
  readonly generation: number
  /** At least this one; a transaction may have a newer one. */
  readonly epoch: Epoch
  /** Transactions before it are not kept. */
  readonly first: number
  /** The chain before `first`, when no segment tells it. */
  readonly chainBefore: Chain
  /** This number was durable when the state was written. */
  readonly durable: number
  /** All after it is being taken back. */
  readonly cutAfter: number | undefined
  /** In the order in which they were made. */
  readonly rebases: readonly Rebase[]
  readonly subscribers: ReadonlyMap<string, Subscriber>
}

export function encodeState(state: LogState): Buffer {
  const writer = new ByteWriter(1024)
  writer.u8(stateType).u8(formatVersion).text(state.stream).integer(state.generation)
  writeEpoch(writer, state.epoch).integer(state.first).raw(chainBytes(state.chainBefore))
  writer.integer(state.durable)
  writer.integer(state.cutAfter === undefined ? 0 : state.cutAfter + 1)
  writer.integer(state.rebases.length)
  for (const { store, after, position } of state.rebases) {
    writer
      .latin1(store)
      .integer(after)
      .u8(position === undefined ? 0 : 1)
    if (position !== undefined) writer.text(position)
  }
  writer.integer(state.subscribers.size)
  for (const [name, { acknowledged, kept }] of state.subscribers)
    writer
      .text(name)
      .integer(acknowledged)
      .u8(kept ? 1 : 0)
  return encodeFrame(writer.finish())
}

export function decodeState(payload: Buffer): LogState {
  const reader = new ByteReader(payload)
  if (reader.u8('the type') !== stateType)
    throw new HotspareError('entry-invalid', "It is not a log's state.")
  const version = reader.u8('the version')
  if (version !== formatVersion) {
    throw new HotspareError(
      'state-version',
      `The log's state was written in format ${version}, and this version knows ${formatVersion}.`,
    )
  }
  const stream = reader.text('the stream', streamBytesMax)
  const generation = reader.integer('the generation')
  const epoch = readEpoch(reader)
  const first = reader.integer('the first number')
  const chainBefore = readChain(reader)
  const durable = reader.integer('the durable number')
  const cut = reader.integer('the cut')
  const rebases: Rebase[] = []
  for (let count = readCount(reader); count > 0; count--) {
    const store = readStore(reader)
    const after = reader.integer('the number')
    rebases.push({ store, after, position: reader.u8('the flags') === 0 ? undefined : readPosition(reader) })
  }
  const subscribers = new Map<string, Subscriber>()
  for (let count = readCount(reader); count > 0; count--) {
    const name = reader.text('the name', 1024)
    const acknowledged = reader.integer('the number')
    subscribers.set(name, { acknowledged, kept: reader.u8('the flags') === 1 })
  }
  reader.end("a log's state")
  const cutAfter = cut === 0 ? undefined : cut - 1
  return { stream, generation, epoch, first, chainBefore, durable, cutAfter, rebases, subscribers }
}

function readCount(reader: ByteReader): number {
  const count = reader.integer('the count')
  if (count > countMax) throw new HotspareError('entry-invalid', `A log's state lists ${count}.`)
  return count
}

/** `absent`, or what is wrong with it, when it cannot be read. */
export async function readState(
  storage: Storage,
  path: string,
): Promise<
  | { readonly kind: 'state'; readonly state: LogState }
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly what: string }
> {
  const bytes = await readSmallFile(storage, path, stateBytesMax)
  if (bytes === undefined) return { kind: 'absent' }
  const frame = readFrame(bytes, 0)
  if (frame.kind !== 'frame' || frame.end !== bytes.length)
    return { kind: 'damaged', what: frame.kind === 'damaged' ? frame.what : 'it has another length' }
  try {
    return { kind: 'state', state: decodeState(frame.payload) }
  } catch (error) {
    if (error instanceof HotspareError && error.code === 'entry-invalid')
      return { kind: 'damaged', what: error.message }
    throw error
  }
}

export function writeState(storage: Storage, path: string, state: LogState): Promise<void> {
  return writeFileDurably(storage, path, encodeState(state))
}
