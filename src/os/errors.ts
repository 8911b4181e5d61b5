/**
 * Every fault that a user can meet, by a code that stays while messages may change.
 * The table is the single list: docs/errors.md shows it, the command line takes its exit status from it.
 */
export const errorCodes = {
  // what was asked for
  usage: { exit: 2, meaning: 'the command line or an option is wrong' },
  'source-missing': { exit: 3, meaning: 'the source does not exist (yet)' },
  'source-unknown': { exit: 3, meaning: 'no driver recognises the source' },
  'source-invalid': {
    exit: 3,
    meaning: 'the source is not what its driver expects (truncated, encrypted, damaged)',
  },
  'source-mode': { exit: 3, meaning: 'the source is in a mode that its driver cannot follow' },
  'source-busy': { exit: 4, meaning: 'the source is locked by its application' },
  'source-changed': { exit: 5, meaning: 'bytes that were already copied have changed at the source' },
  gap: { exit: 6, meaning: 'the source removed data before it could be read' },
  diverged: { exit: 5, meaning: 'the target is not a prefix of the source' },
  // the target
  'target-missing': { exit: 3, meaning: 'there is no copy at the target, or no directory to put one in' },
  'target-inside-source': { exit: 2, meaning: 'the target lies inside its source, or is the source' },
  'target-foreign': { exit: 5, meaning: 'the target exists and was not made by hotspare' },
  'target-other-source': { exit: 5, meaning: 'the target is a copy of another source' },
  'target-changed': { exit: 5, meaning: 'the copy was changed by somebody else' },
  'target-busy': { exit: 4, meaning: 'the target is in use by another follower or application' },
  'target-mount': {
    exit: 2,
    meaning: 'the target cannot be renamed into place (a mount point or another file system)',
  },
  'target-incomplete': { exit: 7, meaning: 'the copy is not consistent yet' },
  'target-invalid': { exit: 7, meaning: 'the copy did not pass its check' },
  'state-damaged': { exit: 7, meaning: "the copy's state is damaged" },
  'state-version': { exit: 7, meaning: "the copy's state was written by another version" },
  // the maintenance window of a mirror
  'enter-failed': { exit: 12, meaning: 'maintenance mode could not be entered; it was left again' },
  'mode-off': { exit: 13, meaning: 'maintenance mode is off where it must be on; nothing was taken' },
  'mode-unknown': { exit: 13, meaning: 'it cannot be told whether maintenance mode is on' },
  'leave-failed': { exit: 14, meaning: 'MAINTENANCE MODE MAY STILL BE ON: it could not be left' },
  'hold-exceeded': { exit: 15, meaning: 'maintenance mode was on for as long as is allowed, and was left' },
  'never-still': { exit: 16, meaning: 'the source was written to all through the maintenance window' },
  'inside-failed': { exit: 17, meaning: 'the command for inside the window failed; the copy is as it was' },
  'window-busy': { exit: 4, meaning: 'another mirror holds the same application in maintenance mode' },
  // the machine
  'permission-denied': { exit: 8, meaning: 'no permission' },
  'disk-full': { exit: 9, meaning: 'no space or quota left' },
  'io-error': { exit: 9, meaning: 'reading or writing failed' },
  'tool-missing': { exit: 10, meaning: 'a program or library that is needed is not there' },
  'node-too-old': { exit: 10, meaning: 'the Node.js that runs this is too old' },
  unsupported: { exit: 10, meaning: 'this system or sink cannot do what was asked' },
  // what was received
  'entry-invalid': { exit: 11, meaning: 'an entry is malformed or out of order' },
  'digest-mismatch': { exit: 11, meaning: 'what was received does not give the digest that it should' },
  // servers of a set
  'config-invalid': { exit: 2, meaning: "the set's configuration is missing or wrong" },
  'server-stopped': { exit: 3, meaning: 'no server runs for this configuration' },
  'server-busy': { exit: 4, meaning: 'a server runs already, where none may or only one can' },
  'hook-failed': { exit: 18, meaning: 'a command of the configuration failed (on-promote, on-demote)' },
  'peer-unknown': { exit: 2, meaning: 'no peer of this name' },
  'peer-away': { exit: 19, meaning: 'the peer is not connected' },
  'epoch-old': { exit: 5, meaning: 'the server stands at an older epoch: there is a newer primary' },
  fenced: { exit: 5, meaning: 'this primary was replaced by a newer one: it has to rejoin' },
  loop: { exit: 2, meaning: 'the upstream takes its log from this server' },
  'not-handed-over': { exit: 19, meaning: 'the primary did not give way; it goes on as before' },
  'timed-out': { exit: 20, meaning: 'what was waited for did not happen in time' },
  'link-refused': { exit: 21, meaning: 'two servers do not accept each other (version, set, secret, name)' },
  'link-broken': { exit: 19, meaning: 'the connection to a peer ended, or fell silent' },
  // the log
  'log-busy': { exit: 4, meaning: 'another process has the log' },
  'log-gap': { exit: 6, meaning: 'a transaction does not follow the last one of the log' },
  'log-removed': { exit: 6, meaning: 'the log does not keep these transactions any more' },
  'log-damaged': { exit: 7, meaning: 'the log is damaged; what is damaged is kept aside' },
  'log-closed': { exit: 9, meaning: 'the log was closed, or takes no work since a sync failed' },
  // archives
  'archive-damaged': { exit: 7, meaning: 'the archive is damaged, or is not what was written' },
} as const

export type ErrorCode = keyof typeof errorCodes

/** An operating fault: what, where, expected, found, and what to do, in one or two sentences. */
export class HotspareError extends Error {
  override readonly name = 'HotspareError'
  readonly code: ErrorCode
  /** Machine-readable particulars (path, offset, expected, found ...). */
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
  }
}

/** Faults that may pass by themselves, so that a follower retries them. */
export function isTransient(error: unknown): boolean {
  return (
    error instanceof HotspareError &&
    (error.code === 'disk-full' ||
      error.code === 'io-error' ||
      error.code === 'source-busy' ||
      error.code === 'target-busy' ||
      error.code === 'source-missing')
  )
}

const systemCodes: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'disk-full',
  EDQUOT: 'disk-full',
  EFBIG: 'disk-full',
  EACCES: 'permission-denied',
  EPERM: 'permission-denied',
  EROFS: 'permission-denied',
  EIO: 'io-error',
}

/** Gives a system error its code and says what was being done; other errors pass unchanged. */
export function describeSystemError(error: unknown, doing: string): unknown {
  if (error instanceof HotspareError || !(error instanceof Error)) return error
  const system = (error as NodeJS.ErrnoException).code
  if (system === undefined || !/^E[A-Z0-9]+$/.test(system)) return error
  const code = systemCodes[system] ?? 'io-error'
  const advice: Partial<Record<ErrorCode, string>> = {
    'disk-full': ' Free some space.',
    'permission-denied': ' Run as the user who owns it, or change its mode.',
  }
  return new HotspareError(code, `${doing}: ${system}.${advice[code] ?? ''}`, {
    cause: error,
    details: { system },
  })
}

export function isSystemError(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '')
}

/** A bug, not a fault: stays on in production. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`)
}

export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`)
}
