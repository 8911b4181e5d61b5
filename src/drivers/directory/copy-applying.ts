/**
 * Carries out in the copy what is pending. Each step says what is to be, looks at what is, and does what is missing; so
 * after a crash all of it is done again from the beginning, and comes out the same.
 *
 * A staged file is known by its inode, wherever it has got to; a directory that comes again in place of one that was
 * removed keeps its own inode, so that nothing which was placed in it before a crash is removed after it. Metadata of
 * directories comes last, deepest first, since all else changes their times.
 */
import { HotspareError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { tryReflink } from '../../os/syscalls.ts'
import { cName, openFlag } from '../../os/tree-calls.ts'
import { displayPath } from '../../stream/entry.ts'
import type { AttributeSetter } from './copy-attributes.ts'
import type { CopyFiles } from './copy-files.ts'
import type { KeptFiles } from './copy-kept.ts'
import { blockBytes, type DirectoryNode, type SymlinkNode } from './copy-node.ts'
import { nameOf, parentOf } from './copy-paths.ts'
import type { PendingEntry, PendingFile } from './copy-pending.ts'
import { removeTree } from './copy-removing.ts'
import { type CopyStage, stageName } from './copy-stage.ts'
import type { CopyState } from './copy-state.ts'
import { readLink } from './copy-verifying.ts'

const defaultAcl = 'system.posix_acl_default'
const accessAcl = 'system.posix_acl_access'

export interface ApplyOptions {
  readonly state: CopyState
  readonly files: CopyFiles
  readonly stage: CopyStage
  readonly attributes: AttributeSetter
  /** Somebody reads the copy: what goes is kept for it. */
  readonly kept: KeptFiles | undefined
  /** A crash came between: what was touched before it is not known. */
  readonly again: boolean
}

/**
 * Content that is in the copy, and would lose its only name there, gets a number in the stage. Decided before anything
 * is changed, and recorded, so that it is found again after a crash.
 */
export function planEvacuations({ record, pending }: CopyState, stage: CopyStage): void {
  for (const file of pending.files) {
    if (file.stage !== 0 || file.names.has(file.home)) continue
    const node = record.find(file.home)
    const names = node?.kind === 'file' ? record.namesOf(node) : undefined
    const other = [...(names ?? [])].find(name => file.names.has(name))
    if (other !== undefined) file.home = other
    else {
      file.stage = stage.nextNumber
      stage.remove(file.stage)
    }
    pending.fileChanged(file)
  }
}

/** The copy is then as the pending changes say, in memory of the operating system, and the record says so. */
export function applyPending(options: ApplyOptions): void {
  new Applying(options).run()
}

class Applying {
  readonly #state: CopyState
  readonly #files: CopyFiles
  readonly #stage: CopyStage
  readonly #attributes: AttributeSetter
  readonly #kept: KeptFiles | undefined
  readonly #again: boolean
  readonly #stat = new StatBuffer()

  constructor({ state, files, stage, attributes, kept, again }: ApplyOptions) {
    this.#again = again
    this.#state = state
    this.#files = files
    this.#stage = stage
    this.#attributes = attributes
    this.#kept = kept
  }

  run(): void {
    const { pending, status } = this.#state
    const entries = [...pending.walk()].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    const pendingFiles = [...pending.files]
    for (const file of pendingFiles) this.#evacuate(file)
    for (const [path, entry] of entries) this.#removeOrMake(path, entry)
    const firsts = new Map<PendingFile, string>()
    for (const file of pendingFiles) firsts.set(file, this.#placeFile(file))
    for (const [path, entry] of entries)
      if (entry.kind === 'node' && entry.node.kind === 'symlink') this.#placeSymlink(path, entry.node)
    for (const [file, first] of firsts) {
      if (!this.#files.exists(first, this.#stat)) throw lost(first)
      file.node.mark(this.#stat)
    }
    this.#finishDirectories(entries, status.phase !== 'live' || (this.#again && this.#files.loosens))
    this.#record(entries, firsts)
  }

  #keep = (path: string, stat: StatBuffer): void => this.#kept?.keep(this.#files, path, stat)

  #rename(path: string, stage: number, into: 'stage' | 'copy'): void {
    const { calls } = this.#files
    const name = stageName(stage)
    const area = this.#stage.directory
    this.#files.must('renameat2', path, (at, last) =>
      into === 'stage' ? calls.tryRenameAt(at, last, area, name) : calls.tryRenameAt(area, name, at, last),
    )
  }

  /** Content goes from where it was to the stage. */
  #evacuate(file: PendingFile): void {
    if (file.stage === 0 || file.home === '') return
    if (this.#stage.stat(file.stage, this.#stat)) return
    if (!this.#files.exists(file.home, this.#stat) || !file.node.isInode(this.#stat)) return
    // its bytes may change where it goes, so that a link would not keep them
    if (this.#kept !== undefined) {
      const { inodeLow, inodeHigh, size } = this.#stat
      this.#kept.keepBytes(this.#files.calls, inodeLow, inodeHigh, fd => this.#copyInto(file.home, fd, size))
    }
    this.#rename(file.home, file.stage, 'stage')
  }

  #removeOrMake(path: string, entry: PendingEntry): void {
    if (entry.kind === 'gone') {
      removeTree(this.#files, path, this.#keep)
      return
    }
    if (entry.kind !== 'node' || entry.node.kind !== 'directory' || path === '') return
    const there = this.#files.exists(path, this.#stat)
    if (there && this.#stat.kind === fileKind.directory) return
    if (there) removeTree(this.#files, path, this.#keep)
    const { calls } = this.#files
    this.#files.must('mkdirat', path, (at, name) => calls.tryMakeDirectoryAt(at, name, 0o700))
    const parent = this.#state.view.find(parentOf(path))?.node
    if (parent?.kind !== 'directory' || !parent.xattrs.has(defaultAcl)) return
    // what it got from the directory above is nothing that its source has
    const fd = this.#files.directory(path)
    calls.tryRemoveXattr(fd, defaultAcl)
    calls.tryRemoveXattr(fd, accessAcl)
  }

  /** Gives the name at which the file is. */
  #placeFile(file: PendingFile): string {
    const { node } = file
    let first = file.home
    if (file.stage !== 0) {
      const names = [...file.names]
      first = names[0] as string
      if (this.#stage.stat(file.stage, this.#stat)) {
        this.#giveWay(first)
        this.#rename(first, file.stage, 'copy')
      } else {
        const placed = names.find(name => this.#files.exists(name, this.#stat) && node.isInode(this.#stat))
        if (placed === undefined) throw lost(first)
        first = placed
      }
    }
    const changesContent = file.pieces.length > 0 || file.valid < file.baseSize || node.size !== file.baseSize
    if (changesContent) this.#changeContent(file, first)
    for (const name of file.names) if (name !== first) this.#link(first, name)
    if (file.attributed && !changesContent) return first
    if (!this.#files.exists(first, this.#stat)) throw lost(first)
    this.#attributes.setNamed(this.#files, first, node, this.#stat, true)
    return first
  }

  /** Whatever has a name that a file is about to take. */
  #giveWay(path: string): void {
    if (!this.#files.exists(path, this.#stat)) return
    if (this.#stat.kind === fileKind.directory) removeTree(this.#files, path, this.#keep)
    else if (this.#stat.kind === fileKind.file) this.#keep(path, this.#stat)
  }

  #link(first: string, name: string): void {
    if (!this.#files.exists(first, this.#stat)) throw lost(first)
    const { inodeLow, inodeHigh } = this.#stat
    if (this.#files.exists(name, this.#stat)) {
      if (this.#stat.inodeLow === inodeLow && this.#stat.inodeHigh === inodeHigh) return
      removeTree(this.#files, name, this.#keep)
    }
    const { calls } = this.#files
    this.#files.must('linkat', name, (at, last) =>
      calls.tryLinkAt(this.#files.directory(parentOf(first)), cName(nameOf(first)), at, last),
    )
  }

  #placeSymlink(path: string, node: SymlinkNode): void {
    if (readLink(this.#files, path) !== node.target) {
      removeTree(this.#files, path, this.#keep)
      const target = cName(node.target)
      this.#files.must('symlinkat', path, (at, name) => this.#files.calls.trySymlinkAt(target, at, name))
    }
    if (!this.#files.exists(path, this.#stat)) throw lost(path)
    this.#attributes.setNamed(this.#files, path, node, this.#stat, node.xattrs.size > 0)
  }

  // ---- content in place

  #changeContent(file: PendingFile, first: string): void {
    if (this.#kept === undefined || file.stage !== 0) {
      const fd = this.#files.openForWriting(first)
      try {
        this.#writePieces(file, fd)
      } finally {
        this.#files.calls.closeFd(fd)
      }
      return
    }
    // somebody may be reading these very bytes: a new file takes their place
    const stage = this.#stage.nextNumber
    const fd = this.#stage.create(stage, 0o600)
    try {
      this.#copyInto(first, fd, file.valid)
      this.#writePieces(file, fd)
    } finally {
      this.#files.calls.closeFd(fd)
    }
    if (this.#files.exists(first, this.#stat)) this.#keep(first, this.#stat)
    this.#rename(first, stage, 'copy')
  }

  #writePieces(file: PendingFile, target: number): void {
    const { calls } = this.#files
    if (file.valid < file.baseSize) calls.truncateFd(target, file.valid)
    calls.truncateFd(target, file.node.size)
    const buffer = Buffer.allocUnsafe(blockBytes)
    for (const { offset, length, stage } of file.pieces) {
      const source = this.#stage.open(stage, openFlag.read)
      try {
        for (let done = 0; done < length; ) {
          const bytes = buffer.subarray(0, Math.min(buffer.length, length - done))
          const read = calls.readAt(source, bytes, offset + done)
          if (read < bytes.length) throw lost(`stage/${stage}`)
          calls.writeAt(target, bytes, offset + done)
          done += read
        }
      } finally {
        calls.closeFd(source)
      }
    }
  }

  #copyInto(path: string, target: number, size: number): void {
    const { calls } = this.#files
    const source = this.#files.open(path, openFlag.read)
    try {
      if (!tryReflink(source, target)) {
        const buffer = Buffer.allocUnsafe(blockBytes)
        for (let at = calls.nextData(source, 0); at !== undefined && at < size; ) {
          const end = Math.min(calls.nextHole(source, at) ?? size, size)
          while (at < end) {
            const bytes = buffer.subarray(0, Math.min(buffer.length, end - at))
            const read = calls.readAt(source, bytes, at)
            if (read === 0) break
            calls.writeAt(target, bytes.subarray(0, read), at)
            at += read
          }
          if (at < end) break
          at = calls.nextData(source, at)
        }
      }
      calls.truncateFd(target, size)
    } finally {
      calls.closeFd(source)
    }
  }

  // ---- directories

  #finishDirectories(entries: readonly (readonly [string, PendingEntry])[], all: boolean): void {
    const { view } = this.#state
    let touched = new Set<string>(this.#files.loosened)
    for (const [path, entry] of entries) {
      touched.add(parentOf(path))
      if (entry.kind === 'node' && entry.node.kind === 'directory') touched.add(path)
      // content is taken from there
      if (entry.kind === 'file' && entry.file.home !== '') touched.add(parentOf(entry.file.home))
    }
    if (all) for (const path of this.#state.record.directories) touched.add(path)
    // to reach one may take permissions on those above it, which come later, or once more
    while (touched.size > 0) {
      this.#files.loosened.clear()
      const deepestFirst = [...touched].sort((a, b) => depth(b) - depth(a) || (a < b ? 1 : -1))
      for (const path of deepestFirst) {
        const node = view.find(path)?.node
        if (node?.kind === 'directory') this.#finishDirectory(path, node)
        this.#files.loosened.delete(path)
      }
      touched = new Set(this.#files.loosened)
    }
  }

  #finishDirectory(path: string, node: DirectoryNode): void {
    const fd = this.#files.directory(path)
    this.#files.calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, true)
  }

  // ---- the record

  #record(
    entries: readonly (readonly [string, PendingEntry])[],
    firsts: ReadonlyMap<PendingFile, string>,
  ): void {
    const { record, pending } = this.#state
    for (const [path, entry] of entries) {
      if (entry.kind === 'gone') record.remove(path)
      else if (entry.kind === 'node') record.put(path, entry.node)
    }
    for (const [file, first] of firsts) {
      file.node.group = 0
      file.node.committedSize = file.node.size
      record.put(first, file.node)
      for (const name of file.names) if (name !== first) record.link(name, file.node, first)
    }
    pending.clear()
  }
}

/** Of the root 0. */
function depth(path: string): number {
  return path === '' ? 0 : path.split('/').length
}

function lost(path: string): HotspareError {
  return new HotspareError(
    'state-damaged',
    `While changes were carried out in the copy, '${displayPath(path)}' was not where it must be: somebody else changed the copy or its sidecar. Use --resync.`,
    { details: { path: displayPath(path) } },
  )
}
