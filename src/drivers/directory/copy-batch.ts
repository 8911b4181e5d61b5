/**
 * Entries on their way to the thread that writes the copy: many in one message, packed into shared memory that is used
 * again and again, since what is made anew for each message is paid for in collections. Data that is in shared memory
 * already goes by reference, and is given back when the thread has written it; other data is copied.
 *
 * A record begins at a multiple of 8 bytes, numbers little-endian:
 *
 *     offset  bytes
 *          0      4  kind, flags in the second byte
 *          4      4  bytes of the path; -1: the path of the record before
 *          8      8  write: offset; attributes: time of modification
 *         16      8  write: where the data begins in its memory
 *         24      4  write: length of the data; attributes: mode; other: bytes of the entry
 *         28      4  write: number of its memory, 0: what was copied; attributes: bytes of the extended attributes
 *         32      8  attributes: owner and group
 *         40         the path; extended attributes, or the entry
 */
import { ByteReader, ByteWriter } from '../../stream/bytes.ts'
import { decodeEntry, encodeEntry } from '../../stream/codec.ts'
import type { AttributesChange, Entry, EntryPath, StoreName, WriteChange } from '../../stream/entry.ts'
import { frameHeaderBytes } from '../../stream/frame.ts'

const batchEntriesMax = 1024
const batchBytesMax = 2 * 1024 * 1024
/** Of a batch that ends with a file of which the metadata comes next, which is then written in two steps. */
const batchBytesLast = 2 * batchBytesMax
/** A batch has room for its usual entries; memory that had to grow is not kept. */
const memoryBytes = 256 * 1024
const freeMax = 4

const kind = { write: 1, attributes: 2, replace: 3, replaced: 4, other: 5 } as const
const present = { mode: 1, uid: 2, gid: 4, time: 8, xattrs: 16 } as const
const headBytes = 40
const samePath = -1

export interface EntryBatch {
  /** The records. */
  readonly entries: SharedArrayBuffer
  readonly length: number
  readonly shared: readonly SharedArrayBuffer[]
  readonly copied: ArrayBuffer
}

/** The memory of records, as its numbers and as its bytes. */
class Records {
  readonly memory: SharedArrayBuffer
  readonly bytes: Buffer
  readonly words: Int32Array
  readonly wide: Float64Array
  readonly times: BigInt64Array

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.bytes = Buffer.from(memory)
    this.words = new Int32Array(memory)
    this.wide = new Float64Array(memory)
    this.times = new BigInt64Array(memory)
  }
}

const noData = new ArrayBuffer(0)
const noBytes = Buffer.alloc(0)

export class BatchEncoder {
  readonly #free: Records[] = []
  #records = new Records(new SharedArrayBuffer(memoryBytes))
  #used = 0
  #path = ''
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
    switch (entry.type) {
      case 'write':
        this.#addWrite(entry)
        break
      case 'attributes':
        this.#addAttributes(entry)
        break
      case 'replace':
      case 'replaced':
        this.#begin(kind[entry.type], entry.path, noBytes)
        break
      default: {
        const bytes = encodeEntry(entry).subarray(frameHeaderBytes)
        const at = this.#begin(kind.other, '', bytes)
        this.#records.words[(at >> 2) + 6] = bytes.length
        this.#bytes += bytes.length
      }
    }
  }

  #addWrite({ path, offset, data, recycle }: WriteChange): void {
    const at = this.#begin(kind.write, path, noBytes)
    const { words, wide } = this.#records
    wide[(at >> 3) + 1] = offset
    words[(at >> 2) + 6] = data.length
    this.#bytes += data.length
    const { buffer } = data
    let place = 0
    if (buffer instanceof SharedArrayBuffer) {
      place = this.#shared.lastIndexOf(buffer) + 1
      if (place === 0) place = this.#shared.push(buffer)
      wide[(at >> 3) + 2] = data.byteOffset
    } else {
      wide[(at >> 3) + 2] = this.#copiedBytes
      this.#copied.push(data)
      this.#copiedBytes += data.length
    }
    words[(at >> 2) + 7] = place
    if (recycle !== undefined) this.#recycle.push(recycle)
  }

  #addAttributes({ path, mode, uid, gid, mtimeNs, xattrs }: AttributesChange): void {
    const more = xattrs === undefined ? noBytes : encodeXattrs(xattrs)
    const flags =
      (mode === undefined ? 0 : present.mode) |
      (uid === undefined ? 0 : present.uid) |
      (gid === undefined ? 0 : present.gid) |
      (mtimeNs === undefined ? 0 : present.time) |
      (xattrs === undefined ? 0 : present.xattrs)
    const at = this.#begin(kind.attributes | (flags << 8), path, more)
    const { words, times } = this.#records
    times[(at >> 3) + 1] = mtimeNs ?? 0n
    const word = at >> 2
    words[word + 6] = mode ?? 0
    words[word + 7] = more.length
    words[word + 8] = uid ?? 0
    words[word + 9] = gid ?? 0
  }

  /** A record with its path and what follows that; gives where it begins. */
  #begin(first: number, path: string, more: Uint8Array): number {
    const same = path === this.#path && this.#used > 0
    const pathBytes = same ? 0 : path.length
    const at = this.#used
    const end = (at + headBytes + pathBytes + more.length + 7) & ~7
    if (end > this.#records.bytes.length) this.#grow(end)
    const { words, bytes } = this.#records
    words[at >> 2] = first
    words[(at >> 2) + 1] = same ? samePath : pathBytes
    if (!same) {
      bytes.write(path, at + headBytes, 'latin1')
      this.#path = path
    }
    if (more.length > 0) bytes.set(more, at + headBytes + pathBytes)
    this.#used = end
    return at
  }

  #grow(bytes: number): void {
    const grown = new Records(new SharedArrayBuffer(Math.max(2 * this.#records.bytes.length, bytes)))
    grown.bytes.set(this.#records.bytes.subarray(0, this.#used))
    this.#records = grown
  }

  /** The batch, and what to call when it was written; the encoder is empty again. */
  finish(): { readonly batch: EntryBatch; readonly recycle: readonly (() => void)[] } {
    const records = this.#records
    const recycle = this.#recycle
    if (records.bytes.length === memoryBytes) {
      recycle.push(() => {
        if (this.#free.length < freeMax) this.#free.push(records)
      })
    }
    const batch: EntryBatch = {
      entries: records.memory,
      length: this.#used,
      shared: this.#shared,
      copied: this.#joined(),
    }
    this.#records = this.#free.pop() ?? new Records(new SharedArrayBuffer(memoryBytes))
    this.#used = 0
    this.#path = ''
    this.#shared = []
    this.#copied = []
    this.#copiedBytes = 0
    this.#bytes = 0
    this.#entries = 0
    this.#recycle = []
    return { batch, recycle }
  }

  #joined(): ArrayBuffer {
    if (this.#copiedBytes === 0) return noData
    const copied = new Uint8Array(this.#copiedBytes)
    let at = 0
    for (const data of this.#copied) {
      copied.set(data, at)
      at += data.length
    }
    return copied.buffer
  }
}

/** What it gives is to be used up before the batch is answered: its data is a view. */
export function* decodeBatch(store: StoreName, batch: EntryBatch): Generator<Entry> {
  const { bytes, words, wide, times } = new Records(batch.entries)
  // it was checked where it came in
  let path = '' as EntryPath
  for (let at = 0; at < batch.length; ) {
    const word = at >> 2
    const first = words[word] as number
    const pathBytes = words[word + 1] as number
    let end = at + headBytes
    if (pathBytes !== samePath) {
      path = bytes.toString('latin1', end, end + pathBytes) as EntryPath
      end += pathBytes
    }
    switch (first & 0xff) {
      case kind.write: {
        const place = words[word + 7] as number
        const memory = place === 0 ? batch.copied : (batch.shared[place - 1] as SharedArrayBuffer)
        const data = Buffer.from(memory, wide[(at >> 3) + 2] as number, words[word + 6] as number)
        yield { type: 'write', store, path, offset: wide[(at >> 3) + 1] as number, data }
        break
      }
      case kind.attributes: {
        const length = words[word + 7] as number
        const flags = first >> 8
        const change: { -readonly [K in keyof AttributesChange]: AttributesChange[K] } = {
          type: 'attributes',
          store,
          path,
        }
        if (flags & present.mode) change.mode = words[word + 6] as number
        if (flags & present.uid) change.uid = (words[word + 8] as number) >>> 0
        if (flags & present.gid) change.gid = (words[word + 9] as number) >>> 0
        if (flags & present.time) change.mtimeNs = times[(at >> 3) + 1] as bigint
        if (flags & present.xattrs) change.xattrs = decodeXattrs(bytes.subarray(end, end + length))
        end += length
        yield change
        break
      }
      case kind.other: {
        const length = words[word + 6] as number
        yield decodeEntry(bytes.subarray(end, end + length))
        end += length
        break
      }
      default:
        yield { type: (first & 0xff) === kind.replace ? 'replace' : 'replaced', store, path }
    }
    at = (end + 7) & ~7
  }
}

function encodeXattrs(xattrs: Readonly<Record<string, Uint8Array>>): Buffer {
  const listed = Object.entries(xattrs)
  const writer = new ByteWriter().integer(listed.length)
  for (const [name, value] of listed) writer.latin1(name).bytes(value)
  return writer.finish()
}

/** Values are views. */
function decodeXattrs(bytes: Buffer): Record<string, Uint8Array> {
  const reader = new ByteReader(bytes)
  const xattrs: Record<string, Uint8Array> = Object.create(null)
  for (let left = reader.integer('extended attributes'); left > 0; left--) {
    const name = reader.latin1('the name of an extended attribute', 4096)
    xattrs[name] = reader.bytes('an extended attribute', 16 * 1024 * 1024)
  }
  return xattrs
}
