/**
 * The system calls that a copy is written with: passed in, so that a test can make each of them fail, or be the last
 * one before a crash.
 */
import * as treeCalls from '../../os/tree-calls.ts'
import * as xattrCalls from '../../os/xattr-calls.ts'

export type CopyCalls = Pick<
  typeof treeCalls & typeof xattrCalls,
  | 'openAt'
  | 'openRoot'
  | 'tryOpenAt'
  | 'tryOpenBeneath'
  | 'closeFd'
  | 'tryStatAt'
  | 'statFd'
  | 'tryReadLinkAt'
  | 'readAt'
  | 'writeAt'
  | 'truncateFd'
  | 'nextData'
  | 'nextHole'
  | 'tryMakeDirectoryAt'
  | 'trySymlinkAt'
  | 'tryLinkAt'
  | 'tryRenameAt'
  | 'tryUnlinkAt'
  | 'tryRemoveDirectoryAt'
  | 'tryChangeMode'
  | 'tryChangeModeAt'
  | 'tryChangeOwner'
  | 'tryChangeOwnerAt'
  | 'trySetTime'
  | 'trySetTimeAt'
  | 'readXattrs'
  | 'trySetXattr'
  | 'tryRemoveXattr'
  | 'syncFd'
  | 'syncContent'
  | 'syncFileSystem'
>

export const systemCalls: CopyCalls = { ...treeCalls, ...xattrCalls }
