/**
 * A file of transactions taken out of a log (`.txlog`): a header (stream, first number, the chain before it), then
 * transactions as they stand in a segment. It is written as a whole, and takes its name when it is durable.
 */
import { HotspareError } from '../os/errors.ts'
import { parentDirectory, type Storage, type StorageFile } from '../os/storage.ts'
import type { Chain, LogPiece } from '../stream/log-piece.ts'
import { encodeRecord, saltBytes } from './log-record.ts'
import { readSegment } from './segment-reader.ts'
import { scanSegment } from './segment-scan.ts'

const writeBytes = 1024 * 1024
/** No log gives it to a segment of its own. */
const noSalt = Buffer.alloc(saltBytes)

export interface TransactionsHeader {
  readonly stream: string
  readonly first: number
  readonly chainBefore: Chain
}

/** Replaces what has the name. Durable. */
export async function writeTransactions(
  storage: Storage,
  path: string,
  header: TransactionsHeader,
  pieces: AsyncIterable<LogPiece>,
): Promise<{ readonly transactions: number }> {
  const temporary = `${path}.tmp`
  await storage.remove(temporary)
  const file = await storage.open(temporary, 'create-new')
  let transactions = 0
  try {
    const output = new Output(file)
    output.add(
      encodeRecord({
        type: 'header',
        ...header,
        generation: 0,
        salt: noSalt,
        epochBefore: { number: 0, by: '' },
        marks: 0,
      }),
    )
    let entryBytes = 0
    for await (const piece of pieces) {
      if (piece.type === 'begin') {
        entryBytes = 0
        output.add(encodeRecord({ ...piece, salt: noSalt, durableEnd: 0 }))
      } else if (piece.type === 'entries') {
        entryBytes += piece.data.length
        output.add(piece.data)
      } else {
        output.add(encodeRecord({ ...piece, entryBytes }))
        transactions++
      }
      if (output.isFull) await output.flush()
    }
    await output.flush()
    await file.sync()
  } finally {
    await file.close()
  }
  await storage.rename(temporary, path)
  await storage.syncDirectory(parentDirectory(path))
  return { transactions }
}

class Output {
  readonly #file: StorageFile
  #offset = 0
  #pending: Buffer[] = []
  #bytes = 0

  constructor(file: StorageFile) {
    this.#file = file
  }

  get isFull(): boolean {
    return this.#bytes >= writeBytes
  }

  add(data: Buffer): void {
    this.#pending.push(data)
    this.#bytes += data.length
  }

  async flush(): Promise<void> {
    await this.#file.write(Buffer.concat(this.#pending), this.#offset)
    this.#offset += this.#bytes
    this.#pending = []
    this.#bytes = 0
  }
}

/** The transactions of such a file, checked as a whole before the first is given; `log-damaged`. */
export async function* readTransactions(
  storage: Storage,
  path: string,
): AsyncGenerator<LogPiece, void, undefined> {
  const file = await storage.open(path, 'read')
  try {
    const { segment, fault } = await scanSegment(file, path)
    if (segment === undefined || fault !== undefined) {
      throw new HotspareError(
        'log-damaged',
        `'${path}' is not a whole file of transactions: ${fault?.what ?? 'it has no header'}, at offset ${fault?.offset ?? 0}.`,
        { details: { path, offset: fault?.offset ?? 0 } },
      )
    }
    const { first, begin, last, end } = segment
    yield* readSegment(file, { path, place: { number: first, offset: begin }, from: first, to: last, end })
  } finally {
    await file.close()
  }
}
