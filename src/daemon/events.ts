import type { Notice } from '../drivers/driver.ts'
import type { ErrorCode } from '../os/errors.ts'

/** What a follower tells while it runs, in order. `timeMs` of each is milliseconds since 1970. */
export type FollowEvent = { readonly timeMs: number } & (
  | StartedEvent
  | ProgressEvent
  | LiveEvent
  | BehindEvent
  | CaughtUpEvent
  | RetryingEvent
  | ({ readonly event: 'notice' } & Notice)
  | StoppedEvent
)

/** Source and copy are found and open. Once. */
export interface StartedEvent {
  readonly event: 'started'
  readonly source: string
  readonly target: string
  readonly driver: string
  readonly profile?: string
  /** Goes on with a copy that was begun before. */
  readonly resumed: boolean
}

/** At most twice a second, and only when something moved. Figures since this follower started. */
export interface ProgressEvent {
  readonly event: 'progress'
  readonly bytes: number
  readonly transactions: number
  readonly lagMs: number
  /** What the source has beyond what was taken, where its driver can tell. */
  readonly backlogBytes?: number
  /** The copy has been complete since this follower started. */
  readonly live: boolean
}

/** The copy is complete for the first time since this follower started, and durable. Once. */
export interface LiveEvent {
  readonly event: 'live'
  readonly bytes: number
  readonly transactions: number
  /** Since the follower started. */
  readonly elapsedMs: number
  /** It is consistent only as of maintenance windows, and need not be now. */
  readonly windowed?: boolean
}

/** After `live`: the copy is further behind than the threshold. Once until `caught-up`. */
export interface BehindEvent {
  readonly event: 'behind'
  readonly lagMs: number
  readonly backlogBytes?: number
}

/** After `behind`, or after `retrying` on a live copy. */
export interface CaughtUpEvent {
  readonly event: 'caught-up'
  readonly lagMs: number
}

/** A fault that may pass by itself; the next attempt comes after `delayMs`. */
export interface RetryingEvent {
  readonly event: 'retrying'
  readonly code: ErrorCode
  readonly message: string
  /** Counts from 1 since something last moved. */
  readonly attempt: number
  readonly delayMs: number
}

export interface StoppedEvent {
  readonly event: 'stopped'
  readonly reason: 'aborted' | 'caught-up'
  /** The copy opens as a valid store. */
  readonly consistent: boolean
  /** The copy has had all of a store that is consistent only inside maintenance windows. */
  readonly complete?: boolean
  readonly bytes: number
  readonly transactions: number
}

/** Without the time, which the follower adds. */
export type FollowEventBody = FollowEvent extends infer Event
  ? Event extends { readonly timeMs: number }
    ? Omit<Event, 'timeMs'>
    : never
  : never
