import { type BigIntStats, constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { getXattr, listXattrs, removeXattr, setModificationTime, setXattr } from './attributes.ts'
import { assert, isSystemError } from './errors.ts'
import type { FileLock, FileStat, NativePath, OpenMode, Storage, StorageFile } from './storage.ts'
import { tryFlock, tryReflink } from './syscalls.ts'

const openFlags: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT,
  'create-new': constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
}

function toStat(stat: BigIntStats): FileStat {
  return {
    kind: stat.isFile()
      ? 'file'
      : stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? 'symlink'
          : 'other',
    size: Number(stat.size),
    allocatedBytes: Number(stat.blocks) * 512,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    inode: stat.ino,
    device: stat.dev,
    links: Number(stat.nlink),
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
  }
}

class NodeFile implements StorageFile {
  readonly #handle: fs.FileHandle
  /** The same file, each write to which is durable when it has been made; opened when it is first needed. */
  #durable: Promise<fs.FileHandle | undefined> | fs.FileHandle | undefined
  constructor(handle: fs.FileHandle) {
    this.#handle = handle
  }
  async read(buffer: Uint8Array, offset: number): Promise<number> {
    let done = 0
    while (done < buffer.length) {
      const { bytesRead } = await this.#handle.read(buffer, done, buffer.length - done, offset + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return done
  }
  write(data: Uint8Array, offset: number): Promise<void> {
    return writeAll(this.#handle, data, offset)
  }
  async writeDurably(data: Uint8Array, offset: number): Promise<void> {
    this.#durable ??= this.#openDurable()
    const handle = this.#durable instanceof Promise ? await this.#durable : this.#durable
    if (handle !== undefined) return writeAll(handle, data, offset)
    await writeAll(this.#handle, data, offset)
    await this.#handle.datasync()
  }
  /** Undefined where there is no /proc. */
  async #openDurable(): Promise<fs.FileHandle | undefined> {
    const opened = await fs
      .open(`/proc/self/fd/${this.#handle.fd}`, constants.O_WRONLY | constants.O_DSYNC)
      .catch(() => undefined)
    this.#durable = opened ?? Promise.resolve(undefined)
    return opened
  }
  truncate(size: number): Promise<void> {
    return this.#handle.truncate(size)
  }
  async stat(): Promise<FileStat> {
    return toStat(await this.#handle.stat({ bigint: true }))
  }
  sync(what: 'content' | 'everything' = 'content'): Promise<void> {
    return what === 'content' ? this.#handle.datasync() : this.#handle.sync()
  }
  async close(): Promise<void> {
    const durable = await this.#durable
    await durable?.close()
    await this.#handle.close()
  }
  get fd(): number {
    return this.#handle.fd
  }
}

async function writeAll(handle: fs.FileHandle, data: Uint8Array, offset: number): Promise<void> {
  let done = 0
  while (done < data.length) {
    const { bytesWritten } = await handle.write(data, done, data.length - done, offset + done)
    done += bytesWritten
  }
}

async function ignoring(code: string, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isSystemError(error, code)) throw error
  }
}

/** The machine's own file systems. */
export const nodeStorage: Storage = {
  async open(path, mode, createMode = 0o600) {
    return new NodeFile(await fs.open(path, openFlags[mode], createMode))
  },
  async stat(path) {
    try {
      return toStat(await fs.lstat(path, { bigint: true }))
    } catch (error) {
      if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  },
  list(path: NativePath) {
    return fs.readdir(path, { encoding: 'latin1' })
  },
  async makeDirectory(path, mode = 0o700) {
    await fs.mkdir(path, { recursive: true, mode })
  },
  remove: path => ignoring('ENOENT', fs.unlink(path)),
  removeDirectory: path => ignoring('ENOENT', fs.rmdir(path)),
  removeTree: path => fs.rm(path as string, { recursive: true, force: true }),
  rename: (from, to) => fs.rename(from, to),
  link: (existing, path) => fs.link(existing, path),
  symlink: (target, path) => fs.symlink(target, path),
  readlink: path => fs.readlink(path, { encoding: 'buffer' }),
  async syncDirectory(path) {
    const handle = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },
  async setAttributes(path, { mode, uid, gid, mtimeNs }) {
    // the owner first, because a change of it clears the bits for set-user-id
    if (uid !== undefined || gid !== undefined) await fs.lchown(path, uid ?? -1, gid ?? -1)
    if (mode !== undefined && !(await fs.lstat(path)).isSymbolicLink()) await fs.chmod(path, mode)
    if (mtimeNs !== undefined) setModificationTime(path, mtimeNs)
  },
  async xattrs(path) {
    // without a prototype, so that no name means anything but itself
    const xattrs: Record<string, Buffer> = Object.create(null)
    for (const name of listXattrs(path)) {
      const value = getXattr(path, name)
      if (value !== undefined) xattrs[name] = value
    }
    return xattrs
  },
  async setXattr(path, name, value) {
    if (value === undefined) removeXattr(path, name)
    else setXattr(path, name, value)
  },
  async reflink(source, target) {
    assert(source instanceof NodeFile && target instanceof NodeFile, 'files of another storage')
    return tryReflink(source.fd, target.fd)
  },
  async lock(path, mode): Promise<FileLock | undefined> {
    const handle = await fs.open(path, openFlags.create, 0o600)
    if (!tryFlock(handle.fd, mode)) {
      await handle.close()
      return undefined
    }
    return { release: () => handle.close() }
  },
}
