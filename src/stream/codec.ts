/**
 * Entries as bytes: for journals, logs and links. One entry is one frame (see frame.ts) whose payload begins with the
 * entry's type, and with the format's number above it.
 *
 * What is decoded was checked: paths cannot leave their store, sizes are bounded, nothing is left over. What cannot be
 * decoded is named (`entry-invalid`) and never taken for another entry.
 */
import { HotspareError, unreachable } from '../os/errors.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import {
  type AttributesChange,
  type Entry,
  entryPath,
  type NodeChange,
  type Position,
  position,
  positionBytesMax,
  type StateDigest,
  storeName,
  writeBytesMax,
} from './entry.ts'
import { frameHeaderBytes, framePayloadBytesMax, writeFrameHeader } from './frame.ts'

/** The high bits of the first byte: a newer format is refused, not guessed at. */
const formatVersion = 1
const pathBytesMax = 4096
const linkTargetBytesMax = 4096
const stateDigestBytesMax = 1024
const recordKeyBytesMax = 64 * 1024
const xattrNameBytesMax = 255
const xattrsMax = 4096

const entryTypes: readonly Entry['type'][] = [
  'commit',
  'write',
  'truncate',
  'replace',
  'replaced',
  'remove',
  'rename',
  'node',
  'attributes',
  'record',
]
const nodeKinds: readonly NodeChange['node']['kind'][] = ['directory', 'symlink', 'hardlink']

/** The largest first byte of an entry's payload; other records in the same file begin above it. */
export const entryTypeByteMax = (formatVersion << 4) + 15

/** The whole frame, header included. */
export function encodeEntry(entry: Entry): Buffer {
  const writer = new ByteWriter(entry.type === 'write' ? entry.data.length + 512 : 512)
  writer.room(frameHeaderBytes)
  writePayload(writer, entry)
  if (writer.length - frameHeaderBytes > framePayloadBytesMax) {
    throw new HotspareError(
      'entry-invalid',
      `An entry of type ${entry.type} has ${writer.length} bytes; at most ${framePayloadBytesMax} are allowed.`,
    )
  }
  const frame = writer.finish()
  writeFrameHeader(frame)
  return frame
}

function writePayload(writer: ByteWriter, entry: Entry): void {
  writer.u8((formatVersion << 4) | entryTypes.indexOf(entry.type))
  writer.latin1(entry.store)
  if (entry.type === 'commit') {
    if (!entry.position.isWellFormed()) throw invalid('a position is not well-formed text')
    if (!Number.isFinite(entry.timeMs)) throw invalid(`a commit's time is ${entry.timeMs}`)
    writer.u8((entry.consistent ? 1 : 0) | (entry.state === undefined ? 0 : 2))
    writer.float64(entry.timeMs)
    writer.text(entry.position)
    if (entry.state !== undefined) writer.text(entry.state)
    return
  }
  writer.latin1(entry.path)
  switch (entry.type) {
    case 'write':
      if (entry.data.length > writeBytesMax)
        throw invalid(`a write has ${entry.data.length} bytes; at most ${writeBytesMax} are allowed`)
      writer.integer(entry.offset).bytes(entry.data)
      return
    case 'truncate':
      writer.integer(entry.size)
      return
    case 'replace':
    case 'replaced':
    case 'remove':
      return
    case 'rename':
      writer.latin1(entry.to)
      return
    case 'node':
      writer.u8(nodeKinds.indexOf(entry.node.kind))
      if (entry.node.kind === 'symlink') writer.latin1(entry.node.target)
      if (entry.node.kind === 'hardlink') writer.latin1(entry.node.to)
      return
    case 'attributes':
      writeAttributes(writer, entry)
      return
    case 'record':
      writer.u8(entry.value === undefined ? 0 : 1).bytes(entry.key)
      if (entry.value !== undefined) writer.bytes(entry.value)
      return
    default:
      unreachable(entry)
  }
}

function writeAttributes(writer: ByteWriter, entry: AttributesChange): void {
  const { mode, uid, gid, mtimeNs, xattrs } = entry
  const present = [mode, uid, gid, mtimeNs, xattrs]
  writer.u8(present.reduce<number>((bits, value, i) => (value === undefined ? bits : bits | (1 << i)), 0))
  if (mode !== undefined) writer.integer(mode)
  if (uid !== undefined) writer.integer(uid)
  if (gid !== undefined) writer.integer(gid)
  if (mtimeNs !== undefined) writer.int64(mtimeNs)
  if (xattrs === undefined) return
  const listed = Object.entries(xattrs)
  writer.integer(listed.length)
  for (const [name, value] of listed) writer.latin1(name).bytes(value)
}

/** Decodes a frame's payload. Bytes in the entry are views of it. */
export function decodeEntry(payload: Uint8Array): Entry {
  const reader = new ByteReader(payload)
  const first = reader.u8('the type')
  const type = entryTypes[first & 15]
  if (first >> 4 !== formatVersion || type === undefined) {
    throw invalid(`an entry begins with byte ${first}, which this version does not know`)
  }
  const entry = readPayload(reader, type)
  reader.end(`a ${type} entry`)
  return entry
}

function readPayload(reader: ByteReader, type: Entry['type']): Entry {
  const store = checkedStore(reader.latin1('the store', 64))
  if (type === 'commit') {
    const flags = flagsOf(reader, 3)
    const timeMs = reader.float64('the time')
    if (!Number.isFinite(timeMs)) throw invalid(`a commit's time is ${timeMs}`)
    const at: Position = position(reader.text('the position', 3 * positionBytesMax))
    const commit = { type, store, position: at, consistent: (flags & 1) !== 0, timeMs }
    if ((flags & 2) === 0) return commit
    return { ...commit, state: reader.text('the state digest', stateDigestBytesMax) as StateDigest }
  }
  const path = readPath(reader)
  switch (type) {
    case 'write': {
      const offset = reader.integer('the offset')
      const data = reader.bytes('the data', writeBytesMax)
      if (!Number.isSafeInteger(offset + data.length)) throw invalid(`a write at ${offset} is out of range`)
      return { type, store, path, offset, data }
    }
    case 'truncate':
      return { type, store, path, size: reader.integer('the size') }
    case 'replace':
    case 'replaced':
    case 'remove':
      return { type, store, path }
    case 'rename':
      return { type, store, path, to: readPath(reader) }
    case 'node':
      return { type, store, path, node: readNode(reader) }
    case 'attributes':
      return { type, store, path, ...readAttributes(reader) }
    case 'record': {
      const flags = flagsOf(reader, 1)
      const key = reader.bytes('the key', recordKeyBytesMax)
      if (flags === 0) return { type, store, path, key }
      return { type, store, path, key, value: reader.bytes('the value', writeBytesMax) }
    }
    default:
      return unreachable(type)
  }
}

function readNode(reader: ByteReader): NodeChange['node'] {
  const kind = nodeKinds[reader.u8('the kind of node')]
  switch (kind) {
    case 'directory':
      return { kind }
    case 'symlink':
      return { kind, target: reader.latin1('the link', linkTargetBytesMax) }
    case 'hardlink':
      return { kind, to: readPath(reader) }
    default:
      throw invalid('an unknown kind of node')
  }
}

function readAttributes(reader: ByteReader): Omit<AttributesChange, 'type' | 'store' | 'path'> {
  const flags = flagsOf(reader, 31)
  return {
    ...(flags & 1 && { mode: readAtMost(reader, 'the mode', 0o7777) }),
    ...(flags & 2 && { uid: readAtMost(reader, 'the owner', 2 ** 32 - 2) }),
    ...(flags & 4 && { gid: readAtMost(reader, 'the group', 2 ** 32 - 2) }),
    ...(flags & 8 && { mtimeNs: reader.int64('the time') }),
    ...(flags & 16 && { xattrs: readXattrs(reader) }),
  }
}

function readXattrs(reader: ByteReader): Record<string, Uint8Array> {
  const count = readAtMost(reader, 'the number of extended attributes', xattrsMax)
  // without a prototype, so that no name means anything but itself
  const xattrs: Record<string, Uint8Array> = Object.create(null)
  for (let i = 0; i < count; i++) {
    const name = reader.latin1('the name of an extended attribute', xattrNameBytesMax)
    if (name in xattrs) throw invalid('an extended attribute is named twice')
    xattrs[name] = reader.bytes('an extended attribute', writeBytesMax)
  }
  return xattrs
}

function readPath(reader: ByteReader) {
  return entryPath(reader.latin1('the path', pathBytesMax))
}

function checkedStore(text: string) {
  try {
    return storeName(text)
  } catch (cause) {
    throw invalid(`'${text}' is not a store's name`, cause)
  }
}

function flagsOf(reader: ByteReader, known: number): number {
  const flags = reader.u8('the flags')
  if ((flags & ~known) !== 0) throw invalid(`an entry has unknown flags ${flags}`)
  return flags
}

function readAtMost(reader: ByteReader, what: string, max: number): number {
  const value = reader.integer(what)
  if (value > max) throw invalid(`${what} is ${value}, more than ${max}`)
  return value
}

function invalid(what: string, cause?: unknown): HotspareError {
  return new HotspareError('entry-invalid', `Malformed entry: ${what}.`, { cause })
}
