/**
 * A Storage over a MemoryDisk that fails on purpose. Every call that changes something, syncs or reads is a step, and a
 * plan says what becomes of which step; so a test can go through all of them in turn.
 */
import type {
  FileAttributes,
  FileLock,
  FileStat,
  NativePath,
  OpenMode,
  Storage,
  StorageFile,
} from '../storage.ts'
import type { Inode, MemoryDisk } from './memory-disk.ts'

export interface Step {
  readonly number: number
  readonly call: string
  readonly path: string
  /** Space may be needed for it. */
  readonly grows: boolean
  readonly reads: boolean
}

/** crash: the machine stops before, in the middle of, or right after the step. fail: the call rejects with a system error. */
export type Fate =
  | { readonly kind: 'go' }
  | { readonly kind: 'crash'; readonly done: 'nothing' | 'part' | 'all' }
  | { readonly kind: 'fail'; readonly code: string; readonly done: 'nothing' | 'part' }

export type Plan = (step: Step) => Fate

export const noFaults: Plan = () => ({ kind: 'go' })

export class MachineDown extends Error {
  constructor() {
    super('the machine is down')
  }
}

export class FaultyStorage implements Storage {
  readonly disk: MemoryDisk
  readonly steps: Step[] = []
  #plan: Plan
  readonly #locks = new Map<Inode, { shared: number; exclusive: boolean }>()

  constructor(disk: MemoryDisk, plan: Plan = noFaults) {
    this.disk = disk
    this.#plan = plan
  }

  /** From here on another plan holds. */
  replan(plan: Plan): void {
    this.#plan = plan
  }

  /** Does `work` as the plan has it; `part` of it when it is to stop in the middle. */
  step<T>(
    about: Omit<Step, 'number'>,
    work: () => T,
    part: () => void = () => {},
    failed: () => void = () => {},
  ): Promise<T> {
    // a promise of its own for each would cost more than the work
    try {
      return Promise.resolve(this.#fated(about, work, part, failed))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  #fated<T>(about: Omit<Step, 'number'>, work: () => T, part: () => void, failed: () => void): T {
    if (this.disk.isDown) throw new MachineDown()
    const step = { number: this.steps.length, ...about }
    this.steps.push(step)
    const fate = this.#plan(step)
    if (fate.kind === 'go') return work()
    if (fate.done === 'part') part()
    if (fate.kind === 'crash') {
      try {
        if (fate.done === 'all') work()
      } finally {
        this.disk.isDown = true
        // biome-ignore lint/correctness/noUnsafeFinally: nobody hears what else there was to say
        throw new MachineDown()
      }
    }
    failed()
    throw systemError(fate.code, about.call, about.path)
  }

  #change<T>(call: string, path: string, grows: boolean, work: () => T): Promise<T> {
    return this.step({ call, path, grows, reads: false }, work)
  }

  #read<T>(call: string, path: string, work: () => T): Promise<T> {
    return this.step({ call, path, grows: false, reads: true }, work)
  }

  #find(path: string): Inode | undefined {
    const parts = partsOf(path)
    return this.#found(parts, parts.length)
  }

  #found(parts: readonly string[], depth: number): Inode | undefined {
    let inode: Inode | undefined = this.disk.root
    for (let i = 0; i < depth; i++) {
      if (inode?.kind !== 'directory') return undefined
      inode = inode.children.get(parts[i] as string)
    }
    return inode
  }

  #existing(path: string, call: string): Inode {
    const inode = this.#find(path)
    if (inode === undefined) throw systemError('ENOENT', call, path)
    return inode
  }

  #parent(path: string, call: string): { directory: Inode; name: string } {
    const parts = partsOf(path)
    const name = parts.at(-1) as string
    const directory = this.#found(parts, parts.length - 1)
    if (directory === undefined) throw systemError('ENOENT', call, path)
    if (directory.kind !== 'directory') throw systemError('ENOTDIR', call, path)
    return { directory, name }
  }

  async open(native: NativePath, mode: OpenMode, createMode = 0o600): Promise<StorageFile> {
    const path = textOf(native)
    const open = () => {
      const present = this.#find(path)
      if (present?.kind === 'directory') throw systemError('EISDIR', 'open', path)
      if (present !== undefined && mode === 'create-new') throw systemError('EEXIST', 'open', path)
      if (present !== undefined) return present
      if (mode === 'read' || mode === 'write') throw systemError('ENOENT', 'open', path)
      const { directory, name } = this.#parent(path, 'open')
      const inode = this.disk.newInode('file', createMode)
      this.disk.change([{ directory, name, inode }])
      return inode
    }
    const creates = mode !== 'read' && this.#find(path) === undefined
    const inode = creates
      ? await this.#change('open', path, mode !== 'write', open)
      : await this.#read('open', path, open)
    return new MemoryFile(this, inode, path, mode !== 'read')
  }

  stat(native: NativePath): Promise<FileStat | undefined> {
    const path = textOf(native)
    return this.#read('stat', path, () => {
      const inode = this.#find(path)
      return inode === undefined ? undefined : statOf(inode)
    })
  }

  list(native: NativePath): Promise<string[]> {
    const path = textOf(native)
    return this.#read('list', path, () => {
      const inode = this.#existing(path, 'list')
      if (inode.kind !== 'directory') throw systemError('ENOTDIR', 'list', path)
      return [...inode.children.keys()].reverse()
    })
  }

  async makeDirectory(native: NativePath, mode = 0o700): Promise<void> {
    const path = textOf(native)
    const parts = partsOf(path)
    for (let depth = 1; depth <= parts.length; depth++) {
      const at = parts.slice(0, depth).join('/')
      const present = this.#find(at)
      if (present?.kind === 'directory') continue
      if (present !== undefined) throw systemError('EEXIST', 'mkdir', path)
      await this.#change('mkdir', at, true, () => {
        const { directory, name } = this.#parent(at, 'mkdir')
        this.disk.change([{ directory, name, inode: this.disk.newInode('directory', mode) }])
      })
    }
  }

  async remove(native: NativePath): Promise<void> {
    const path = textOf(native)
    const present = this.#find(path)
    if (this.disk.isDown) throw new MachineDown()
    if (present === undefined) return
    await this.#change('unlink', path, false, () => {
      if (present.kind === 'directory') throw systemError('EISDIR', 'unlink', path)
      this.#unlink(path)
    })
  }

  async removeDirectory(native: NativePath): Promise<void> {
    const path = textOf(native)
    if (this.disk.isDown) throw new MachineDown()
    const present = this.#find(path)
    if (present === undefined) return
    await this.#change('rmdir', path, false, () => {
      if (present.kind !== 'directory') throw systemError('ENOTDIR', 'rmdir', path)
      if (present.children.size > 0) throw systemError('ENOTEMPTY', 'rmdir', path)
      this.#unlink(path)
    })
  }

  #unlink(path: string): void {
    const { directory, name } = this.#parent(path, 'unlink')
    this.disk.change([{ directory, name, inode: undefined }])
  }

  async removeTree(native: NativePath): Promise<void> {
    const path = textOf(native)
    const present = this.#find(path)
    if (present?.kind !== 'directory') return this.remove(path)
    for (const name of [...present.children.keys()]) await this.removeTree(`${path}/${name}`)
    await this.removeDirectory(path)
  }

  rename(nativeFrom: NativePath, nativeTo: NativePath): Promise<void> {
    const from = textOf(nativeFrom)
    const to = textOf(nativeTo)
    return this.#change('rename', `${from} -> ${to}`, true, () => {
      const inode = this.#existing(from, 'rename')
      const source = this.#parent(from, 'rename')
      const target = this.#parent(to, 'rename')
      const present = target.directory.children.get(target.name)
      if (present === inode) return
      if (present?.kind === 'directory') {
        if (inode.kind !== 'directory') throw systemError('EISDIR', 'rename', to)
        if (present.children.size > 0) throw systemError('ENOTEMPTY', 'rename', to)
      } else if (present !== undefined && inode.kind === 'directory')
        throw systemError('ENOTDIR', 'rename', to)
      inode.attributes.ctimeNs = this.disk.nowNs()
      this.disk.change([
        { ...target, inode },
        { ...source, inode: undefined },
      ])
    })
  }

  link(nativeExisting: NativePath, native: NativePath): Promise<void> {
    const path = textOf(native)
    return this.#change('link', path, true, () => {
      const inode = this.#existing(textOf(nativeExisting), 'link')
      if (this.#find(path) !== undefined) throw systemError('EEXIST', 'link', path)
      inode.attributes.ctimeNs = this.disk.nowNs()
      this.disk.change([{ ...this.#parent(path, 'link'), inode }])
    })
  }

  symlink(target: NativePath, native: NativePath): Promise<void> {
    const path = textOf(native)
    return this.#change('symlink', path, true, () => {
      if (this.#find(path) !== undefined) throw systemError('EEXIST', 'symlink', path)
      const inode = this.disk.newInode('symlink', 0o777)
      inode.linkTarget = Buffer.from(target as string)
      this.disk.change([{ ...this.#parent(path, 'symlink'), inode }])
    })
  }

  readlink(native: NativePath): Promise<Buffer> {
    const path = textOf(native)
    return this.#read('readlink', path, () => this.#existing(path, 'readlink').linkTarget)
  }

  syncDirectory(native: NativePath): Promise<void> {
    const path = textOf(native)
    return this.#change('fsync', path, false, () => this.disk.syncDirectory(this.#existing(path, 'fsync')))
  }

  setAttributes(native: NativePath, attributes: FileAttributes): Promise<void> {
    const path = textOf(native)
    return this.#change('setattr', path, false, () => {
      const inode = this.#existing(path, 'setattr')
      Object.assign(inode.attributes, attributes, { ctimeNs: this.disk.nowNs() })
    })
  }

  xattrs(native: NativePath): Promise<Record<string, Buffer>> {
    const path = textOf(native)
    return this.#read('xattrs', path, () => Object.fromEntries(this.#existing(path, 'xattrs').xattrs))
  }

  setXattr(native: NativePath, name: string, value: Uint8Array | undefined): Promise<void> {
    const path = textOf(native)
    return this.#change('setxattr', path, true, () => {
      const { xattrs } = this.#existing(path, 'setxattr')
      if (value === undefined) xattrs.delete(name)
      else xattrs.set(name, Buffer.from(value))
    })
  }

  async reflink(): Promise<boolean> {
    return false
  }

  async lock(native: NativePath, mode: 'shared' | 'exclusive'): Promise<FileLock | undefined> {
    const file = (await this.open(native, 'create')) as MemoryFile
    const held = this.#locks.get(file.inode) ?? { shared: 0, exclusive: false }
    this.#locks.set(file.inode, held)
    if (held.exclusive || (mode === 'exclusive' && held.shared > 0)) return undefined
    if (mode === 'exclusive') held.exclusive = true
    else held.shared++
    return {
      release: async () => {
        if (mode === 'exclusive') held.exclusive = false
        else held.shared--
      },
    }
  }
}

class MemoryFile implements StorageFile {
  readonly #storage: FaultyStorage
  readonly inode: Inode
  readonly #path: string
  readonly #writable: boolean
  #closed = false

  constructor(storage: FaultyStorage, inode: Inode, path: string, writable: boolean) {
    this.#storage = storage
    this.inode = inode
    this.#path = path
    this.#writable = writable
  }

  read(buffer: Uint8Array, offset: number): Promise<number> {
    return this.#storage.step({ call: 'read', path: this.#path, grows: false, reads: true }, () => {
      this.#checkOpen()
      if (offset >= this.inode.data.length) return 0
      const bytes = this.inode.data.subarray(offset, offset + buffer.length)
      buffer.set(bytes)
      return bytes.length
    })
  }

  write(data: Uint8Array, offset: number): Promise<void> {
    const bytes = Buffer.from(data)
    const write = (some: Buffer) => {
      this.#checkOpen()
      this.inode.write(some, offset)
      this.inode.attributes.mtimeNs = this.inode.attributes.ctimeNs = this.#storage.disk.nowNs()
    }
    return this.#storage.step(
      { call: 'write', path: this.#path, grows: true, reads: false },
      () => write(bytes),
      () => write(bytes.subarray(0, Math.floor(bytes.length / 2))),
    )
  }

  writeDurably(data: Uint8Array, offset: number): Promise<void> {
    const bytes = Buffer.from(data)
    const write = () => {
      this.#checkOpen()
      this.inode.write(bytes, offset)
      this.inode.attributes.mtimeNs = this.inode.attributes.ctimeNs = this.#storage.disk.nowNs()
    }
    const end = offset + bytes.length
    return this.#storage.step(
      { call: 'write-dsync', path: this.#path, grows: true, reads: false },
      () => {
        write()
        this.inode.syncRange(offset, end)
      },
      // written, and not synced: a crash tears it
      write,
      // the error is told once, and the bytes count as durable from then on
      () => this.inode.forget(offset, end),
    )
  }

  truncate(size: number): Promise<void> {
    return this.#storage.step(
      { call: 'truncate', path: this.#path, grows: size > this.inode.data.length, reads: false },
      () => {
        this.#checkOpen()
        if (size === this.inode.data.length) return
        this.inode.resize(size)
        this.inode.attributes.mtimeNs = this.inode.attributes.ctimeNs = this.#storage.disk.nowNs()
      },
    )
  }

  stat(): Promise<FileStat> {
    return this.#storage.step({ call: 'fstat', path: this.#path, grows: false, reads: true }, () =>
      statOf(this.inode),
    )
  }

  sync(): Promise<void> {
    return this.#storage.step(
      { call: 'fdatasync', path: this.#path, grows: false, reads: false },
      () => {
        this.#checkOpen()
        this.inode.sync()
      },
      undefined,
      // the error is told once, and the bytes count as written from then on
      () => this.inode.dirty.clear(),
    )
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #checkOpen(): void {
    if (this.#closed) throw systemError('EBADF', 'file', this.#path)
    if (!this.#writable && this.inode.kind !== 'file') throw systemError('EBADF', 'file', this.#path)
  }
}

function statOf(inode: Inode): FileStat {
  const { mode, uid, gid, mtimeNs, ctimeNs } = inode.attributes
  const size = inode.kind === 'symlink' ? inode.linkTarget.length : inode.data.length
  return {
    kind: inode.kind,
    size,
    allocatedBytes: size,
    mtimeNs,
    ctimeNs,
    inode: inode.number,
    device: 1n,
    links: inode.links,
    mode,
    uid,
    gid,
  }
}

function textOf(path: NativePath): string {
  if (typeof path !== 'string') return path.toString('latin1')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are of one byte, too
  return /^[\x00-\x7f]*$/.test(path) ? path : Buffer.from(path).toString('latin1')
}

/** The same few are asked for again and again. */
const partsKnown = new Map<string, readonly string[]>()
const partsKnownMax = 4096

function partsOf(path: string): readonly string[] {
  const known = partsKnown.get(path)
  if (known !== undefined) return known
  const parts = path.split('/').filter(part => part !== '')
  if (partsKnown.size >= partsKnownMax) partsKnown.clear()
  partsKnown.set(path, parts)
  return parts
}

export function systemError(code: string, call: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, syscall: call })
}
