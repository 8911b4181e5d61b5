/**
 * What we know of the copy, in `sidecar/state`: two slots that are written in turn, each with a sequence number and a
 * checksum, so that a torn write costs the newer one only.
 *
 * Invariant: a transaction's `next` is durable here before its last frame is in the copy's log. So after any crash,
 * a power loss included, the copy's content is that of `previous` or of `next`, and its digest tells which.
 *
 * The worst outcome of a damaged file: the copy is taken for foreign and must be compared again (`resync`).
 */
import { closeSync, constants, fdatasync, openSync, readSync, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { xxh64 } from '@node-rs/xxhash'
import * as v from 'valibot'
import { HotspareError } from '../../os/errors.ts'
import type { Position, StateDigest } from '../../stream/entry.ts'

const slotBytes = 512 * 1024
const slotHeaderBytes = 32
const magic = 0x48535351 // HSSQ
const version = 1
/** Written at once when the file is made, so that a full disk later doesn't hinder a record of ordinary size. */
const reservedBytes = 8192

const contentSchema = v.object({
  /** Null when the copy was taken over as it was found, and no commit of a source is known to be its content. */
  position: v.nullable(v.string()),
  timeMs: v.number(),
  /** Digest of the whole content: by it a content is known again, wherever its pages are. */
  state: v.string(),
})

const copySchema = v.object({
  pageBytes: v.number(),
  /** The database file after our last checkpoint, as text: see `fileIdentity`. */
  file: v.string(),
  /** Pages that the digest table described when it was last flushed. */
  tablePages: v.number(),
  previous: contentSchema,
  next: contentSchema,
})

const stageSchema = v.object({
  pageBytes: v.number(),
  pages: v.number(),
  position: v.string(),
  timeMs: v.number(),
  state: v.string(),
  /** Whole, verified and durable: it takes the copy's name. Its inode, to know it by afterwards. */
  sealed: v.nullable(v.string()),
})

const recordSchema = v.object({ copy: v.nullable(copySchema), stage: v.nullable(stageSchema) })

export type CopyContent = v.InferOutput<typeof contentSchema>
export type CopyRecord = v.InferOutput<typeof copySchema>
export type StageRecord = v.InferOutput<typeof stageSchema>
export type StateRecord = v.InferOutput<typeof recordSchema>

export interface Commitment {
  readonly position: Position
  readonly timeMs: number
  readonly state: StateDigest
}

export function commitmentOf(content: {
  position: string | null
  timeMs: number
  state: string
}): Commitment | undefined {
  if (content.position === null) return undefined
  return {
    position: content.position as Position,
    timeMs: content.timeMs,
    state: content.state as StateDigest,
  }
}

const fdatasyncAsync = promisify(fdatasync)

export class CopyState {
  readonly #fd: number
  #sequence = 0
  #record: StateRecord = { copy: null, stage: null }

  /** Opens the file, or makes it. */
  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    try {
      const newest = readSlots(this.#fd, path)
      if (newest === undefined) {
        for (const slot of [0, 1]) writeFully(this.#fd, Buffer.alloc(reservedBytes), slot * slotBytes)
      } else {
        this.#sequence = newest.sequence
        this.#record = newest.record
      }
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  get record(): StateRecord {
    return this.#record
  }

  /** Resolves when the record is durable; the one before it is kept until then. */
  async put(record: StateRecord): Promise<void> {
    const bytes = encodeSlot(this.#sequence + 1, record)
    writeFully(this.#fd, bytes, ((this.#sequence + 1) % 2) * slotBytes)
    await fdatasyncAsync(this.#fd)
    this.#sequence++
    this.#record = record
  }

  close(): void {
    closeSync(this.#fd)
  }
}

/** The newest record of a state file that another process may be writing; undefined when there is none. */
export function readState(path: string): StateRecord | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    return readSlots(fd, path)?.record
  } finally {
    closeSync(fd)
  }
}

function encodeSlot(sequence: number, record: StateRecord): Buffer {
  const body = Buffer.from(JSON.stringify(record), 'utf8')
  const bytes = Buffer.alloc(slotHeaderBytes + body.length)
  if (bytes.length > slotBytes) {
    throw new HotspareError(
      'entry-invalid',
      `The copy's record has ${bytes.length} bytes, more than ${slotBytes}.`,
    )
  }
  bytes.writeUInt32BE(magic, 0)
  bytes.writeUInt32BE(version, 4)
  bytes.writeBigUInt64BE(BigInt(sequence), 8)
  bytes.writeUInt32BE(body.length, 16)
  bytes.set(body, slotHeaderBytes)
  bytes.writeBigUInt64BE(slotChecksum(bytes), 24)
  return bytes
}

/** Over all but the checksum itself. */
function slotChecksum(bytes: Buffer): bigint {
  return xxh64(Buffer.concat([bytes.subarray(0, 24), bytes.subarray(slotHeaderBytes)]))
}

function readSlots(fd: number, path: string): { sequence: number; record: StateRecord } | undefined {
  let newest: { sequence: number; record: StateRecord } | undefined
  let damaged = false
  for (const slot of [0, 1]) {
    const header = Buffer.alloc(slotHeaderBytes)
    if (readSync(fd, header, 0, slotHeaderBytes, slot * slotBytes) < slotHeaderBytes) continue
    if (header.every(byte => byte === 0)) continue
    if (header.readUInt32BE(0) === magic && header.readUInt32BE(4) !== version) {
      throw new HotspareError(
        'state-version',
        `${path} has version ${header.readUInt32BE(4)}; this hotspare knows ${version}. Use the hotspare that wrote it, or begin anew with --resync.`,
      )
    }
    const length = header.readUInt32BE(16)
    const body = Buffer.alloc(Math.min(length, slotBytes))
    const whole =
      header.readUInt32BE(0) === magic &&
      length <= slotBytes - slotHeaderBytes &&
      readSync(fd, body, 0, length, slot * slotBytes + slotHeaderBytes) === length &&
      header.readBigUInt64BE(24) === slotChecksum(Buffer.concat([header, body]))
    if (!whole) {
      damaged = true
      continue
    }
    const sequence = Number(header.readBigUInt64BE(8))
    if (newest !== undefined && newest.sequence > sequence) continue
    newest = { sequence, record: v.parse(recordSchema, JSON.parse(body.toString('utf8'))) }
  }
  if (newest === undefined && damaged) {
    throw new HotspareError(
      'state-damaged',
      `${path} is damaged: no whole record is left. Compare the copy anew with --resync.`,
    )
  }
  return newest
}

function writeFully(fd: number, data: Buffer, offset: number): void {
  for (let done = 0; done < data.length; )
    done += writeSync(fd, data, done, data.length - done, offset + done)
}
