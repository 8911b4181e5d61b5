/** What goes between who asks for a clone or a check and the thread that reads the copy (copy-read-thread.ts). */
import type { CheckReport, Notice } from '../driver.ts'
import type { SentError } from './copy-protocol.ts'
import type { CopyCommit } from './copy-status.ts'

export interface ReadThreadData {
  readonly path: string
  readonly sidecar: string
  readonly work:
    | { readonly kind: 'clone'; readonly destination: string }
    | { readonly kind: 'check'; readonly against: string | undefined }
  /** Becomes 1 when the work is to end. */
  readonly abort: SharedArrayBuffer
}

export interface CloneDone {
  readonly kind: 'clone'
  readonly method: 'reflink' | 'copy'
  readonly bytes: number
  readonly commit: CopyCommit
}

export interface CheckDone {
  readonly kind: 'check'
  readonly report: CheckReport
}

export type ReadMessage =
  /** What the copy showed is known: it may be changed from here on. */
  | { readonly kind: 'noted' }
  | { readonly kind: 'progress'; readonly bytes: number; readonly totalBytes: number }
  | { readonly kind: 'notice'; readonly notice: Notice }
  | { readonly kind: 'done'; readonly result: CloneDone | CheckDone }
  | { readonly kind: 'aborted' }
  | { readonly kind: 'failed'; readonly error: SentError }

/** How the work tells what it does, and learns that it is to end. */
export interface ReadWork {
  noted(): void
  /** Throws `Aborted` when it is to end. */
  progress(bytes: number, totalBytes: number): void
  notice(notice: Notice): void
}

export class Aborted extends Error {}
