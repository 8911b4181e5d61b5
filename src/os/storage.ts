/**
 * Files, as narrow as the parts above need them, so that a test can pass in a storage that fails on purpose.
 * Nothing is durable before `sync` (a file's bytes and size) or `syncDirectory` (names) has resolved.
 * All methods reject with the system's own error; whoever knows what was being done names it.
 */
export type NativePath = string | Buffer

export interface FileStat {
  readonly kind: 'file' | 'directory' | 'symlink' | 'other'
  readonly size: number
  /** Blocks really allocated, in bytes. */
  readonly allocatedBytes: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly inode: bigint
  readonly device: bigint
  readonly links: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** read: must exist. write: must exist, read and write. create: made when missing. create-new: must not exist. */
export type OpenMode = 'read' | 'write' | 'create' | 'create-new'

export interface StorageFile {
  /** Fills `buffer` from `offset`; the bytes read are fewer than asked for only at the end of the file. */
  read(buffer: Uint8Array, offset: number): Promise<number>
  /** Writes all of `data` at `offset`, or rejects (then a part of it may have been written). */
  write(data: Uint8Array, offset: number): Promise<void>
  /**
   * Writes all of `data` at `offset`, durable with the file's size when it resolves: one step where `write` and `sync` are
   * two. Other bytes that were written before are not made durable by it. When it rejects, some of `data` may be in the file,
   * and may be read and yet not be durable; written again, they are.
   */
  writeDurably(data: Uint8Array, offset: number): Promise<void>
  truncate(size: number): Promise<void>
  stat(): Promise<FileStat>
  /** Resolves when the file's bytes and size are durable; with 'everything', its attributes as well. */
  sync(what?: 'content' | 'everything'): Promise<void>
  close(): Promise<void>
}

/** What is absent stays as it is. */
export interface FileAttributes {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtimeNs?: bigint
}

/** Held until `release`, or until the process ends in whatever way. */
export interface FileLock {
  release(): Promise<void>
}

export interface Storage {
  /** New files get mode 0600 unless told otherwise. */
  open(path: NativePath, mode: OpenMode, createMode?: number): Promise<StorageFile>
  /** Of the name itself (a link is not followed); undefined when there is none. */
  stat(path: NativePath): Promise<FileStat | undefined>
  /** Names in a directory, unordered, as bytes in latin1. */
  list(path: NativePath): Promise<string[]>
  /** Makes the directory and its missing parents; resolves when it is there already. Mode 0700 unless told otherwise. */
  makeDirectory(path: NativePath, mode?: number): Promise<void>
  /** Removes a file or link; resolves when there is none. */
  remove(path: NativePath): Promise<void>
  /** Removes an empty directory; resolves when there is none. */
  removeDirectory(path: NativePath): Promise<void>
  removeTree(path: NativePath): Promise<void>
  /** Replaces what has the new name. */
  rename(from: NativePath, to: NativePath): Promise<void>
  link(existing: NativePath, path: NativePath): Promise<void>
  symlink(target: NativePath, path: NativePath): Promise<void>
  readlink(path: NativePath): Promise<Buffer>
  syncDirectory(path: NativePath): Promise<void>
  /** Of the name itself (a link is not followed, and its mode, which it has not, is left). */
  setAttributes(path: NativePath, attributes: FileAttributes): Promise<void>
  /** All extended attributes, by names in latin1; none where the file system has no such thing. */
  xattrs(path: NativePath): Promise<Record<string, Buffer>>
  /** Sets one extended attribute, or removes it. */
  setXattr(path: NativePath, name: string, value: Uint8Array | undefined): Promise<void>
  /** Makes an open, writable file share all blocks of another; false when the file system cannot. */
  reflink(source: StorageFile, target: StorageFile): Promise<boolean>
  /** Takes an advisory lock on a file, made when missing; undefined when another holds it against us. */
  lock(path: NativePath, mode: 'shared' | 'exclusive'): Promise<FileLock | undefined>
}

/** The one way to write a small file durably: temporary name, sync, rename, sync of the directory. */
export async function writeFileDurably(
  storage: Storage,
  path: string,
  data: Uint8Array,
  mode = 0o600,
): Promise<void> {
  const temporary = `${path}.tmp`
  await storage.remove(temporary)
  const file = await storage.open(temporary, 'create-new', mode)
  try {
    await file.write(data, 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await storage.rename(temporary, path)
  await storage.syncDirectory(parentDirectory(path))
}

/** Reads a whole small file; undefined when there is none. Refuses more than `bytesMax`. */
export async function readSmallFile(
  storage: Storage,
  path: NativePath,
  bytesMax: number,
): Promise<Buffer | undefined> {
  const stat = await storage.stat(path)
  if (stat === undefined) return undefined
  if (stat.size > bytesMax)
    throw new Error(`${path} has ${stat.size} bytes, more than the ${bytesMax} allowed`)
  const file = await storage.open(path, 'read')
  try {
    const buffer = Buffer.allocUnsafe(stat.size)
    const length = await file.read(buffer, 0)
    return buffer.subarray(0, length)
  } finally {
    await file.close()
  }
}

export function parentDirectory(path: string): string {
  const cut = path.lastIndexOf('/')
  return cut < 0 ? '.' : cut === 0 ? '/' : path.slice(0, cut)
}
