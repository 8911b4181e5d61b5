/** What SQLite says, in hotspare's words. */

import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { type ErrorCode, HotspareError } from '../../os/errors.ts'
import type { Notice } from '../driver.ts'

/** Primary result codes (https://sqlite.org/rescode.html). */
export const resultCode = {
  busy: 5,
  locked: 6,
  readonly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  protocol: 15,
  notADatabase: 26,
} as const

/** The primary result code of an error that node:sqlite threw; undefined for other errors. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || (error as NodeJS.ErrnoException).code !== 'ERR_SQLITE_ERROR')
    return undefined
  return (error as Error & { errcode: number }).errcode & 0xff
}

export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error)
  return code === resultCode.busy || code === resultCode.locked || code === resultCode.protocol
}

/** Opens an existing database; never makes one. */
export function openDatabase(
  path: string,
  options: { readOnly?: boolean; busyMs?: number } = {},
): DatabaseSync {
  const url = pathToFileURL(path)
  url.search = options.readOnly === true ? 'mode=ro' : 'mode=rw'
  // not defensive: a damaged or unusual schema must not keep us from reading pages and moving the log
  return new DatabaseSync(url, {
    timeout: options.busyMs ?? 5000,
    readOnly: options.readOnly === true,
    defensive: false,
  })
}

const messages: Readonly<Record<number, { code: ErrorCode; text: string }>> = {
  [resultCode.busy]: {
    code: 'source-busy',
    text: 'the database is locked (an application holds it in exclusive mode?)',
  },
  [resultCode.locked]: { code: 'source-busy', text: 'the database is locked' },
  [resultCode.protocol]: { code: 'source-busy', text: 'the database is locked' },
  [resultCode.readonly]: {
    code: 'permission-denied',
    text: 'the database, its -wal or -shm file may not be written by this user; run as the user who owns them',
  },
  [resultCode.cannotOpen]: {
    code: 'permission-denied',
    text: 'the database or its -wal or -shm file cannot be opened',
  },
  [resultCode.ioError]: { code: 'io-error', text: 'SQLite could not read or write a file' },
  [resultCode.full]: { code: 'disk-full', text: 'the disk is full' },
  [resultCode.corrupt]: { code: 'source-invalid', text: 'the database is damaged (SQLITE_CORRUPT)' },
  [resultCode.notADatabase]: { code: 'source-invalid', text: 'this is not a database, or it is encrypted' },
}

/** Gives an error of the engine on the live database its code; other errors pass unchanged. */
export function describeSourceError(error: unknown, path: string): unknown {
  const code = sqliteCode(error)
  if (code === undefined) return error
  const known = messages[code] ?? { code: 'io-error' as const, text: (error as Error).message }
  return new HotspareError(known.code, `${path}: ${known.text}.`, {
    cause: error,
    details: { path, sqlite: code },
  })
}

/** SQLITE_VERSION_NUMBER of the first engine without the fault that `engineNotice` names. */
const engineVersionSound = 3_051_003

/** Engines before 3.51.3 can damage a database when two of their connections reset its log at once (sqlite.org/wal.html). */
export function engineNotice(path: string, version: number): Notice | undefined {
  if (version === 0 || version >= engineVersionSound) return undefined
  const text = [version / 1_000_000, (version / 1000) % 1000, version % 1000].map(Math.floor).join('.')
  return {
    code: 'engine-old',
    message:
      `${path} was last written by SQLite ${text}. Before 3.51.3, SQLite in WAL mode can damage a database when two ` +
      "connections reset its log at the same moment: update the application's SQLite.",
    details: { version: text },
  }
}
