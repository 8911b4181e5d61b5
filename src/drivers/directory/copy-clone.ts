/**
 * A clone of what a copy shows: made under a temporary name, every byte compared with its recorded digest, made durable,
 * and renamed. Files share blocks with the copy where the file system can, and are never linked to it.
 *
 * A crash leaves the temporary name alone, which the next clone removes.
 */
import { StatBuffer } from '../../os/stat-buffer.ts'
import { tryReflink } from '../../os/syscalls.ts'
import { cName, openFlag, systemError } from '../../os/tree-calls.ts'
import { AttributeSetter } from './copy-attributes.ts'
import type { CopyCalls } from './copy-calls.ts'
import { CopyFiles } from './copy-files.ts'
import { blockBytes, type FileNode } from './copy-node.ts'
import { nameOf, parentOf } from './copy-paths.ts'
import type { CloneDone, ReadWork } from './copy-read-protocol.ts'
import type { RecordedCopy } from './copy-recorded.ts'
import { removeTree } from './copy-removing.ts'
import type { CopyCommit } from './copy-status.ts'

export function cloneTree(
  calls: CopyCalls,
  copy: RecordedCopy,
  destination: string,
  work: ReadWork,
): CloneDone {
  const parentPath = destination.slice(0, destination.lastIndexOf('/')) || '/'
  const parent = new CopyFiles(calls, calls.openRoot(parentPath))
  try {
    // a path within the parent, in latin1 as all of them
    const name = Buffer.from(nameOf(destination), 'utf8').toString('latin1')
    const temporary = `${name}.hotspare-tmp`
    removeTree(parent, temporary)
    try {
      parent.must('mkdirat', temporary, (at, last) => calls.tryMakeDirectoryAt(at, last, 0o700))
      const files = new CopyFiles(calls, parent.open(temporary, openFlag.read | openFlag.directory))
      try {
        const cloning = new Cloning(calls, copy, files, work)
        cloning.run()
        calls.syncFileSystem(files.root)
        const renamed = calls.tryRenameAt(
          parent.root,
          cName(temporary),
          parent.root,
          cName(name),
          'no-replace',
        )
        if (renamed < 0) throw systemError('renameat2', -renamed, destination)
        calls.syncFd(parent.root)
        return {
          kind: 'clone',
          method: cloning.method,
          bytes: cloning.bytes,
          commit: copy.state.status.shown as CopyCommit,
        }
      } finally {
        files.close()
      }
    } catch (error) {
      removeTree(parent, temporary)
      throw error
    }
  } finally {
    parent.close()
  }
}

class Cloning {
  readonly #calls: CopyCalls
  readonly #copy: RecordedCopy
  readonly #files: CopyFiles
  readonly #work: ReadWork
  readonly #attributes: AttributeSetter
  readonly #made = new Map<FileNode, string>()
  readonly #stat = new StatBuffer()
  readonly #buffer = Buffer.allocUnsafe(blockBytes)
  #reflinks: boolean | undefined
  #totalBytes = 0
  bytes = 0

  constructor(calls: CopyCalls, copy: RecordedCopy, files: CopyFiles, work: ReadWork) {
    this.#calls = calls
    this.#copy = copy
    this.#files = files
    this.#work = work
    this.#attributes = new AttributeSetter(notice => work.notice(notice))
  }

  get method(): 'reflink' | 'copy' {
    return this.#reflinks ? 'reflink' : 'copy'
  }

  run(): void {
    const { record } = this.#copy.state
    for (const node of this.#nodes()) this.#totalBytes += node.size
    const directories: string[] = ['']
    this.#calls.tryRemoveXattr(this.#files.root, 'system.posix_acl_default')
    this.#calls.tryRemoveXattr(this.#files.root, 'system.posix_acl_access')
    for (const [path, node] of record.walk()) {
      switch (node.kind) {
        case 'directory':
          this.#files.must('mkdirat', path, (at, name) => this.#calls.tryMakeDirectoryAt(at, name, 0o700))
          directories.push(path)
          break
        case 'symlink': {
          const target = cName(node.target)
          this.#files.must('symlinkat', path, (at, name) => this.#calls.trySymlinkAt(target, at, name))
          this.#files.exists(path, this.#stat)
          this.#attributes.setNamed(this.#files, path, node, this.#stat, node.xattrs.size > 0)
          break
        }
        case 'file':
          this.#file(path, node)
          break
        case 'other':
          this.#work.notice({
            code: 'not-cloned',
            message: `'${path}' in the copy is a device, pipe or socket, and was left out.`,
          })
      }
    }
    // deepest first, since what is made inside changes a directory's time
    for (const path of directories.reverse()) this.#finishDirectory(path)
  }

  *#nodes(): Generator<FileNode> {
    const seen = new Set<FileNode>()
    for (const [, node] of this.#copy.state.record.walk()) {
      if (node.kind !== 'file' || seen.has(node)) continue
      if (node.group !== 0) seen.add(node)
      yield node
    }
  }

  #finishDirectory(path: string): void {
    const node = this.#copy.state.record.find(path)
    if (node?.kind !== 'directory') return
    const fd = this.#files.directory(path)
    this.#calls.statFd(fd, this.#stat)
    this.#attributes.setOpen(this.#files, fd, path, node, this.#stat, true)
  }

  #file(path: string, node: FileNode): void {
    const made = this.#made.get(node)
    if (made !== undefined) {
      const from = this.#files.directory(parentOf(made))
      this.#files.must('linkat', path, (at, name) =>
        this.#calls.tryLinkAt(from, cName(nameOf(made)), at, name),
      )
      return
    }
    if (node.group !== 0) this.#made.set(node, path)
    const source = this.#copy.open(path, node)
    if (source === undefined) throw this.#copy.mismatch(path, 0)
    try {
      const flags = openFlag.readWrite | openFlag.create | openFlag.exclusive
      const target = this.#files.open(path, flags, 0o600)
      try {
        this.#content(path, node, source, target)
        this.#calls.statFd(target, this.#stat)
        this.#attributes.setOpen(this.#files, target, path, node, this.#stat, node.xattrs.size > 0)
      } finally {
        this.#calls.closeFd(target)
      }
    } finally {
      this.#calls.closeFd(source)
    }
  }

  /** Where the file system can share blocks once, it can always. */
  #content(path: string, node: FileNode, source: number, target: number): void {
    if (node.size > 0 && this.#reflinks !== false) this.#reflinks = tryReflink(source, target)
    const shared = this.#reflinks === true
    this.#calls.statFd(source, this.#stat)
    const isSparse = this.#stat.blocks * 512 < node.size
    for (let block = 0; block < node.blocks; block++) {
      const length = this.#copy.readBlock(shared ? target : source, node, block, this.#buffer)
      if (length === undefined) throw this.#copy.mismatch(path, block)
      if (this.#copy.wasKept)
        this.#calls.writeAt(target, this.#buffer.subarray(0, length), block * blockBytes)
      else if (!shared) this.#write(source, target, block * blockBytes, length, isSparse)
      this.bytes += length
      this.#work.progress(this.bytes, this.#totalBytes)
    }
    this.#calls.truncateFd(target, node.size)
  }

  /** The bytes of a block, holes left out. */
  #write(source: number, target: number, offset: number, length: number, isSparse: boolean): void {
    const bytes = this.#buffer.subarray(0, length)
    if (!isSparse) {
      this.#calls.writeAt(target, bytes, offset)
      return
    }
    const end = offset + length
    for (let at = this.#calls.nextData(source, offset); at !== undefined && at < end; ) {
      const hole = Math.min(this.#calls.nextHole(source, at) ?? end, end)
      this.#calls.writeAt(target, bytes.subarray(at - offset, hole - offset), at)
      if (hole >= end) break
      at = this.#calls.nextData(source, hole)
    }
  }
}
