/**
 * Reads the packed record of a tree (its bytes: tree-index.ts) into memory that all threads share. A torn last group counts
 * as not written; damage before a later group is named.
 */
import fs from 'node:fs'
import { xxh64 } from '@node-rs/xxhash'
import { HotspareError, isSystemError } from '../../os/errors.ts'
import { TreeBlock } from './tree-block.ts'
import { headBytes, magic, readBytesMax, TreeIndex } from './tree-index.ts'

export interface LoadedGroup {
  readonly number: number
  readonly header: Buffer
  readonly start: number
  readonly end: number
}

export interface LoadedTree {
  readonly index: TreeIndex
  /** The last group that was taken. */
  readonly group: LoadedGroup
  /** There is none behind it. */
  readonly isLast: boolean
}

/** The bytes of a tree's file, which all threads may have. */
export interface TreeBytes {
  readonly bytes: Uint8Array
  /** Of the file when they were read: another file, or one that was written to, has another. */
  readonly stamp: string
}

/**
 * Reads a tree's file; undefined when there is none, or no group of it is wanted. With `wanted`, the last group that it
 * accepts is where the reading ends. Throws `state-damaged`.
 */
export function loadTree(path: string, wanted?: (header: Buffer) => boolean): LoadedTree | undefined {
  const read = readTree(path)
  return read === undefined ? undefined : treeOf(read, path, wanted)
}

/** As `loadTree`, of what was read; `checked`: that it is whole, by who read it. */
export function treeOf(
  read: TreeBytes,
  path: string,
  wanted?: (header: Buffer) => boolean,
  checked = false,
): LoadedTree | undefined {
  const bytes = Buffer.from(read.bytes.buffer, read.bytes.byteOffset, read.bytes.length)
  const groups = readGroups(bytes, path, checked)
  let last = groups.length - 1
  if (wanted !== undefined) while (last >= 0 && !wanted((groups[last] as Group).header)) last--
  const group = groups[last]
  if (group === undefined) return undefined
  const index = new TreeIndex()
  for (const each of groups.slice(0, last + 1)) applyTable(bytes, each, index)
  return { index, group, isLast: last === groups.length - 1 }
}

interface Group extends LoadedGroup {
  readonly table: Buffer
  readonly rows: number
}

/** Undefined when there is no file. */
export function readTree(path: string): TreeBytes | undefined {
  let fd: number
  try {
    fd = fs.openSync(path, 'r')
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const stat = fs.fstatSync(fd, { bigint: true })
    const size = Number(stat.size)
    const bytes = Buffer.from(new SharedArrayBuffer(Math.max(size, 8)))
    let done = 0
    while (done < size) {
      const length = fs.readSync(fd, bytes, done, Math.min(size - done, readBytesMax), done)
      if (length === 0) break
      done += length
    }
    return { bytes: bytes.subarray(0, done), stamp: stampOf(stat) }
  } finally {
    fs.closeSync(fd)
  }
}

/** Undefined when there is no file. */
export function treeStamp(path: string): string | undefined {
  const stat = fs.statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : stampOf(stat)
}

function stampOf({ dev, ino, size, mtimeNs, ctimeNs }: fs.BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':')
}

function readGroups(bytes: Buffer, path: string, checked: boolean): Group[] {
  const groups: Group[] = []
  let at = 0
  while (at < bytes.length) {
    const group = readGroup(bytes, at, checked)
    if (group === undefined || group.number !== groups.length + 1) {
      if (laterGroup(bytes, at, groups.length + 1)) throw damaged(path, at)
      break
    }
    groups.push(group)
    at = group.end
  }
  return groups
}

/** Where a group begins, its length; undefined when no head stands there. */
function readHead(bytes: Buffer, at: number): { number: number; length: number } | undefined {
  if (at + headBytes > bytes.length || bytes.compare(magic, 0, 8, at, at + 8) !== 0) return undefined
  if (xxh64(bytes.subarray(at, at + 40)) !== bytes.readBigUInt64LE(at + 40)) return undefined
  return { number: bytes.readUInt32LE(at + 8), length: Number(bytes.readBigUInt64LE(at + 24)) }
}

function readGroup(bytes: Buffer, at: number, checked = false): Group | undefined {
  const head = readHead(bytes, at)
  if (head === undefined) return undefined
  const end = at + head.length
  if (end > bytes.length || head.length < headBytes) return undefined
  const body = bytes.subarray(at + headBytes, end)
  if (!checked && xxh64(body) !== bytes.readBigUInt64LE(at + 32)) return undefined
  const headerEnd = at + headBytes + bytes.readUInt32LE(at + 12)
  return {
    number: head.number,
    start: at,
    end,
    header: Buffer.from(bytes.subarray(at + headBytes, headerEnd)),
    rows: bytes.readUInt32LE(at + 16),
    table: bytes.subarray(headerEnd, headerEnd + bytes.readUInt32LE(at + 20)),
  }
}

/** True when a whole group that comes later stands behind a place: then what is there is damage, and no torn end. */
function laterGroup(bytes: Buffer, at: number, number: number): boolean {
  for (let from = at + 1; ; ) {
    const found = bytes.indexOf(magic, from)
    if (found < 0) return false
    const group = found % 8 === 0 ? readGroup(bytes, found) : undefined
    if (group !== undefined && group.number > number) return true
    from = found + 1
  }
}

function damaged(path: string, offset: number): HotspareError {
  return new HotspareError(
    'state-damaged',
    `${path} is damaged at offset ${offset}: what stands there is not what was written.`,
    { details: { path, offset } },
  )
}

function applyTable(bytes: Buffer, group: Group, index: TreeIndex): void {
  const { table } = group
  let at = 0
  for (let row = 0; row < group.rows; row++) {
    const start = group.start + Number(table.readBigUInt64LE(at))
    const length = Number(table.readBigUInt64LE(at + 8))
    const pathLength = table.readUInt32LE(at + 16)
    at += 20
    const path = table.toString('latin1', at, at + pathLength)
    at += pathLength
    if (length === 0) index.directories.delete(path)
    else index.directories.set(path, new TreeBlock(bytes.subarray(start, start + length)))
  }
}
