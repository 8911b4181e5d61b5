/** The library: what the command line does, as functions. */

export type { ArchiveFormat } from './archive/compression.ts'
export type { ArchiveFinding } from './archive/verify-archive.ts'
export {
  type ArchiveMember,
  type ArchiveReading,
  type ArchiveRequest,
  type ArchiveResult,
  archive,
  listArchive,
  type VerifyArchiveRequest,
  type VerifyArchiveResult,
  verifyArchive,
} from './daemon/archive.ts'
export { type CheckRequest, type CheckResult, check } from './daemon/check.ts'
export { type CloneRequest, type CloneResult, clone } from './daemon/clone.ts'
export { type DriverInfo, type DriversReport, drivers } from './daemon/drivers.ts'
export type {
  BehindEvent,
  CaughtUpEvent,
  FollowEvent,
  LiveEvent,
  ProgressEvent,
  RetryingEvent,
  StartedEvent,
  StoppedEvent,
} from './daemon/events.ts'
export { type FollowOptions, type FollowReport, follow } from './daemon/follow.ts'
export type { LeaseEvent } from './daemon/lease-recovery.ts'
export { type MirrorOptions, type MirrorReport, mirror } from './daemon/mirror.ts'
export type {
  ArchivedEvent,
  DurableEvent,
  HeldEvent,
  MirrorEvent,
  MirrorProgressEvent,
  MirrorStartedEvent,
  OutputEvent,
  PassEvent,
} from './daemon/mirror-events.ts'
export type { MirrorMode } from './daemon/mirror-mode.ts'
export type { PassReport } from './daemon/pass-request.ts'
export { type StatusReport, type StatusRequest, status } from './daemon/status.ts'
export type { WindowEvent } from './daemon/window.ts'
export type { CheckReport, CloneReport, ConsistentCommit, Detection, Notice } from './drivers/driver.ts'
export { type ErrorCode, errorCodes, HotspareError } from './os/errors.ts'
export type { Position, StateDigest } from './stream/entry.ts'
