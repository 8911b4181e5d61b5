/** What goes between a replica and the thread that writes its copy (copy-thread.ts). */

import type { ErrorCode } from '../../os/errors.ts'
import { HotspareError } from '../../os/errors.ts'
import type { Notice } from '../driver.ts'
import type { EntryBatch } from './copy-batch.ts'
import type { Showing } from './copy-engine.ts'
import type { CopyStatus } from './copy-status.ts'

export interface CopyThreadData {
  readonly store: string
  readonly target: string
  readonly sidecar: string
  readonly resync: boolean
  readonly noDelete: boolean
}

export type CopyRequest =
  | { readonly kind: 'batch'; readonly batch: EntryBatch }
  | { readonly kind: 'flush'; readonly showing: Showing }
  | { readonly kind: 'status' }
  /** The next files of an inventory, or from its beginning. */
  | { readonly kind: 'files' | 'others'; readonly anew: boolean; readonly countMax: number }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'close' }

export interface ListedFile {
  readonly path: string
  readonly size: number
  readonly digests: Uint8Array
}

export interface ListedOther {
  readonly path: string
  readonly kind: 'directory' | 'symlink' | 'hardlink' | 'other'
}

export interface CopyAnswer {
  readonly status?: CopyStatus
  readonly isTorn?: boolean
  readonly files?: readonly ListedFile[]
  readonly others?: readonly ListedOther[]
}

export type CopyMessage =
  | { readonly id: number; readonly answer: CopyAnswer }
  | { readonly id: number; readonly error: SentError }
  | { readonly notice: Notice }

/** An error as it goes between threads, which would lose its kind and code. */
export interface SentError {
  readonly message: string
  readonly code: string | undefined
  readonly isHotspare: boolean
  readonly details: Record<string, unknown>
  readonly stack: string | undefined
  /** What the system said of which call. */
  readonly cause: string | undefined
}

export function sendError(error: unknown): SentError {
  const { message, stack, code } = error as NodeJS.ErrnoException
  const isHotspare = error instanceof HotspareError
  const cause = isHotspare && error.cause instanceof Error ? error.cause.message : undefined
  const details = isHotspare ? { ...error.details } : {}
  return { message: message ?? String(error), code, isHotspare, details, stack, cause }
}

export function receiveError({ message, code, isHotspare, details, stack, cause }: SentError): Error {
  if (isHotspare) {
    const told = cause === undefined ? {} : { cause: new Error(cause) }
    return new HotspareError(code as ErrorCode, message, { details, ...told })
  }
  const error = Object.assign(new Error(message), code === undefined ? {} : { code })
  if (stack !== undefined) error.stack = stack
  return error
}
