/**
 * Descriptors of the files that carry SQLite's locks (the database and its `-shm`).
 *
 * Invariant: POSIX locks belong to the process and are all dropped when it closes *any* descriptor of the file. So
 * nobody in this process opens and closes such a file but through here: one descriptor for each file, and it is
 * closed only when no other descriptor of the same file is open in the process (an engine's connection, ours or the
 * caller's); until then it is parked, and used again by the next who asks.
 *
 * The worst outcome of breaking it: a read lock is lost, the log restarts under the reader, and transactions are missed.
 */
import { closeSync, fstatSync, openSync, readdirSync, statSync } from 'node:fs'

interface Shared {
  readonly fd: number
  readonly key: string
  users: number
}

export interface SharedDescriptor {
  readonly fd: number
  release(): void
}

const shared = new Map<string, Shared>()

/** Opens for reading, or for reading and writing; the system's own error when that fails. */
export function openShared(path: string, access: 'read' | 'write'): SharedDescriptor {
  const stat = statSync(path, { bigint: true })
  const known = shared.get(keyOf(stat, access))
  if (known !== undefined) return handOut(known)
  const fd = openSync(path, access === 'read' ? 'r' : 'r+')
  // the name may have been given to another file between the two calls
  const key = keyOf(fstatSync(fd, { bigint: true }), access)
  const entry = shared.get(key) ?? { fd, key, users: 0 }
  if (entry.fd !== fd) parked.add(fd)
  shared.set(key, entry)
  return handOut(entry)
}

const parked = new Set<number>()

function handOut(entry: Shared): SharedDescriptor {
  entry.users++
  let released = false
  return {
    fd: entry.fd,
    release() {
      if (released) return
      released = true
      entry.users--
      closeUnused()
    },
  }
}

function closeUnused(): void {
  const unused = new Set(parked)
  for (const entry of shared.values()) if (entry.users === 0) unused.add(entry.fd)
  for (const fd of unused) {
    if (isOpenElsewhere(fd, unused)) continue
    parked.delete(fd)
    for (const entry of shared.values()) if (entry.fd === fd) shared.delete(entry.key)
    closeSync(fd)
  }
}

/** By a descriptor that is in use: not one of `unused`. */
function isOpenElsewhere(fd: number, unused: ReadonlySet<number>): boolean {
  const own = fstatSync(fd, { bigint: true })
  for (const name of readdirSync('/proc/self/fd')) {
    if (unused.has(Number(name))) continue
    try {
      const other = fstatSync(Number(name), { bigint: true })
      if (other.ino === own.ino && other.dev === own.dev) return true
    } catch {
      // closed since the listing: not open elsewhere
    }
  }
  return false
}

function keyOf(stat: { dev: bigint; ino: bigint }, access: 'read' | 'write'): string {
  return `${stat.dev}:${stat.ino}:${access}`
}
