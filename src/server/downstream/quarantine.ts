/**
 * What a copy refused, kept aside: `quarantine/STORE-NUMBER.txlog` in the state directory has the transaction, for
 * `queue show --file`, and `.json` beside it why it was refused.
 *
 * Both are durable before the state says that the store is quarantined. So a crash before that leaves files that the next
 * attempt writes anew; the transaction itself is in the log as before, and is never skipped.
 */
import type { Log } from '../../log/log.ts'
import { writeTransactions } from '../../log/txlog-file.ts'
import { HotspareError } from '../../os/errors.ts'
import { type Storage, writeFileDurably } from '../../os/storage.ts'
import type { StoreName } from '../../stream/entry.ts'
import type { LogPiece } from '../../stream/log-piece.ts'
import type { Quarantine } from '../state.ts'

export interface Refusal {
  readonly store: StoreName
  /** The transaction that was refused; undefined: the copy itself cannot be used. */
  readonly number: number | undefined
  /** The last transaction that the copy has. */
  readonly after: number
  readonly error: unknown
  readonly atMs: number
}

export async function putAside(
  storage: Storage,
  stateDirectory: string,
  log: Log,
  refusal: Refusal,
  signal: AbortSignal,
): Promise<Quarantine> {
  const { store, number, after, error, atMs } = refusal
  const directory = `${stateDirectory}/quarantine`
  await storage.makeDirectory(directory)
  await storage.syncDirectory(stateDirectory)
  const code = error instanceof HotspareError ? error.code : 'internal'
  const message = error instanceof Error ? error.message : String(error)
  const details = error instanceof HotspareError ? error.details : {}
  const name = `${directory}/${store}-${number ?? after + 1}`
  const end = number === undefined ? undefined : await writeOne(storage, `${name}.txlog`, log, number, signal)
  const report = {
    format: 1,
    store,
    ...(number === undefined ? {} : { number }),
    appliedNumber: after,
    code,
    message,
    details,
    atMs,
    time: new Date(atMs).toISOString(),
    ...(end === undefined ? {} : { position: end.position, committedMs: end.timeMs, chain: end.chain }),
  }
  await writeFileDurably(storage, `${name}.json`, Buffer.from(`${JSON.stringify(report, plain, 2)}\n`))
  return {
    number: number ?? after,
    code,
    message,
    atMs,
    ...(number === undefined ? {} : { file: `${name}.txlog` }),
  }
}

/** Particulars of an error may be what JSON does not have. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value
}

type End = Extract<LogPiece, { type: 'end' }>

async function writeOne(
  storage: Storage,
  path: string,
  log: Log,
  number: number,
  signal: AbortSignal,
): Promise<End | undefined> {
  const chainBefore = await log.chainAfter(number - 1)
  if (chainBefore === undefined) {
    throw new HotspareError('log-removed', `Transaction ${number} is not kept in the log any more.`)
  }
  let end: End | undefined
  async function* pieces(): AsyncIterable<LogPiece> {
    for await (const piece of log.read(number, signal)) {
      yield piece
      if (piece.type !== 'end') continue
      end = piece
      return
    }
  }
  await writeTransactions(storage, path, { stream: log.stream, first: number, chainBefore }, pieces())
  signal.throwIfAborted()
  return end
}
