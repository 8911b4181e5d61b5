/**
 * Entries on their way to the thread that writes the copy: many in one message. Data in shared memory goes by reference
 * and is given back when the thread has written it; other data is copied.
 */
import { ByteReader, ByteWriter } from '../../stream/bytes.ts'
import { decodeEntry, encodeEntry } from '../../stream/codec.ts'
import type { AttributesChange, Entry, EntryPath, StoreName, WriteChange } from '../../stream/entry.ts'
import { frameHeaderBytes } from '../../stream/frame.ts'

const batchEntriesMax = 1024
const batchBytesMax = 2 * 1024 * 1024
/** Of a batch that ends with a file of which the metadata comes next, which is then written in two steps. */
const batchBytesLast = 2 * batchBytesMax

const kind = { write: 1, attributes: 2, replace: 3, replaced: 4, other: 5 } as const
const present = { mode: 1, owner: 2, time: 4, xattrs: 8 } as const
const pathBytesMax = 4096

export interface EntryBatch {
  readonly entries: ArrayBuffer
  readonly length: number
  readonly shared: readonly SharedArrayBuffer[]
  readonly copied: ArrayBuffer
}

export class BatchEncoder {
  #writer = new ByteWriter(64 * 1024)
  #shared: SharedArrayBuffer[] = []
  #copied: Uint8Array[] = []
  #copiedBytes = 0
  #bytes = 0
  #entries = 0
  #recycle: (() => void)[] = []
  #endsWithWrite = false

  get isEmpty(): boolean {
    return this.#entries === 0
  }

  get isFull(): boolean {
    const isLarge = this.#entries >= batchEntriesMax || this.#bytes >= batchBytesMax
    return isLarge && (!this.#endsWithWrite || this.#bytes >= batchBytesLast)
  }

  add(entry: Entry): void {
    this.#entries++
    this.#endsWithWrite = entry.type === 'write'
    const writer = this.#writer
    switch (entry.type) {
      case 'write':
        this.#addWrite(entry)
        break
      case 'attributes':
        writer.u8(kind.attributes).latin1(entry.path)
        writeAttributes(writer, entry)
        break
      case 'replace':
      case 'replaced':
        writer.u8(kind[entry.type]).latin1(entry.path)
        break
      default:
        writer.u8(kind.other).bytes(encodeEntry(entry).subarray(frameHeaderBytes))
    }
  }

  #addWrite(entry: WriteChange): void {
    const { data } = entry
    const writer = this.#writer.u8(kind.write).latin1(entry.path).integer(entry.offset).integer(data.length)
    this.#bytes += data.length
    const { buffer } = data
    if (buffer instanceof SharedArrayBuffer) {
      let place = this.#shared.indexOf(buffer)
      if (place < 0) place = this.#shared.push(buffer) - 1
      writer.integer(place + 1).integer(data.byteOffset)
    } else {
      writer.integer(0).integer(this.#copiedBytes)
      this.#copied.push(data)
      this.#copiedBytes += data.length
    }
    if (entry.recycle !== undefined) this.#recycle.push(entry.recycle)
  }

  /** The batch, and what to call when it was written; the encoder is empty again. */
  finish(): { readonly batch: EntryBatch; readonly recycle: readonly (() => void)[] } {
    const copied = new Uint8Array(this.#copiedBytes)
    let at = 0
    for (const data of this.#copied) {
      copied.set(data, at)
      at += data.length
    }
    const written = this.#writer.finish()
    const entries = new Uint8Array(written.length)
    entries.set(written)
    const recycle = this.#recycle
    const batch: EntryBatch = {
      entries: entries.buffer,
      length: written.length,
      shared: this.#shared,
      copied: copied.buffer,
    }
    this.#writer = new ByteWriter(64 * 1024)
    this.#shared = []
    this.#copied = []
    this.#copiedBytes = 0
    this.#bytes = 0
    this.#entries = 0
    this.#recycle = []
    return { batch, recycle }
  }
}

export function* decodeBatch(store: StoreName, batch: EntryBatch): Generator<Entry> {
  const reader = new ByteReader(new Uint8Array(batch.entries))
  while (reader.remaining > 0) {
    const type = reader.u8('a kind of entry')
    if (type === kind.other) {
      yield decodeEntry(reader.bytes('an entry', batch.length))
      continue
    }
    // it was checked where it came in
    const path = reader.latin1('a path', pathBytesMax) as EntryPath
    switch (type) {
      case kind.write: {
        const offset = reader.integer('an offset')
        const length = reader.integer('a length')
        const place = reader.integer('a place')
        const start = reader.integer('a place')
        const memory = place === 0 ? batch.copied : (batch.shared[place - 1] as SharedArrayBuffer)
        yield { type: 'write', store, path, offset, data: new Uint8Array(memory, start, length) }
        break
      }
      case kind.attributes:
        yield readAttributes(reader, store, path)
        break
      default:
        yield { type: type === kind.replace ? 'replace' : 'replaced', store, path }
    }
  }
}

function writeAttributes(writer: ByteWriter, entry: AttributesChange): void {
  const { mode, uid, gid, mtimeNs, xattrs } = entry
  writer.u8(
    (mode === undefined ? 0 : present.mode) |
      (uid === undefined && gid === undefined ? 0 : present.owner) |
      (mtimeNs === undefined ? 0 : present.time) |
      (xattrs === undefined ? 0 : present.xattrs),
  )
  if (mode !== undefined) writer.integer(mode)
  // a number more, so that none is 0
  if (uid !== undefined || gid !== undefined)
    writer.integer(uid === undefined ? 0 : uid + 1).integer(gid === undefined ? 0 : gid + 1)
  if (mtimeNs !== undefined) writer.int64(mtimeNs)
  if (xattrs === undefined) return
  const listed = Object.entries(xattrs)
  writer.integer(listed.length)
  for (const [name, value] of listed) writer.latin1(name).bytes(value)
}

function readAttributes(reader: ByteReader, store: StoreName, path: EntryPath): AttributesChange {
  const flags = reader.u8('flags')
  const change: { -readonly [K in keyof AttributesChange]: AttributesChange[K] } = {
    type: 'attributes',
    store,
    path,
  }
  if (flags & present.mode) change.mode = reader.integer('the mode')
  if (flags & present.owner) {
    const uid = reader.integer('the owner')
    const gid = reader.integer('the group')
    if (uid > 0) change.uid = uid - 1
    if (gid > 0) change.gid = gid - 1
  }
  if (flags & present.time) change.mtimeNs = reader.int64('the time')
  if (flags & present.xattrs) {
    const xattrs: Record<string, Uint8Array> = Object.create(null)
    const count = reader.integer('the number of extended attributes')
    for (let i = 0; i < count; i++) {
      const name = reader.latin1('the name of an extended attribute', 4096)
      xattrs[name] = reader.bytes('an extended attribute', 16 * 1024 * 1024)
    }
    change.xattrs = xattrs
  }
  return change
}
