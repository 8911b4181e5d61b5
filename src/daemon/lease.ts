/**
 * A maintenance mode that we entered, on disk: so that it is left even when we are killed.
 *
 * `<state directory>/leases/ID.json`, mode 0600: one line of JSON that says how to leave; once entering has begun, a
 * second line that says so; then a line for each command that puts the mode on, so that one which outlives its mirror is
 * ended before the mode is left. Its owner holds a lock on it while it lives; the kernel gives that back however the owner
 * ends. A lease without the second line claims the application for a mirror that has entered nothing.
 *
 * Invariant: the second line is durable before anything is done to enter, and the lease goes only when the mode is known
 * to be left. A crash leaves a lease that nobody holds, and the next hotspare command leaves the mode (`lease-recovery.ts`).
 * The worst: the mode is left once more by a command that finds the lease of a mirror that died after leaving.
 */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { Clock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { RunningCommand } from '../os/run-command.ts'
import { type FileLock, parentDirectory, readSmallFile, type Storage } from '../os/storage.ts'
import { parsed, parseJson } from '../replica/meta.ts'
import { leaveKey, type Mode, modeSchema } from './mode.ts'
import { leasesDirectory } from './state-directory.ts'

const leaseFormat = 1
const leaseBytesMax = 1024 * 1024
const enteringLine = '{"entering":true}\n'
const claimAttemptsMax = 50
const claimRetryMs = 20

const schema = v.object({
  format: v.literal(leaseFormat),
  sinceMs: v.number(),
  pid: v.number(),
  command: v.string(),
  source: v.string(),
  target: v.string(),
  mode: modeSchema,
  timeoutMs: v.number(),
})

const runningSchema = v.object({ running: v.object({ pid: v.number(), startTicks: v.string() }) })

/** What a lease says. */
export interface LeaseRecord {
  readonly sinceMs: number
  readonly pid: number
  /** What its owner was started as, for people. */
  readonly command: string
  /** Real paths. */
  readonly source: string
  readonly target: string
  readonly mode: Mode
  /** How long each of its commands may take. */
  readonly timeoutMs: number
}

/** A lease in our hands: nobody else acts on it until it is given up or removed. */
export interface Lease {
  readonly path: string
  /** To be awaited before anything is done to enter. */
  entering(): Promise<void>
  /** Noted, for when we are killed and it lives on. Not synced: a power loss ends it. Rejects never. */
  running(command: RunningCommand): Promise<void>
  /** The mode is known to be left (or was never entered): removed, durably. */
  remove(): Promise<void>
  /** Stays on disk for the next command to act on. */
  giveUp(): Promise<void>
}

/**
 * Claims an application for a mirror. Throws `window-busy` when another process has it, `leave-failed` when one that was
 * killed left it in maintenance mode and that could not be left yet.
 */
export async function claimLease(
  storage: Storage,
  clock: Clock,
  stateDirectory: string,
  record: LeaseRecord,
): Promise<Lease> {
  const directory = leasesDirectory(stateDirectory)
  await storage.makeDirectory(directory, 0o700)
  await storage.syncDirectory(parentDirectory(directory))
  const turn = await takeTurn(storage, clock, directory)
  try {
    await refuseRivals(storage, directory, record)
    return await createLease(storage, directory, record)
  } finally {
    await turn.release()
  }
}

export interface DeadLease {
  readonly lease: Lease
  /** Undefined: it can't be read (damaged, or of another version). */
  readonly record: LeaseRecord | undefined
  /** Commands that put the mode on and may run still. */
  readonly running: readonly RunningCommand[]
}

/**
 * The leases that nobody holds, one after the other, each held by us until it is removed or given up. What was claimed
 * and never entered is removed. Costs one listing when there is none.
 */
export async function* deadLeases(storage: Storage, stateDirectory: string): AsyncIterable<DeadLease> {
  const directory = leasesDirectory(stateDirectory)
  // what was not finished was never entered
  for (const path of await pathsIn(storage, directory, '.tmp')) {
    const lock = await storage.lock(path, 'exclusive')
    if (lock === undefined) continue
    await storage.remove(path)
    await lock.release()
  }
  for (const path of await pathsIn(storage, directory, '.json')) {
    const found = await openLease(storage, path)
    if (found === 'held') continue
    const { lease, record, entered, running } = found
    if (entered) yield { lease, record, running }
    else await lease.remove()
  }
}

/** One at a time looks for rivals and claims, so that of two that start at once one sees the other. */
async function takeTurn(storage: Storage, clock: Clock, directory: string): Promise<FileLock> {
  for (let attempt = 1; ; attempt++) {
    const lock = await storage.lock(`${directory}/claims.lock`, 'exclusive')
    if (lock !== undefined) return lock
    if (attempt === claimAttemptsMax) {
      throw new HotspareError(
        'window-busy',
        `${directory}/claims.lock is held by another process. Try again.`,
      )
    }
    await clock.sleep(claimRetryMs)
  }
}

async function refuseRivals(storage: Storage, directory: string, record: LeaseRecord): Promise<void> {
  for (const path of await pathsIn(storage, directory, '.json')) {
    const found = await openLease(storage, path)
    const theirs = found === 'held' ? parseLease(await readLease(storage, path)).record : found.record
    if (found !== 'held') await (found.entered ? found.lease.giveUp() : found.lease.remove())
    if (theirs === undefined || (found !== 'held' && !found.entered)) continue
    const same = theirs.source === record.source || leaveKey(theirs.mode) === leaveKey(record.mode)
    if (!same) continue
    if (found !== 'held') {
      throw new HotspareError(
        'leave-failed',
        `A mirror of ${theirs.source} that was killed left maintenance mode on, and it could not be left since. Leave it by hand, then remove ${path}.`,
        { details: { lease: path } },
      )
    }
    throw new HotspareError(
      'window-busy',
      `Another mirror (process ${theirs.pid}: ${theirs.command}) holds the application of ${theirs.source} in maintenance mode. Wait for its end.`,
      { details: { pid: theirs.pid, source: theirs.source } },
    )
  }
}

async function createLease(storage: Storage, directory: string, record: LeaseRecord): Promise<Lease> {
  const path = `${directory}/${randomBytes(8).toString('hex')}.json`
  const line = Buffer.from(`${JSON.stringify({ format: leaseFormat, ...record })}\n`)
  const temporary = `${path}.tmp`
  // locked before it has its name, so that nobody ever finds it without its owner
  const lock = await storage.lock(temporary, 'exclusive')
  if (lock === undefined) throw new HotspareError('window-busy', `${temporary} is held by another process.`)
  try {
    const file = await storage.open(temporary, 'write')
    try {
      await file.write(line, 0)
      await file.sync()
    } finally {
      await file.close()
    }
    await storage.rename(temporary, path)
    await storage.syncDirectory(directory)
    return lockedLease(storage, path, lock, line.length)
  } catch (error) {
    await lock.release()
    throw error
  }
}

function lockedLease(storage: Storage, path: string, lock: FileLock, size: number): Lease {
  let bytes = size
  async function append(line: string, durably: boolean): Promise<void> {
    const data = Buffer.from(line)
    const offset = bytes
    bytes += data.length
    const file = await storage.open(path, 'write')
    try {
      await file.write(data, offset)
      if (durably) await file.sync()
    } finally {
      await file.close()
    }
  }
  return {
    path,
    entering: () => append(enteringLine, true),
    async running(command) {
      try {
        await append(`${JSON.stringify({ running: command })}\n`, false)
      } catch {
        // safe: only who is killed in the middle of entering needs it, and the window must go on to its end
      }
    },
    async remove() {
      await storage.remove(path)
      await storage.syncDirectory(parentDirectory(path))
      await lock.release()
    },
    giveUp: () => lock.release(),
  }
}

interface FoundLease {
  readonly lease: Lease
  /** Undefined: it can't be read. */
  readonly record: LeaseRecord | undefined
  readonly entered: boolean
  readonly running: readonly RunningCommand[]
}

async function openLease(storage: Storage, path: string): Promise<FoundLease | 'held'> {
  const lock = await storage.lock(path, 'exclusive')
  if (lock === undefined) return 'held'
  try {
    // taking the lock makes the file anew when its owner has just removed it: then it is empty
    const text = await readLease(storage, path)
    return { lease: lockedLease(storage, path, lock, text.length), ...parseLease(text) }
  } catch (error) {
    await lock.release()
    throw error
  }
}

async function readLease(storage: Storage, path: string): Promise<Buffer> {
  return (await readSmallFile(storage, path, leaseBytesMax)) ?? Buffer.alloc(0)
}

function parseLease(bytes: Buffer): Omit<FoundLease, 'lease'> {
  const text = bytes.toString('utf8')
  const end = text.indexOf('\n')
  const record = end < 0 ? undefined : parsed(schema, parseJson(text.slice(0, end)))
  const running = text
    .slice(end + 1)
    .split('\n')
    .flatMap(line => parsed(runningSchema, parseJson(line))?.running ?? [])
  // half of the second line is enough: it may have been written before a crash, and then entered
  return { record, entered: end >= 0 && text.length > end + 1, running }
}

async function pathsIn(storage: Storage, directory: string, suffix: string): Promise<string[]> {
  const names = await storage.list(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
    throw error
  })
  return names.filter(name => name.endsWith(suffix)).map(name => `${directory}/${name}`)
}
