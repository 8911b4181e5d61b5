/**
 * The system calls that Node.js lacks, through koffi, on Linux with glibc or musl.
 * Each returns or throws as its wrapper says; none is called before it is first needed.
 */
import koffi from 'koffi'
import { errno, fail, lazy, libc } from './libc.ts'

const calls = lazy(() => ({
  flock: libc().func('int flock(int, int)'),
  pipe: libc().func('int pipe2(int*, int)'),
  dup: libc().func('int dup3(int, int, int)'),
  inotifyInit: libc().func('int inotify_init1(int)'),
  inotifyAdd: libc().func('int inotify_add_watch(int, const char*, uint32_t)'),
  inotifyRemove: libc().func('int inotify_rm_watch(int, int)'),
  fcntl: libc().func('int fcntl(int, int, void*)'),
  ioctl: libc().func('int ioctl(int, unsigned long, int)'),
  mmap: libc().func('void* mmap(void*, size_t, int, int, int, int64_t)'),
  munmap: libc().func('int munmap(void*, size_t)'),
  getrlimit: libc().func('int getrlimit(int, void*)'),
  statfs: libc().func('int statfs(const char*, void*)'),
  copyFileRange: libc().func('int64_t copy_file_range(int, void*, int, void*, size_t, unsigned int)'),
}))

const { EACCES, EWOULDBLOCK, EINTR, EXDEV, EOPNOTSUPP, EINVAL, ENOTTY, ENOSPC } = errno as Record<
  string,
  number
>

/** True when the lock was taken, false when another open file holds it against us. */
export function tryFlock(fd: number, mode: 'shared' | 'exclusive'): boolean {
  const lockSh = 1
  const lockEx = 2
  const lockNb = 4
  for (;;) {
    if (calls().flock(fd, (mode === 'shared' ? lockSh : lockEx) | lockNb) === 0) return true
    if (koffi.errno() === EWOULDBLOCK) return false
    if (koffi.errno() !== EINTR) fail('flock')
  }
}

const closeOnExec = 0o2000000
const nonBlocking = 0o4000

/** A descriptor whose reads give events, and never block. */
const F_SETLK = 6

/** struct flock of 64-bit Linux. */
function flockRange(type: number, offset: number, length: number): Buffer {
  const range = Buffer.alloc(32)
  range.writeInt16LE(type, 0)
  range.writeBigInt64LE(BigInt(offset), 8)
  range.writeBigInt64LE(BigInt(length), 16)
  return range
}

/**
 * Takes POSIX write locks on a range of bytes for this process (and turns its own read locks there into write locks);
 * false, with nothing taken, when another process holds one of them.
 */
export function lockRange(fd: number, offset: number, length: number): boolean {
  const writeLock = 1
  if (calls().fcntl(fd, F_SETLK, flockRange(writeLock, offset, length)) === 0) return true
  if (koffi.errno() === EWOULDBLOCK || koffi.errno() === EACCES) return false
  return fail('fcntl(F_SETLK)')
}

/** Drops all of this process's POSIX locks in a range of bytes. */
export function unlockRange(fd: number, offset: number, length: number): void {
  const unlock = 2
  if (calls().fcntl(fd, F_SETLK, flockRange(unlock, offset, length)) !== 0) fail('fcntl(F_SETLK)')
}

export function inotifyInit(): number {
  const fd = calls().inotifyInit(closeOnExec | nonBlocking) as number
  return fd < 0 ? fail('inotify_init1') : fd
}

export function makePipe(): { readonly readFd: number; readonly writeFd: number } {
  const fds = new Int32Array(2)
  if (calls().pipe(fds, closeOnExec) !== 0) fail('pipe2')
  return { readFd: fds[0]!, writeFd: fds[1]! }
}

/** Makes the number `onto` name what `fd` names; what it named before is closed. */
export function duplicateOnto(fd: number, onto: number): void {
  if (calls().dup(fd, onto, closeOnExec) < 0) fail('dup3')
}

/** Gives the watch descriptor; the same one again for a path that is watched already. */
export function inotifyAdd(fd: number, path: string, mask: number): number {
  const watch = calls().inotifyAdd(fd, path, mask) as number
  return watch < 0 ? fail('inotify_add_watch') : watch
}

export function inotifyRemove(fd: number, watch: number): void {
  calls().inotifyRemove(fd, watch)
}

/** Shares all blocks of one file with another (both open, the target writable); false when the file system cannot. */
export function tryReflink(sourceFd: number, targetFd: number): boolean {
  const FICLONE = 0x40049409
  if (calls().ioctl(targetFd, FICLONE, sourceFd) === 0) return true
  if ([EXDEV, EOPNOTSUPP, EINVAL, ENOTTY].includes(koffi.errno())) return false
  return fail('ioctl(FICLONE)')
}

/** File system magic number of a path (statfs f_type), or undefined when it cannot be told. */
export function fileSystemType(path: string): number | undefined {
  const buffer = Buffer.alloc(256)
  return calls().statfs(path, buffer) === 0 ? Number(buffer.readBigInt64LE(0) & 0xffffffffn) : undefined
}

export interface SharedMapping {
  readonly bytes: ArrayBuffer
  /** The memory must not be touched afterwards. */
  unmap(): void
}

/** Maps a file's bytes, shared and writable, into memory. The descriptor may not be closed while POSIX locks on the file matter. */
export function mapShared(fd: number, offset: number, length: number): SharedMapping {
  const readWrite = 3
  const shared = 1
  const address = calls().mmap(null, length, readWrite, shared, fd, offset)
  const number = koffi.address(address)
  if (number === 0xffffffffffffffffn) fail('mmap')
  return {
    bytes: koffi.view(address, length) as ArrayBuffer,
    unmap: () => void calls().munmap(address, length),
  }
}

/** How many files this process may have open (its soft limit). */
export function openFilesMax(): number {
  const RLIMIT_NOFILE = 7
  const limits = Buffer.alloc(16)
  if (calls().getrlimit(RLIMIT_NOFILE, limits) !== 0) fail('getrlimit')
  return Number(limits.readBigUInt64LE(0))
}

/** True when no more inotify watches may be added (fs.inotify.max_user_watches). */
export function isWatchLimit(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).errno === ENOSPC
}
