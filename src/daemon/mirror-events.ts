import type { Notice } from '../drivers/driver.ts'
import type { ErrorCode } from '../os/errors.ts'
import type { LeaseEvent } from './lease-recovery.ts'
import type { HeldPassReport, PassReport } from './pass-request.ts'
import type { WindowEvent } from './window.ts'

/** What a mirror tells while it runs, in order. `timeMs` is milliseconds since 1970. */
export type MirrorEvent = { readonly timeMs: number } & MirrorEventBody

/** Without the time, which the mirror adds. */
export type MirrorEventBody =
  | MirrorStartedEvent
  | PassEvent
  | MirrorProgressEvent
  | WindowEvent
  | HeldEvent
  | DurableEvent
  | ArchivedEvent
  | OutputEvent
  | LeaseEvent
  | ({ readonly event: 'notice' } & Notice)
  | { readonly event: 'retrying'; readonly code: ErrorCode; readonly message: string }

export interface MirrorStartedEvent {
  readonly event: 'started'
  readonly source: string
  readonly target: string
  /** A follower runs, and makes the passes. */
  readonly followed: boolean
}

/** A pass before the window is durable. */
export interface PassEvent extends PassReport {
  readonly event: 'pass'
  readonly tookMs: number
}

/** Of a pass that this process makes; at most twice a second. */
export interface MirrorProgressEvent {
  readonly event: 'progress'
  readonly bytes: number
  readonly backlogBytes?: number
}

/** Everything inside the window was read; writers go on next. */
export interface HeldEvent extends HeldPassReport {
  readonly event: 'held'
}

/** What was read inside the window is durable. */
export interface DurableEvent {
  readonly event: 'durable'
}

export interface ArchivedEvent {
  readonly event: 'archived'
  readonly file: string
  readonly bytes: number
  readonly tookMs: number
}

/** What a command of the application's printed. */
export interface OutputEvent {
  readonly event: 'output'
  readonly step: string
  readonly output: string
}
