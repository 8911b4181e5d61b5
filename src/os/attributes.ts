/** A file's metadata through the system calls that Node.js lacks. None of them follows a symbolic link. */
import { errno, fail as failed, lastErrno, lazy, libc } from './libc.ts'
import type { NativePath } from './storage.ts'

const names = 'void*'
const calls = lazy(() => ({
  utimensat: libc().func(`int utimensat(int, ${names}, ${names}, int)`),
  listxattr: libc().func(`int64_t llistxattr(${names}, ${names}, size_t)`),
  getxattr: libc().func(`int64_t lgetxattr(${names}, ${names}, ${names}, size_t)`),
  setxattr: libc().func(`int lsetxattr(${names}, ${names}, ${names}, size_t, int)`),
  removexattr: libc().func(`int lremovexattr(${names}, ${names})`),
}))

const { ENODATA, EOPNOTSUPP, ERANGE } = errno as Record<string, number>

function fail(call: string, path: NativePath): never {
  return failed(call, `${path}`)
}

function terminated(text: NativePath): Buffer {
  return Buffer.concat([Buffer.from(text as string), Buffer.alloc(1)])
}

/** Sets the time of modification and leaves the time of access. */
export function setModificationTime(path: NativePath, mtimeNs: bigint): void {
  const AT_FDCWD = -100
  const AT_SYMLINK_NOFOLLOW = 0x100
  const UTIME_OMIT = 0x3ffffffen
  const billion = 1_000_000_000n
  const nanoseconds = ((mtimeNs % billion) + billion) % billion
  const times = Buffer.alloc(32)
  times.writeBigInt64LE(UTIME_OMIT, 8)
  times.writeBigInt64LE((mtimeNs - nanoseconds) / billion, 16)
  times.writeBigInt64LE(nanoseconds, 24)
  if (calls().utimensat(AT_FDCWD, terminated(path), times, AT_SYMLINK_NOFOLLOW) !== 0) fail('utimensat', path)
}

/** The names of a file's extended attributes, in latin1; none where the file system has no such thing. */
export function listXattrs(path: NativePath): string[] {
  for (let bytes = 1024; ; bytes *= 4) {
    const list = Buffer.alloc(bytes)
    const length = Number(calls().listxattr(terminated(path), list, bytes))
    if (length >= 0) return list.toString('latin1', 0, length).split('\0').slice(0, -1)
    if (lastErrno() === EOPNOTSUPP) return []
    if (lastErrno() !== ERANGE) fail('llistxattr', path)
  }
}

/** Undefined when there is no such attribute. */
export function getXattr(path: NativePath, name: string): Buffer | undefined {
  const nameBytes = Buffer.from(`${name}\0`, 'latin1')
  for (let bytes = 1024; ; bytes *= 4) {
    const value = Buffer.alloc(bytes)
    const length = Number(calls().getxattr(terminated(path), nameBytes, value, bytes))
    if (length >= 0) return value.subarray(0, length)
    if (lastErrno() === ENODATA) return undefined
    if (lastErrno() !== ERANGE) fail('lgetxattr', path)
  }
}

export function setXattr(path: NativePath, name: string, value: Uint8Array): void {
  const nameBytes = Buffer.from(`${name}\0`, 'latin1')
  if (calls().setxattr(terminated(path), nameBytes, Buffer.from(value), value.length, 0) !== 0)
    fail('lsetxattr', path)
}

/** Removes an attribute; resolves when there is none. */
export function removeXattr(path: NativePath, name: string): void {
  const nameBytes = Buffer.from(`${name}\0`, 'latin1')
  if (calls().removexattr(terminated(path), nameBytes) !== 0 && lastErrno() !== ENODATA)
    fail('lremovexattr', path)
}
