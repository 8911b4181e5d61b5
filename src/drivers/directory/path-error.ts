import type { ScanFailure } from './scan-protocol.ts'

/** A system error and the path (latin1, within the tree) at which it was met. */
export class PathError extends Error {
  override readonly name = 'PathError'
  readonly code: string | undefined
  readonly path: string

  constructor(cause: unknown, path: string) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.code = cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined
    this.path = path
  }
}

/** As it goes between threads. */
export function asFailure(error: unknown): ScanFailure {
  if (error instanceof PathError) return { message: error.message, code: error.code, path: error.path }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return { message, code, path: undefined }
}
