/**
 * Opens a copy: completes or drops what a crash left, and refuses what is not ours.
 *
 *     <sidecar>/state.log   what the copy consists of, what is pending, up to which commit (copy-log.ts)
 *     <sidecar>/stage/N     content that has no name in the copy yet
 *     <sidecar>/first       the first copy, until the end of its first pass, when it takes the target's name
 *     <sidecar>/kept/I      files that were replaced while somebody reads the copy (copy-kept.ts)
 *
 * | a crash                                 | leaves                               | and here                    |
 * | while a first copy is made              | names and bytes beyond the record    | removed, cut off            |
 * | while changes are staged                | staged files that nothing speaks of  | removed                     |
 * | while pending changes are carried out   | a torn copy, and a record that says so | carried out again         |
 * | before the first copy takes its name    | `first`, called whole                | renamed                     |
 * | after it took its name                  | a record that still calls it `first` | nothing is left to be done  |
 *
 * Worst outcome: what was sent after the last sync is sent again.
 */
import { HotspareError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { cName, EEXIST, ENOENT, openFlag, systemError } from '../../os/tree-calls.ts'
import type { CopyCalls } from './copy-calls.ts'
import { CopyFiles } from './copy-files.ts'
import { CopyLog, loadLog } from './copy-log.ts'
import { listNames } from './copy-names.ts'
import { DirectoryNode } from './copy-node.ts'
import { joinPath, nameOf } from './copy-paths.ts'
import { removeTree } from './copy-removing.ts'
import { CopyStage } from './copy-stage.ts'
import { CopyState } from './copy-state.ts'
import { takeOver } from './copy-takeover.ts'

const firstName = cName('first')
const stageDirectory = cName('stage')
const directoryFlags = openFlag.read | openFlag.directory

export interface OpenCopyOptions {
  readonly calls: CopyCalls
  /** Absolute. */
  readonly target: string
  readonly sidecar: string
  readonly resync: boolean
}

export interface OpenedCopy {
  readonly state: CopyState
  readonly log: CopyLog
  readonly files: CopyFiles
  readonly stage: CopyStage
  readonly sidecar: number
}

/** Throws `target-foreign`, `target-changed`, `state-damaged`, and what the system says. */
export function openCopyFiles(options: OpenCopyOptions): OpenedCopy {
  const { calls, target, resync } = options
  const sidecar = calls.openRoot(options.sidecar)
  try {
    const stageFd = makePrivateDirectory(calls, sidecar, stageDirectory)
    try {
      if (resync) {
        const opened = resyncCopy(options, sidecar, stageFd)
        if (opened !== undefined) return opened
      } else {
        const loaded = loadLog(calls, sidecar)
        if (loaded !== undefined) {
          const state = CopyState.load(loaded)
          return openKnown(
            options,
            sidecar,
            stageFd,
            state,
            CopyLog.open(calls, sidecar, loaded),
            loaded.closed,
          )
        }
        if (!isVacant(calls, target)) throw foreign(target)
      }
      return beginFirst(options, sidecar, stageFd)
    } catch (error) {
      calls.closeFd(stageFd)
      throw error
    }
  } catch (error) {
    calls.closeFd(sidecar)
    throw error
  }
}

/** A directory whose new files get nothing from the directories above: no group, no ACL. */
function makePrivateDirectory(calls: CopyCalls, parent: number, name: Buffer): number {
  const made = calls.tryMakeDirectoryAt(parent, name, 0o700)
  if (made < 0 && made !== -(EEXIST as number)) throw systemError('mkdirat', -made, name.toString())
  const fd = calls.openAt(parent, name, directoryFlags)
  if (made === 0) {
    calls.tryRemoveXattr(fd, 'system.posix_acl_default')
    calls.tryRemoveXattr(fd, 'system.posix_acl_access')
    calls.tryChangeOwner(fd, process.geteuid?.() ?? 0, process.getegid?.() ?? 0)
    calls.tryChangeMode(fd, 0o700)
  }
  return fd
}

function beginFirst({ calls }: OpenCopyOptions, sidecar: number, stageFd: number): OpenedCopy {
  removeTree(new CopyFiles(calls, sidecar), 'first')
  const root = makePrivateDirectory(calls, sidecar, firstName)
  const files = new CopyFiles(calls, root)
  const stage = new CopyStage(calls, stageFd, 0)
  stage.removeAllBut(new Set())
  const state = new CopyState()
  state.record.root = newRoot()
  calls.syncFileSystem(sidecar)
  const log = CopyLog.create(calls, sidecar, state.writeAll())
  return { state, log, files, stage, sidecar }
}

function newRoot(): DirectoryNode {
  const root = new DirectoryNode()
  root.uid = process.geteuid?.() ?? 0
  root.gid = process.getegid?.() ?? 0
  return root
}

function openKnown(
  options: OpenCopyOptions,
  sidecar: number,
  stageFd: number,
  state: CopyState,
  log: CopyLog,
  closed: boolean,
): OpenedCopy {
  const { calls, target } = options
  try {
    if (state.status.phase === 'publishing') finishPublishing(calls, sidecar, target, state)
    const root =
      state.status.phase === 'first'
        ? calls.tryOpenAt(sidecar, firstName, directoryFlags)
        : openTarget(calls, target)
    if (root < 0) throw missingFirst()
    const files = new CopyFiles(calls, root)
    const wanted = state.pending.stages
    const stage = new CopyStage(calls, stageFd, Math.max(0, ...wanted))
    stage.removeAllBut(wanted)
    if (!closed || state.status.applying) {
      cutStaged(calls, state, stage)
      if (state.status.phase === 'first' && !state.status.applying) tidyFirst(files, state)
    }
    return { state, log, files, stage, sidecar }
  } catch (error) {
    log.close(undefined)
    throw error
  }
}

function openTarget(calls: CopyCalls, target: string): number {
  try {
    return calls.openRoot(target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).errno !== ENOENT) throw error
    throw new HotspareError(
      'target-changed',
      `The copy '${target}' is gone, though its sidecar is there. Put it back, or use --resync to make it anew.`,
      { details: { path: target } },
    )
  }
}

/** What was appended to staged files after the last commit. */
function cutStaged(calls: CopyCalls, state: CopyState, stage: CopyStage): void {
  const stat = new StatBuffer()
  for (const file of state.pending.files) {
    if (file.stage === 0 || !stage.stat(file.stage, stat) || stat.size <= file.baseSize) continue
    const fd = stage.open(file.stage, openFlag.readWrite)
    try {
      calls.truncateFd(fd, file.baseSize)
    } finally {
      calls.closeFd(fd)
    }
  }
}

/** Removes names that the record does not know, and cuts off what was appended, after the last commit. */
function tidyFirst(files: CopyFiles, state: CopyState): void {
  const stat = new StatBuffer()
  for (const directory of state.record.directories) {
    const children = state.record.children(directory)
    if (children === undefined) continue
    const names = new Set(files.list(directory))
    for (const name of names) if (!children.has(name)) removeTree(files, joinPath(directory, name))
    for (const [name, node] of children) {
      if (!names.has(name)) throw missingFirst()
      if (node.kind !== 'file') continue
      const path = joinPath(directory, name)
      if (!files.exists(path, stat) || stat.size <= node.size) continue
      const fd = files.openForWriting(path)
      try {
        files.calls.truncateFd(fd, node.size)
      } finally {
        files.calls.closeFd(fd)
      }
    }
  }
}

/** The first copy, which is whole and durable, takes the target's name. */
export function publishFirst(calls: CopyCalls, sidecar: number, target: string): void {
  const parent = calls.openRoot(parentPath(target))
  try {
    const name = Buffer.from(`${target.slice(target.lastIndexOf('/') + 1)}\0`, 'utf8')
    // an empty directory gives way
    const result = calls.tryRenameAt(sidecar, firstName, parent, name)
    if (result < 0) throw notPublished(target, systemError('renameat2', -result, target))
    calls.syncFd(parent)
    calls.syncFd(sidecar)
  } finally {
    calls.closeFd(parent)
  }
}

function notPublished(target: string, cause: NodeJS.ErrnoException): unknown {
  if (cause.code === 'ENOTEMPTY' || cause.code === 'EEXIST' || cause.code === 'ENOTDIR')
    return foreign(target)
  if (cause.code !== 'EXDEV' && cause.code !== 'EBUSY') return cause
  return new HotspareError(
    'target-mount',
    `The finished copy cannot be renamed to '${target}', which is a mount point or on another file system than its sidecar. Choose a target below it.`,
    { cause, details: { path: target } },
  )
}

function finishPublishing(calls: CopyCalls, sidecar: number, target: string, state: CopyState): void {
  const stat = new StatBuffer()
  const result = calls.tryStatAt(sidecar, firstName, stat)
  if (result === 0) publishFirst(calls, sidecar, target)
  else if (result !== -(ENOENT as number)) throw systemError('statx', -result, 'first')
  state.status.phase = 'live'
}

function parentPath(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

/** Takes what is there as it is; undefined when there is nothing. */
function resyncCopy(options: OpenCopyOptions, sidecar: number, stageFd: number): OpenedCopy | undefined {
  const { calls, target } = options
  const stat = new StatBuffer()
  const phase = isVacant(calls, target) ? 'first' : 'live'
  let root: number
  if (phase === 'live') root = calls.openRoot(target)
  else {
    if (calls.tryStatAt(sidecar, firstName, stat) !== 0) return undefined
    root = calls.openAt(sidecar, firstName, directoryFlags)
  }
  const files = new CopyFiles(calls, root)
  const state = new CopyState()
  state.status.phase = phase
  takeOver(files, state.record)
  // new numbers are above those of before, of which a reader may know
  const stage = new CopyStage(calls, stageFd, 0)
  const log = CopyLog.create(calls, sidecar, state.writeAll())
  stage.removeAllBut(new Set())
  return { state, log, files, stage, sidecar }
}

function isVacant(calls: CopyCalls, target: string): boolean {
  const parent = calls.openRoot(parentPath(target))
  try {
    const name = Buffer.from(`${nameOf(target)}\0`, 'utf8')
    const stat = new StatBuffer()
    const result = calls.tryStatAt(parent, name, stat)
    if (result === -(ENOENT as number)) return true
    if (result < 0) throw systemError('statx', -result, target)
    if (stat.kind !== fileKind.directory) return false
    const fd = calls.openAt(parent, name, directoryFlags)
    try {
      return listNames(calls, fd).length === 0
    } finally {
      calls.closeFd(fd)
    }
  } finally {
    calls.closeFd(parent)
  }
}

function foreign(target: string): HotspareError {
  return new HotspareError(
    'target-foreign',
    `'${target}' exists and is not a copy that was made by hotspare. Give another name, or use --resync to compare it with the source and send the difference.`,
    { details: { path: target } },
  )
}

function missingFirst(): HotspareError {
  return new HotspareError(
    'state-damaged',
    `The unfinished first copy in the sidecar is not what its record says: somebody else changed it. Use --resync.`,
  )
}
