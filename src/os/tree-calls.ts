/**
 * System calls on trees of files: thin, synchronous, relative to a directory's descriptor, for worker threads that do
 * little else. None of them follows a symbolic link in a name that it is given.
 *
 * Names are bytes that end with a zero (`cName`), since names need not be UTF-8. A function throws the system's error,
 * with `code`, `errno` and `syscall`; one called `try...` gives the number of the error as a negative number for its
 * caller to judge, because an object for each thing that is not there would cost more than the call.
 */
import { errno, fail, functionOrSystemCall, lastErrno, lazy, libc, systemError } from './libc.ts'
import type { StatBuffer } from './stat-buffer.ts'

export { systemError }

/** A single name, or a path relative to a directory, that ends at the first zero byte. */
export type CName = Uint8Array

/** A buffer that holds the longest name; the same one for many calls, since a view costs as much as a call. */
export function nameBuffer(): Buffer {
  return Buffer.alloc(nameBytesMax + 1)
}
const nameBytesMax = 255

export const { EPERM, ENOENT, EINTR, EIO, ENXIO, EACCES, EEXIST, ENOTDIR, EISDIR, EINVAL } = errno as Record<
  string,
  number
>
export const { ELOOP, ENOSPC, ENOTEMPTY, EOPNOTSUPP, ENODATA, ERANGE, ENOSYS, EXDEV, ESTALE, EMFILE } =
  errno as Record<string, number>

/** open(2), of 64-bit Linux. */
export const openFlag = {
  read: 0,
  write: 1,
  readWrite: 2,
  create: 0o100,
  exclusive: 0o200,
  truncate: 0o1000,
  nonBlocking: 0o4000,
  noAccessTime: 0o1000000,
  /** Only names a place: needs no permission on what is there, and works for symbolic links. */
  path: 0o10000000,
  // these two differ between processors
  directory: process.arch === 'arm64' ? 0o40000 : 0o200000,
  noFollow: process.arch === 'arm64' ? 0o100000 : 0o400000,
} as const
const closeOnExec = 0o2000000

const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_REMOVEDIR = 0x200
const AT_NO_AUTOMOUNT = 0x800
const AT_EMPTY_PATH = 0x1000
const STATX_BASIC_STATS = 0x7ff
const RENAME_NOREPLACE = 1
const RENAME_EXCHANGE = 2
const SEEK_DATA = 3
const SEEK_HOLE = 4
const UTIME_OMIT = 0x3ffffffe

const calls = lazy(() => {
  const func = (declaration: string) => libc().func(declaration)
  return {
    openat: func('int openat(int, void*, int, unsigned int)'),
    close: func('int close(int)'),
    statx: functionOrSystemCall('statx', 'int', 'int, void*, int, unsigned int, void*', {
      x64: 332,
      arm64: 291,
    }),
    openat2: functionOrSystemCall('openat2', 'int64_t', 'int, void*, void*, size_t', {
      x64: 437,
      arm64: 437,
    }),
    renameat2: functionOrSystemCall('renameat2', 'int', 'int, void*, int, void*, unsigned int', {
      x64: 316,
      arm64: 276,
    }),
    readlinkat: func('int64_t readlinkat(int, void*, void*, size_t)'),
    pread: func('int64_t pread(int, void*, size_t, int64_t)'),
    pwrite: func('int64_t pwrite(int, void*, size_t, int64_t)'),
    lseek: func('int64_t lseek(int, int64_t, int)'),
    ftruncate: func('int ftruncate(int, int64_t)'),
    mkdirat: func('int mkdirat(int, void*, unsigned int)'),
    symlinkat: func('int symlinkat(void*, int, void*)'),
    linkat: func('int linkat(int, void*, int, void*, int)'),
    unlinkat: func('int unlinkat(int, void*, int)'),
    fchmod: func('int fchmod(int, unsigned int)'),
    fchmodat: func('int fchmodat(int, void*, unsigned int, int)'),
    fchownat: func('int fchownat(int, void*, unsigned int, unsigned int, int)'),
    fchown: func('int fchown(int, unsigned int, unsigned int)'),
    utimensat: func('int utimensat(int, void*, void*, int)'),
    futimens: func('int futimens(int, void*)'),
    fsync: func('int fsync(int)'),
    fdatasync: func('int fdatasync(int)'),
    syncfs: func('int syncfs(int)'),
  }
})

/** From a name's bytes in latin1. */
export function cName(latin1: string): Buffer {
  const name = Buffer.allocUnsafe(latin1.length + 1)
  name.write(latin1, 'latin1')
  name[latin1.length] = 0
  return name
}

function shown(name: CName): string {
  const end = name.indexOf(0)
  return Buffer.from(name.buffer, name.byteOffset, end < 0 ? name.length : end).toString()
}

// ---- opening

/** A descriptor, or the negative number of the error. */
export function tryOpenAt(directory: number, name: CName, flags: number, mode = 0): number {
  for (;;) {
    const fd = calls().openat(directory, name, flags | openFlag.noFollow | closeOnExec, mode) as number
    if (fd >= 0) return fd
    const number = lastErrno()
    if (number !== EINTR) return -number
  }
}

export function openAt(directory: number, name: CName, flags: number, mode = 0): number {
  const fd = tryOpenAt(directory, name, flags, mode)
  if (fd < 0) throw systemError('openat', -fd, shown(name))
  return fd
}

/** Opens where the root of a tree is, through whatever links lead there. */
export function openRoot(path: string | Buffer): number {
  const name = Buffer.concat([Buffer.from(path as string), Buffer.alloc(1)])
  const fd = calls().openat(AT_FDCWD, name, openFlag.directory | closeOnExec, 0) as number
  return fd < 0 ? fail('open', shown(name)) : fd
}

const RESOLVE_NO_MAGICLINKS_SYMLINKS_BENEATH = 0x02 | 0x04 | 0x08
const openHow = lazy(() => {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(RESOLVE_NO_MAGICLINKS_SYMLINKS_BENEATH), 16)
  return how
})
let openat2Missing = false

/**
 * Opens a path of many parts (latin1; '' for the directory itself) without passing through any symbolic link and without
 * leaving the directory; a descriptor, or the negative number of the error.
 */
export function tryOpenBeneath(directory: number, path: string, flags: number): number {
  if (path === '') return tryOpenAt(directory, cName('.'), flags)
  if (path.length < 4000 && !openat2Missing) {
    const how = openHow()
    how.writeUInt32LE((flags | openFlag.noFollow | closeOnExec) >>> 0, 0)
    for (;;) {
      const fd = Number(calls().openat2(directory, cName(path), how, how.length))
      if (fd >= 0) return fd
      const number = lastErrno()
      if (number === EINTR) continue
      // old kernels lack it, and old sandboxes forbid what they do not know
      if (number === ENOSYS || number === EPERM) openat2Missing = number === ENOSYS
      else if (number !== errno.EAGAIN) return -number
      break
    }
  }
  return openPartByPart(directory, path, flags)
}

function openPartByPart(directory: number, path: string, flags: number): number {
  const parts = path.split('/')
  const last = parts.pop() as string
  if (parts.includes('..') || last === '..') return -(errno.EXDEV as number)
  let at = directory
  try {
    for (const part of parts) {
      const next = tryOpenAt(at, cName(part), openFlag.path | openFlag.directory)
      if (next < 0) return next
      if (at !== directory) closeFd(at)
      at = next
    }
    return tryOpenAt(at, cName(last), flags)
  } finally {
    if (at !== directory) closeFd(at)
  }
}

export function closeFd(fd: number): void {
  // Linux closes the descriptor whatever it says, so that trying again could close somebody else's
  calls().close(fd)
}

// ---- looking

/** Of the name itself. 0, or the negative number of the error. */
export function tryStatAt(directory: number, name: CName, into: StatBuffer): number {
  const flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
  return Number(calls().statx(directory, name, flags, STATX_BASIC_STATS, into.bytes)) === 0 ? 0 : -lastErrno()
}

export function statAt(directory: number, name: CName, into: StatBuffer): void {
  const result = tryStatAt(directory, name, into)
  if (result < 0) throw systemError('statx', -result, shown(name))
}

const emptyName = Buffer.alloc(1)

export function statFd(fd: number, into: StatBuffer): void {
  const flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT
  if (Number(calls().statx(fd, emptyName, flags, STATX_BASIC_STATS, into.bytes)) !== 0) fail('statx')
}

const linkBytesMax = 4096
let linkBuffer: Buffer | undefined

/** A symbolic link's target as bytes in latin1; or the negative number of the error. */
export function tryReadLinkAt(directory: number, name: CName): string | number {
  linkBuffer ??= Buffer.allocUnsafeSlow(linkBytesMax + 1)
  const length = Number(calls().readlinkat(directory, name, linkBuffer, linkBuffer.length))
  return length < 0 ? -lastErrno() : linkBuffer.toString('latin1', 0, length)
}

/** The names of an open directory are given again from the first. */
export function rewindDirectory(fd: number): void {
  if (Number(calls().lseek(fd, 0, 0)) !== 0) fail('lseek')
}

// ---- bytes

/** Fills `into` from `offset` of a file; fewer bytes only at its end. */
export function readAt(fd: number, into: Uint8Array, offset: number): number {
  let done = 0
  while (done < into.length) {
    const rest = done === 0 ? into : into.subarray(done)
    const length = Number(calls().pread(fd, rest, rest.length, offset + done))
    if (length === 0) break
    if (length > 0) done += length
    else if (lastErrno() !== EINTR) fail('pread')
  }
  return done
}

/** One attempt to read: bytes, or the negative number of the error. */
export function tryReadAt(fd: number, into: Uint8Array, offset: number): number {
  const length = Number(calls().pread(fd, into, into.length, offset))
  return length < 0 ? -lastErrno() : length
}

/** Writes all, or throws (then a part of it may have been written). */
export function writeAt(fd: number, data: Uint8Array, offset: number): void {
  let done = 0
  while (done < data.length) {
    const rest = done === 0 ? data : data.subarray(done)
    const length = Number(calls().pwrite(fd, rest, rest.length, offset + done))
    if (length > 0) done += length
    else if (length === 0) throw systemError('pwrite', EIO as number)
    else if (lastErrno() !== EINTR) fail('pwrite')
  }
}

export function truncateFd(fd: number, size: number): void {
  while (calls().ftruncate(fd, size) !== 0) if (lastErrno() !== EINTR) fail('ftruncate')
}

/** Where the next bytes that are not a hole begin at or after `offset`; undefined when there are none any more. */
export function nextData(fd: number, offset: number): number | undefined {
  const at = Number(calls().lseek(fd, offset, SEEK_DATA))
  if (at >= 0) return at
  if (lastErrno() === ENXIO) return undefined
  // a file system that knows no holes
  if (lastErrno() === EINVAL || lastErrno() === EOPNOTSUPP) return offset
  return fail('lseek')
}

/** Where the next hole begins at or after `offset`; the end of the file counts as one. Undefined beyond the end. */
export function nextHole(fd: number, offset: number): number | undefined {
  const at = Number(calls().lseek(fd, offset, SEEK_HOLE))
  if (at >= 0) return at
  return lastErrno() === ENXIO ? undefined : fail('lseek')
}

// ---- names

/** 0, or the negative number of the error. The process's umask is applied to the mode. */
export function tryMakeDirectoryAt(directory: number, name: CName, mode: number): number {
  return calls().mkdirat(directory, name, mode) === 0 ? 0 : -lastErrno()
}

export function trySymlinkAt(target: CName, directory: number, name: CName): number {
  return calls().symlinkat(target, directory, name) === 0 ? 0 : -lastErrno()
}

/** A hard link, to a symbolic link itself when it is one. */
export function tryLinkAt(directory: number, name: CName, newDirectory: number, newName: CName): number {
  return calls().linkat(directory, name, newDirectory, newName, 0) === 0 ? 0 : -lastErrno()
}

/** Replaces what has the new name, unless told otherwise. */
export function tryRenameAt(
  directory: number,
  name: CName,
  newDirectory: number,
  newName: CName,
  how: 'replace' | 'no-replace' | 'exchange' = 'replace',
): number {
  const flags = how === 'replace' ? 0 : how === 'no-replace' ? RENAME_NOREPLACE : RENAME_EXCHANGE
  return Number(calls().renameat2(directory, name, newDirectory, newName, flags)) === 0 ? 0 : -lastErrno()
}

export function tryUnlinkAt(directory: number, name: CName): number {
  return calls().unlinkat(directory, name, 0) === 0 ? 0 : -lastErrno()
}

/** Of an empty directory. */
export function tryRemoveDirectoryAt(directory: number, name: CName): number {
  return calls().unlinkat(directory, name, AT_REMOVEDIR) === 0 ? 0 : -lastErrno()
}

// ---- metadata

export function tryChangeMode(fd: number, mode: number): number {
  return calls().fchmod(fd, mode) === 0 ? 0 : -lastErrno()
}

/**
 * Of a file or directory; the caller has made sure that the name is no symbolic link, whose target would be changed.
 * Where that matters, open it and use `tryChangeMode`.
 */
export function tryChangeModeAt(directory: number, name: CName, mode: number): number {
  return calls().fchmodat(directory, name, mode, 0) === 0 ? 0 : -lastErrno()
}

export function tryChangeOwner(fd: number, uid: number, gid: number): number {
  return calls().fchown(fd, uid, gid) === 0 ? 0 : -lastErrno()
}

/** Of the name itself. */
export function tryChangeOwnerAt(directory: number, name: CName, uid: number, gid: number): number {
  return calls().fchownat(directory, name, uid, gid, AT_SYMLINK_NOFOLLOW) === 0 ? 0 : -lastErrno()
}

const times = lazy(() => {
  const bytes = new ArrayBuffer(32)
  new DataView(bytes).setUint32(8, UTIME_OMIT, true)
  return { bytes: new Uint8Array(bytes), view: new DataView(bytes) }
})

function modificationTime(secondsLow: number, secondsHigh: number, nanoseconds: number): Uint8Array {
  const { bytes, view } = times()
  view.setUint32(16, secondsLow >>> 0, true)
  view.setInt32(20, secondsHigh | 0, true)
  view.setUint32(24, nanoseconds, true)
  return bytes
}

/** Seconds since 1970 as the two halves of a 64-bit number (as `StatBuffer` has them), and nanoseconds. */
export function trySetTime(fd: number, secondsLow: number, secondsHigh: number, nanoseconds: number): number {
  const given = modificationTime(secondsLow, secondsHigh, nanoseconds)
  return calls().futimens(fd, given) === 0 ? 0 : -lastErrno()
}

/** Of the name itself. */
export function trySetTimeAt(
  directory: number,
  name: CName,
  secondsLow: number,
  secondsHigh: number,
  nanoseconds: number,
): number {
  const given = modificationTime(secondsLow, secondsHigh, nanoseconds)
  return calls().utimensat(directory, name, given, AT_SYMLINK_NOFOLLOW) === 0 ? 0 : -lastErrno()
}

// ---- durability

export function syncFd(fd: number): void {
  if (calls().fsync(fd) !== 0) fail('fsync')
}

/** Bytes and size, not times. */
export function syncContent(fd: number): void {
  if (calls().fdatasync(fd) !== 0) fail('fdatasync')
}

/** All of the file system that the descriptor is on. */
export function syncFileSystem(fd: number): void {
  if (calls().syncfs(fd) !== 0) fail('syncfs')
}

/**
 * The same in a thread of the pool, while others write; resolves when it is over, whether it went well or not. What went
 * wrong is told to every other descriptor that was open: who has to know syncs with one of them.
 */
export function syncFileSystemAside(fd: number): Promise<void> {
  return new Promise(resolve => {
    calls().syncfs.async(fd, () => resolve())
  })
}
