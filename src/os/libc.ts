/** The C library of this process, and how its failures become errors. For the modules of this folder only. */
import koffi from 'koffi'
import { HotspareError } from './errors.ts'

export const libc = lazy(() => {
  if (process.platform !== 'linux') {
    throw new HotspareError('unsupported', `hotspare runs on Linux; this is ${process.platform}.`)
  }
  return koffi.load(null)
})

export const errno = koffi.os.errno as Readonly<Record<string, number>>

const errnoNames = lazy(() => {
  const names = new Map<number, string>()
  // the first name of a number is the usual one: EAGAIN, not EWOULDBLOCK
  for (const [name, number] of Object.entries(errno)) if (!names.has(number)) names.set(number, name)
  return names
})

/** The failure of the call that was made last in this thread. */
export function lastErrno(): number {
  return koffi.errno()
}

/** An error like those of Node.js: `code`, `errno`, `syscall`. */
export function systemError(call: string, number: number, path?: string): NodeJS.ErrnoException {
  const code = errnoNames().get(number) ?? `errno ${number}`
  const where = path === undefined ? '' : `, '${path}'`
  return Object.assign(new Error(`${call}: ${code}${where}`), { code, errno: number, syscall: call })
}

export function fail(call: string, path?: string): never {
  throw systemError(call, koffi.errno(), path)
}

/** A C function, or the system call beneath it where the C library has no name for it (musl). */
export function functionOrSystemCall(
  name: string,
  result: string,
  parameters: string,
  numbers: Readonly<Partial<Record<NodeJS.Architecture, number>>>,
) {
  try {
    return libc().func(`${result} ${name}(${parameters})`)
  } catch {
    const number = numbers[process.arch]
    if (number === undefined) {
      throw new HotspareError('unsupported', `This system's C library has no ${name}, for ${process.arch}.`)
    }
    // the calling conventions of whole numbers and pointers are the same with and without '...'
    const call = libc().func(`int64_t syscall(int64_t, ${parameters})`)
    return (...given: unknown[]) => call(number, ...given)
  }
}

export function lazy<T>(make: () => T): () => T {
  let value: T | undefined
  return () => {
    value ??= make()
    return value
  }
}
