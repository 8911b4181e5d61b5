/**
 * In a scanning thread: compares directories with what is remembered of them. What did not change costs one statx and a
 * comparison of words; only a directory in which something differs gets a new block, in which what is new or changed is
 * `pending` until it has been sent.
 *
 * A directory is listed again when it changed while it was listed, since names that are moved meanwhile may be missed.
 */

import { DirectoryReader } from '../../os/directory-reader.ts'
import { isSystemError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { inotifyAdd } from '../../os/syscalls.ts'
import {
  closeFd,
  cName,
  ELOOP,
  ENOENT,
  ENOTDIR,
  openFlag,
  rewindDirectory,
  statFd,
  systemError,
  tryOpenBeneath,
  tryReadLinkAt,
  tryStatAt,
} from '../../os/tree-calls.ts'
import { digestBytes, entryFlag } from './entry-flags.ts'
import { PathError } from './path-error.ts'
import type { LookAnswer, LookItem, LookRequest, LookResult } from './scan-protocol.ts'
import { BlockBuilder, mergeBlocks, Signature, TreeBlock } from './tree-block.ts'

const listingsMax = 4
/** Of an entry of the old block that was seen, and is another now. */
const superseded = 2

// each thread looks at one directory at a time
const reader = new DirectoryReader()
const stat = new StatBuffer()
const before = new StatBuffer()
const found = new BlockBuilder()
const merged = new BlockBuilder()

export function look(request: LookRequest): LookAnswer {
  const results: LookResult[] = []
  const wanted = request.items.some(item => item.watch)
  const watches = new Int32Array(wanted ? request.items.length : 0).fill(-1)
  let watchFailure: string | undefined
  let entries = 0
  for (const [number, item] of request.items.entries()) {
    const flags = openFlag.read | openFlag.directory
    const fd = tryOpenBeneath(request.root, item.path === '.' ? '' : item.path, flags)
    if (fd < 0) {
      if (fd !== -(ENOENT as number) && fd !== -(ENOTDIR as number) && fd !== -(ELOOP as number))
        throw new PathError(systemError('open', -fd), item.path)
      results.push({ item: number, block: undefined, directories: [] })
      continue
    }
    try {
      if (item.watch && watchFailure === undefined) {
        try {
          watches[number] = inotifyAdd(request.inotify, `/proc/self/fd/${fd}`, request.watchMask)
        } catch (error) {
          watchFailure = (error as NodeJS.ErrnoException).code ?? String(error)
        }
      }
      const looked = new DirectoryLook(item, fd, request.racyMs)
      const result = item.names === undefined ? looked.all() : looked.some(item.names)
      entries += looked.entries
      if (result !== undefined) results.push({ item: number, ...result })
    } catch (error) {
      found.clear()
      if (error instanceof PathError) throw error
      // removed since it was opened: what is open of it can't be listed any more
      if (!isSystemError(error, 'ENOENT')) throw new PathError(error, item.path)
      results.push({ item: number, block: undefined, directories: [] })
    } finally {
      closeFd(fd)
    }
  }
  return { results, watches, watchFailure, entries }
}

class DirectoryLook {
  readonly #item: LookItem
  readonly #fd: number
  readonly #old: TreeBlock | undefined
  readonly #racyMs: number
  /** Of each entry of the old block: 1 when it stays as it is. */
  readonly #kept: Uint8Array
  #directories: string[] = []
  /** Something is gone, or has to be read again. */
  #differs = false
  /** Of a listing: entries of the old block that were in it, the one that should come next, and the one before. */
  #seen = 0
  #expected = 0
  #previous = -1
  entries = 0

  constructor(item: LookItem, fd: number, racyMs: number) {
    this.#item = item
    this.#fd = fd
    this.#racyMs = racyMs
    this.#old = item.block === undefined ? undefined : new TreeBlock(item.block)
    this.#kept = new Uint8Array(this.#old?.count ?? 0)
  }

  all(): Omit<LookResult, 'item'> | undefined {
    statFd(this.#fd, before)
    for (let listing = 1; ; listing++) {
      this.#list()
      statFd(this.#fd, stat)
      const still = stat.mtimeNs === before.mtimeNs && stat.ctimeNs === before.ctimeNs
      if (still || listing === listingsMax) return this.#result()
      statFd(this.#fd, before)
      found.clear()
      rewindDirectory(this.#fd)
    }
  }

  some(names: readonly string[]): Omit<LookResult, 'item'> | undefined {
    const old = this.#old
    this.#kept.fill(1)
    for (const name of names) {
      const bytes = cName(name)
      this.entries++
      const i = old === undefined ? -1 : old.find(bytes, 0, name.length)
      if (i >= 0) this.#kept[i] = superseded
      const error = tryStatAt(this.#fd, bytes, stat)
      if (error === 0) this.#compare(i, bytes, name.length)
      else if (error !== -(ENOENT as number))
        throw new PathError(systemError('statx', -error), this.#path(name))
      if (i >= 0 && this.#kept[i] === superseded) this.#differs = true
    }
    return this.#result()
  }

  #list(): void {
    this.#kept.fill(0)
    this.#directories = []
    this.#differs = false
    this.#seen = 0
    this.#expected = 0
    this.#previous = -1
    reader.start(this.#fd)
    // short, and all else elsewhere: what is compiled in the middle of a long loop is thrown away at its end
    while (reader.step()) this.#listed()
    if (this.#old === undefined || this.#seen < this.#old.count) this.#differs = true
  }

  /** The name at which the reader stands. */
  #listed(): void {
    const name = reader.name
    this.entries++
    const i = this.#old === undefined ? -1 : this.#known(this.#old)
    const error = tryStatAt(this.#fd, name, stat)
    if (error < 0) {
      // gone between the listing and the look: as if it had gone before
      if (error === -(ENOENT as number)) return
      const path = this.#path(name.toString('latin1', 0, reader.nameLength))
      throw new PathError(systemError('statx', -error), path)
    }
    if (i >= 0 && this.#kept[i] === 0) {
      this.#kept[i] = superseded
      this.#seen++
    }
    this.#compare(i, name, reader.nameLength)
  }

  /** The entry of the old block that has this name; names come in the order of the last listing, if nothing changed. */
  #known(old: TreeBlock): number {
    const { buffer, nameStart, nameLength } = reader
    const expected = this.#expected
    const asExpected = expected < old.count && old.isNamed(expected, buffer, nameStart, nameLength)
    const i = asExpected ? expected : old.find(buffer, nameStart, nameLength)
    if (i < 0) return i
    if (this.#previous >= 0 && old.hint(this.#previous) !== i) old.setHint(this.#previous, i)
    this.#previous = i
    this.#expected = old.hint(i)
    return i
  }

  /** Compares what statx found with an entry of the old block, if there is one (not negative). */
  #compare(i: number, name: Buffer, length: number): void {
    const old = this.#old
    if (old !== undefined && i >= 0 && old.matches(i, stat)) {
      const flags = old.flags(i)
      if ((flags & (entryFlag.racy | entryFlag.pending)) === 0) {
        this.#kept[i] = 1
        return
      }
      if (stat.kind !== fileKind.symlink || (flags & entryFlag.pending) !== 0) {
        this.#kept[i] = 1
        this.#differs = true
        // it may never have been looked at
        if (stat.kind === fileKind.directory && (flags & entryFlag.pending) !== 0) this.#found(name, length)
        return
      }
      const target = tryReadLinkAt(this.#fd, name)
      if (target === old.payload(i).toString('latin1')) {
        this.#kept[i] = 1
        if (!this.#isRacy()) old.setFlags(i, flags & ~entryFlag.racy)
        return
      }
    }
    this.#add(name, length)
    if (stat.kind !== fileKind.directory) return
    const before = i >= 0 ? old?.signature(i) : undefined
    if (before === undefined || !before.isDirectory || !before.sameInode(Signature.of(stat)))
      this.#found(name, length)
  }

  #found(name: Buffer, length: number): void {
    if (this.#item.path !== '.') this.#directories.push(name.toString('latin1', 0, length))
  }

  #add(name: Buffer, length: number): void {
    if (stat.kind === fileKind.file)
      found.addFound(stat, name, length, digestBytes(stat.size), entryFlag.pending)
    else if (stat.kind !== fileKind.symlink) found.addFound(stat, name, length, 0, entryFlag.pending)
    else {
      const racy = this.#isRacy() ? entryFlag.racy : 0
      const target = tryReadLinkAt(this.#fd, name)
      found.add({
        name: name.toString('latin1', 0, length),
        signature: Signature.of(stat),
        // when something else has the name by now, reading it will tell
        payload: Buffer.from(typeof target === 'string' ? target : '', 'latin1'),
        flags: entryFlag.pending | racy,
      })
    }
  }

  #isRacy(): boolean {
    return Number(stat.ctimeNs / 1000n) / 1000 > Date.now() - this.#racyMs
  }

  #result(): Omit<LookResult, 'item'> | undefined {
    if (!this.#differs && found.count === 0) return undefined
    const changed = found.finishSorted()
    const block = this.#old === undefined ? changed : mergeBlocks(this.#old, this.#kept, changed, merged)
    return { block: block.bytes, directories: this.#directories }
  }

  #path(name: string): string {
    return this.#item.path === '' ? name : `${this.#item.path}/${name}`
  }
}
