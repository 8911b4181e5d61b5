/** The extended attributes of files, directories and symbolic links: system calls as those of tree-calls.ts. */
import { fail, lastErrno, lazy, libc } from './libc.ts'
import { type CName, cName, ENODATA, EOPNOTSUPP } from './tree-calls.ts'

const calls = lazy(() => {
  const func = (declaration: string) => libc().func(declaration)
  return {
    flistxattr: func('int64_t flistxattr(int, void*, size_t)'),
    fgetxattr: func('int64_t fgetxattr(int, void*, void*, size_t)'),
    fsetxattr: func('int fsetxattr(int, void*, void*, size_t, int)'),
    fremovexattr: func('int fremovexattr(int, void*)'),
    llistxattr: func('int64_t llistxattr(void*, void*, size_t)'),
    lgetxattr: func('int64_t lgetxattr(void*, void*, void*, size_t)'),
    lsetxattr: func('int lsetxattr(void*, void*, void*, size_t, int)'),
    lremovexattr: func('int lremovexattr(void*, void*)'),
  }
})

/** Names of at most 64 KiB and a value of at most 64 KiB is what the kernel allows. */
const xattrBytesMax = 64 * 1024
let xattrBuffer: Buffer | undefined

/** A thing whose extended attributes are meant: open, or (a symbolic link, which can't be) by its name. */
export type XattrPlace = number | Buffer

/** The place of a name in an open directory, for what can't be opened. */
export function xattrPlace(directory: number, name: CName): Buffer {
  const head = Buffer.from(`/proc/self/fd/${directory}/`, 'latin1')
  return Buffer.concat([head, name])
}

const isRoot = lazy(() => process.geteuid?.() === 0)

/** Others than ACLs in `system.` are the file system's own business; those of the machine may only be set by root. */
function isCopied(name: string): boolean {
  if (name.startsWith('user.') || name.startsWith('system.posix_acl_')) return true
  return isRoot() && !name.startsWith('system.')
}

/**
 * The extended attributes that a copy made by this user can have, names in latin1; undefined when there are none, or none
 * can be: ACLs, `user.`, and for root all but `system.`.
 */
export function readXattrs(place: XattrPlace): Record<string, Buffer> | undefined {
  xattrBuffer ??= Buffer.allocUnsafeSlow(xattrBytesMax)
  const listed =
    typeof place === 'number'
      ? calls().flistxattr(place, xattrBuffer, xattrBytesMax)
      : calls().llistxattr(place, xattrBuffer, xattrBytesMax)
  const length = Number(listed)
  if (length === 0) return undefined
  if (length < 0) {
    if (lastErrno() === EOPNOTSUPP) return undefined
    fail('listxattr')
  }
  const names = xattrBuffer.toString('latin1', 0, length).split('\0').slice(0, -1).sort()
  const values: Record<string, Buffer> = {}
  let some = false
  for (const name of names) {
    if (!isCopied(name)) continue
    const value = readXattr(place, name)
    if (value === undefined) continue
    values[name] = value
    some = true
  }
  return some ? values : undefined
}

/** Undefined when there is none of this name. */
export function readXattr(place: XattrPlace, name: string): Buffer | undefined {
  xattrBuffer ??= Buffer.allocUnsafeSlow(xattrBytesMax)
  const got =
    typeof place === 'number'
      ? calls().fgetxattr(place, cName(name), xattrBuffer, xattrBytesMax)
      : calls().lgetxattr(place, cName(name), xattrBuffer, xattrBytesMax)
  const length = Number(got)
  if (length >= 0) return Buffer.from(xattrBuffer.subarray(0, length))
  return lastErrno() === ENODATA || lastErrno() === EOPNOTSUPP ? undefined : fail('getxattr', name)
}

const noValue = Buffer.alloc(1)

/** 0, or the negative number of the error. */
export function trySetXattr(place: XattrPlace, name: string, value: Uint8Array): number {
  // a pointer to no bytes may be null, which some file systems take amiss
  const given = value.length === 0 ? noValue : value
  const set =
    typeof place === 'number'
      ? calls().fsetxattr(place, cName(name), given, value.length, 0)
      : calls().lsetxattr(place, cName(name), given, value.length, 0)
  return set === 0 ? 0 : -lastErrno()
}

/** 0 also when there was none. */
export function tryRemoveXattr(place: XattrPlace, name: string): number {
  const removed =
    typeof place === 'number'
      ? calls().fremovexattr(place, cName(name))
      : calls().lremovexattr(place, cName(name))
  return removed === 0 || lastErrno() === ENODATA ? 0 : -lastErrno()
}
