/**
 * Sets metadata in the order in which it stays: the owner first, because changing it clears setuid bits; then extended
 * attributes, because an ACL changes the mode; the mode; and the time of modification.
 *
 * Who is not root cannot give files away, and may set only some extended attributes; not every file system has all of
 * them. That is told once and is no error, since the content matters more; the record keeps what was asked for.
 */
import { cName, EINVAL, EOPNOTSUPP, EPERM, ERANGE } from '../../os/tree-calls.ts'
import { type XattrPlace, xattrPlace } from '../../os/xattr-calls.ts'
import { type AttributesChange, displayPath } from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'
import { asBuffer } from './copy-content.ts'
import type { CopyFiles } from './copy-files.ts'
import { type AttributedNode, type Metadata, toXattrs, type Xattrs } from './copy-node.ts'
import { nameOf, parentOf } from './copy-paths.ts'

/** What is there before. */
export interface OwnerAndMode {
  readonly uid: number
  readonly gid: number
  readonly mode: number
}

const aclPrefix = 'system.posix_acl_'

export class AttributeSetter {
  readonly #onNotice: (notice: Notice) => void
  readonly #told = new Set<string>()

  constructor(onNotice: (notice: Notice) => void) {
    this.#onNotice = onNotice
  }

  /** Of an open file or directory; `stat` says what it has, and is not brought up to date. */
  setOpen(
    files: CopyFiles,
    fd: number,
    path: string,
    node: Metadata,
    stat: OwnerAndMode,
    xattrs: boolean,
  ): void {
    const { calls } = files
    const changesOwner = stat.uid !== node.uid || stat.gid !== node.gid
    if (changesOwner) this.#owner(files, path, node, calls.tryChangeOwner(fd, node.uid, node.gid))
    const changesAcl =
      xattrs && this.#xattrs(files, fd, path, node.xattrs, stat, mode => calls.tryChangeMode(fd, mode))
    const strippable = changesOwner && (node.mode & 0o6000) !== 0
    if (stat.mode !== node.mode || changesAcl || strippable) {
      const result = calls.tryChangeMode(fd, node.mode)
      if (result < 0) files.fail('fchmod', result, path)
    }
    if (node.timed) {
      const { low, high } = halves(node.mtimeSeconds)
      const result = calls.trySetTime(fd, low, high, node.mtimeNanoseconds)
      if (result < 0) files.fail('utimensat', result, path)
    }
  }

  /** Of what has a name; nothing is followed. */
  setNamed(files: CopyFiles, path: string, node: AttributedNode, stat: OwnerAndMode, xattrs: boolean): void {
    const { calls } = files
    const name = cName(nameOf(path))
    const directory = files.directory(parentOf(path))
    const changesOwner = stat.uid !== node.uid || stat.gid !== node.gid
    if (changesOwner)
      this.#owner(files, path, node, calls.tryChangeOwnerAt(directory, name, node.uid, node.gid))
    const changesAcl =
      xattrs &&
      this.#xattrs(files, xattrPlace(directory, name), path, node.xattrs, stat, mode =>
        node.kind === 'symlink' ? 0 : calls.tryChangeModeAt(directory, name, mode),
      )
    const strippable = changesOwner && (node.mode & 0o6000) !== 0
    if (node.kind !== 'symlink' && (stat.mode !== node.mode || changesAcl || strippable))
      files.must('fchmodat', path, (at, last) => calls.tryChangeModeAt(at, last, node.mode))
    if (node.timed) {
      const { low, high } = halves(node.mtimeSeconds)
      files.must('utimensat', path, (at, last) =>
        calls.trySetTimeAt(at, last, low, high, node.mtimeNanoseconds),
      )
    }
  }

  #owner(files: CopyFiles, path: string, node: Metadata, result: number): void {
    if (result === 0) return
    if (result !== -(EPERM as number) && result !== -(EINVAL as number)) files.fail('fchown', result, path)
    this.#tell(
      'owner-not-kept',
      `'${displayPath(path)}' belongs to ${node.uid}:${node.gid} at the source, and cannot be given away here: run as root to keep owners. This is said once.`,
      path,
    )
  }

  /** True when the mode has to be set again. */
  #xattrs(
    files: CopyFiles,
    place: XattrPlace,
    path: string,
    wanted: Xattrs,
    stat: OwnerAndMode,
    changeMode: (mode: number) => number,
  ): boolean {
    const { calls } = files
    let changesAcl = false
    if (files.loosens && (stat.mode & 0o600) !== 0o600) {
      // also its owner needs permission for them
      const result = changeMode(stat.mode | 0o600)
      if (result < 0) files.fail('fchmod', result, path)
      changesAcl = true
    }
    const present = calls.readXattrs(place) ?? {}
    for (const name of Object.keys(present)) {
      if (wanted.has(name) || name === 'security.selinux') continue
      this.#xattr(files, path, name, calls.tryRemoveXattr(place, name))
      if (name.startsWith(aclPrefix)) changesAcl = true
    }
    for (const [name, value] of wanted) {
      const before = present[name]
      if (before !== undefined && Buffer.compare(before, value) === 0) continue
      this.#xattr(files, path, name, calls.trySetXattr(place, name, value))
      if (name.startsWith(aclPrefix)) changesAcl = true
    }
    return changesAcl
  }

  #xattr(files: CopyFiles, path: string, name: string, result: number): void {
    if (result === 0) return
    const refused = [EPERM, EOPNOTSUPP, EINVAL, ERANGE].some(number => result === -(number as number))
    if (!refused) files.fail('setxattr', result, path)
    this.#tell(
      'xattr-not-kept',
      `The extended attribute '${displayPath(name)}' of '${displayPath(path)}' cannot be set here. This is said once.`,
      path,
    )
  }

  #tell(code: string, message: string, path: string): void {
    if (this.#told.has(code)) return
    this.#told.add(code)
    this.#onNotice({ code, message, details: { path: displayPath(path) } })
  }
}

function halves(seconds: number): { low: number; high: number } {
  const high = Math.floor(seconds / 2 ** 32)
  return { low: seconds - high * 2 ** 32, high }
}

/** What a change says of the metadata. */
export function takeAttributes(node: Metadata, change: AttributesChange): void {
  if (change.mode !== undefined) node.mode = change.mode & 0o7777
  if (change.uid !== undefined) node.uid = change.uid
  if (change.gid !== undefined) node.gid = change.gid
  if (change.mtimeNs !== undefined) {
    const billion = 1_000_000_000n
    const nanoseconds = ((change.mtimeNs % billion) + billion) % billion
    node.mtimeSeconds = Number((change.mtimeNs - nanoseconds) / billion)
    node.mtimeNanoseconds = Number(nanoseconds)
    node.timed = true
  }
  // what is kept outlives the batch whose memory this may be
  if (change.xattrs !== undefined) {
    const copied = Object.entries(change.xattrs).map(([name, value]) => [name, Buffer.from(asBuffer(value))])
    node.xattrs = toXattrs(Object.fromEntries(copied))
  }
}
