/**
 * The redo journal: changes that may not show before a later commit, or that would tear the copy when a crash cut them
 * short. They are written here, made durable, applied, recorded in the state, and then the journal is dropped.
 *
 * A file of frames: a header with the journal's generation, then entries as in stream/codec.ts. New versions of files
 * stand in the sidecar already, so `replaced` is kept as their number.
 *
 * After a crash, what follows the last whole commit counts as not written. A generation that the state calls applied is
 * dropped whatever it holds.
 */
import { HotspareError, isSystemError } from '../os/errors.ts'
import { parentDirectory, type Storage, type StorageFile } from '../os/storage.ts'
import { ByteReader, ByteWriter } from '../stream/bytes.ts'
import { decodeEntry, encodeEntry, entryTypeByteMax } from '../stream/codec.ts'
import { type Commit, type Entry, type EntryPath, entryPath } from '../stream/entry.ts'
import { encodeFrame, readFrames } from '../stream/frame.ts'

const headerType = 0x41
const takeType = 0x42

/** The new version with this number takes the name. */
export interface TakeChange {
  readonly type: 'take'
  readonly path: EntryPath
  readonly stage: number
  readonly size: number
}

export type JournalEntry = Exclude<Entry, { type: 'replace' | 'replaced' | 'record' }> | TakeChange

export interface JournalFrame {
  readonly entry: JournalEntry
  readonly offset: number
  readonly end: number
}

export interface JournalCommit {
  readonly commit: Commit
  /** Where the journal ends with this commit. */
  readonly end: number
}

export interface JournalPlace {
  readonly storage: Storage
  readonly path: string
  readonly bufferBytes: number
}

export class RedoJournal {
  readonly generation: number
  /** Where the first entry begins. */
  readonly begin: number
  readonly #storage: Storage
  readonly #path: string
  readonly #file: StorageFile
  #end: number
  #buffer: Buffer[] = []
  #bufferBytes = 0
  /** Entries are written when so many bytes have come together. */
  readonly #bufferBytesMax: number
  #written: JournalCommit | undefined
  #durable: JournalCommit | undefined
  #durableEnd: number
  #mayBeTorn = false

  private constructor(
    { storage, path, bufferBytes }: JournalPlace,
    file: StorageFile,
    generation: number,
    begin: number,
  ) {
    this.#storage = storage
    this.#path = path
    this.#bufferBytesMax = bufferBytes
    this.#file = file
    this.generation = generation
    this.begin = begin
    this.#end = begin
    this.#durableEnd = begin
  }

  static async create(place: JournalPlace, generation: number): Promise<RedoJournal> {
    const { storage, path } = place
    await storage.remove(path)
    const file = await storage.open(path, 'create-new')
    try {
      const header = encodeFrame(new ByteWriter().u8(headerType).integer(generation).finish())
      await file.write(header, 0)
      await file.sync()
      await storage.syncDirectory(parentDirectory(path))
      return new RedoJournal(place, file, generation, header.length)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** What a crash or a stop left, cut after its last commit; undefined when there is no commit in it, or no journal. */
  static async open(place: JournalPlace): Promise<RedoJournal | undefined> {
    const { storage, path } = place
    let file: StorageFile
    try {
      file = await storage.open(path, 'write')
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined
      throw error
    }
    try {
      const journal = await RedoJournal.#load(place, file)
      if (journal === undefined) await file.close()
      return journal
    } catch (error) {
      await file.close()
      throw error
    }
  }

  static async #load(place: JournalPlace, file: StorageFile): Promise<RedoJournal | undefined> {
    const frames = readFrames(file, 0)
    const first = await frames.next()
    if (first.done) return undefined
    const header = new ByteReader(first.value.payload)
    if (header.u8('the type') !== headerType) throw unreadable(place.path, 0)
    const journal = new RedoJournal(place, file, header.integer('the generation'), first.value.end)
    for await (const { entry, end } of journal.#read(journal.begin)) {
      if (entry.type === 'commit') journal.#durable = { commit: entry, end }
    }
    if (journal.#durable === undefined) return undefined
    journal.#written = journal.#durable
    journal.#end = journal.#durable.end
    journal.#durableEnd = journal.#end
    await file.truncate(journal.#end)
    // what a killed process left unsynced must be durable before anything is built on it
    await file.sync()
    return journal
  }

  /** The last commit that is durable here. */
  get durable(): JournalCommit | undefined {
    return this.#durable
  }

  async append(entry: JournalEntry): Promise<void> {
    const frame =
      entry.type === 'take'
        ? encodeFrame(
            new ByteWriter()
              .u8(takeType)
              .latin1(entry.path)
              .integer(entry.stage)
              .integer(entry.size)
              .finish(),
          )
        : encodeEntry(entry)
    this.#buffer.push(frame)
    this.#bufferBytes += frame.length
    if (entry.type === 'commit') this.#written = { commit: entry, end: this.#end + this.#bufferBytes }
    if (this.#bufferBytes >= this.#bufferBytesMax) await this.#flush()
  }

  async #flush(): Promise<void> {
    if (this.#bufferBytes === 0) return
    this.#mayBeTorn = true
    await this.#file.write(Buffer.concat(this.#buffer, this.#bufferBytes), this.#end)
    this.#end += this.#bufferBytes
    this.#buffer = []
    this.#bufferBytes = 0
  }

  /** Resolves when all that was appended is durable. */
  async sync(): Promise<void> {
    await this.#flush()
    await this.#file.sync()
    this.#mayBeTorn = false
    this.#durable = this.#written
    this.#durableEnd = this.#end
  }

  /** The entries from `offset` to the last durable commit. */
  async *entries(offset: number): AsyncGenerator<JournalFrame> {
    const end = this.#durable?.end ?? this.begin
    if (offset >= end) return
    for await (const frame of this.#read(offset)) {
      yield frame
      if (frame.end >= end) return
    }
    throw unreadable(this.#path, end)
  }

  async *#read(offset: number): AsyncGenerator<JournalFrame> {
    for await (const frame of readFrames(this.#file, offset)) {
      yield { entry: decode(frame.payload, this.#path, frame.offset), offset: frame.offset, end: frame.end }
    }
  }

  /** What was not synced goes. */
  async close(): Promise<void> {
    try {
      // after a sync that failed, bytes can be read and yet count as written: they must not be found again
      if (this.#mayBeTorn) await this.#file.truncate(this.#durableEnd)
    } finally {
      await this.#file.close()
    }
  }

  async remove(): Promise<void> {
    await this.#file.close()
    await this.#storage.remove(this.#path)
  }
}

function decode(payload: Buffer, path: string, offset: number): JournalEntry {
  const type = payload[0] as number
  if (type === takeType) {
    const reader = new ByteReader(payload.subarray(1))
    return {
      type: 'take',
      path: entryPath(reader.latin1('the path', 4096)),
      stage: reader.integer('the new version'),
      size: reader.integer('the size'),
    }
  }
  if (type > entryTypeByteMax) throw unreadable(path, offset)
  const entry = decodeEntry(payload)
  if (entry.type === 'replace' || entry.type === 'replaced' || entry.type === 'record')
    throw unreadable(path, offset)
  return entry
}

function unreadable(path: string, offset: number): HotspareError {
  return new HotspareError(
    'state-damaged',
    `The redo journal '${path}' cannot be read at offset ${offset}. Use --resync to compare the copy with its source anew.`,
    { details: { path, offset } },
  )
}
