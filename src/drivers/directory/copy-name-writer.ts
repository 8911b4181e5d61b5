/** Takes the changes that are about names: directories, links, removals, renames, and new versions that get theirs. */
import { HotspareError, unreachable } from '../../os/errors.ts'
import { cName, EEXIST } from '../../os/tree-calls.ts'
import { displayPath, type NodeChange, type RenameChange } from '../../stream/entry.ts'
import type { CopyFiles } from './copy-files.ts'
import { copyMetadata, DirectoryNode, SymlinkNode } from './copy-node.ts'
import { isAtOrBelow, joinPath, nameOf, parentOf } from './copy-paths.ts'
import { gone } from './copy-pending.ts'
import { removeTree } from './copy-removing.ts'
import type { CopyState } from './copy-state.ts'
import { type CopyTransaction, egid, euid, notAFile } from './copy-transaction.ts'

export class NameWriter {
  readonly #transaction: CopyTransaction
  readonly #state: CopyState
  readonly #files: CopyFiles

  constructor(transaction: CopyTransaction) {
    this.#transaction = transaction
    this.#state = transaction.state
    this.#files = transaction.files
  }

  node(change: NodeChange): void {
    const { path, node } = change
    switch (node.kind) {
      case 'directory': {
        if (this.#state.view.find(path)?.node.kind === 'directory') return
        if (path !== '') this.needParent(path)
        this.clear(path)
        this.#makeDirectory(path)
        return
      }
      case 'symlink': {
        if (path === '') throw notAFile(path)
        this.needParent(path)
        const found = this.#state.view.find(path)
        if (found?.node.kind === 'symlink' && found.node.target === node.target) return
        if (found !== undefined) this.clear(path)
        this.#makeSymlink(path, node.target)
        return
      }
      case 'hardlink':
        this.needParent(path)
        this.#link(path, node.to)
        return
      default:
        unreachable(node)
    }
  }

  remove(path: string): void {
    for (const [begun, file] of this.#transaction.versions) {
      if (!isAtOrBelow(begun, path)) continue
      this.#state.pending.drop(file)
      this.#transaction.versions.delete(begun)
    }
    if (path !== '') {
      this.clear(path)
      return
    }
    for (const name of this.#state.view.children('').keys()) this.clear(name)
  }

  rename({ path, to }: RenameChange): void {
    const { view } = this.#state
    if (path === to) return
    if (path === '' || to === '' || isAtOrBelow(to, path) || isAtOrBelow(path, to)) throw notRenamed(path, to)
    if (this.#transaction.versions.has(path)) this.replaced(path)
    if (view.find(path) === undefined) throw notRenamed(path, to)
    this.needParent(to)
    if (view.find(to) !== undefined) this.clear(to)
    this.#move(path, to)
    this.clear(path)
  }

  replaced(path: string): void {
    const file = this.#transaction.versions.get(path)
    if (file === undefined) {
      throw new HotspareError(
        'entry-invalid',
        `A new version of '${displayPath(path)}' ends that was never begun.`,
      )
    }
    this.#transaction.versions.delete(path)
    // an empty version, of which nothing was written
    if (file.node.size === 0 && !file.attributed) this.#transaction.stagedFd(file)
    this.needParent(path)
    const found = this.#state.view.find(path)
    if (found !== undefined) this.clear(path)
    this.#state.pending.set(path, { kind: 'file', file })
  }

  /** Directories above a path are made when they are missing. */
  needParent(path: string): void {
    const parent = parentOf(path)
    if (
      parent === '' ||
      (this.#transaction.isFirst && this.#state.pending.isEmpty && this.#state.record.hasDirectory(parent))
    )
      return
    const found = this.#state.view.find(parent)
    if (found?.node.kind === 'directory') return
    if (found !== undefined) {
      throw new HotspareError(
        'entry-invalid',
        `'${displayPath(path)}' lies in '${displayPath(parent)}', which is no directory.`,
        { details: { path: displayPath(path) } },
      )
    }
    this.needParent(parent)
    this.#makeDirectory(parent)
  }

  /** Takes the name away, with all that it holds. */
  clear(path: string): void {
    const { view, pending } = this.#state
    this.#transaction.openFile.close()
    const before = view.recorded(path)
    if (before !== undefined) this.#keepOtherNames(path)
    pending.deleteBelow(path)
    if (before === undefined) pending.delete(path)
    else pending.set(path, gone)
  }

  #makeDirectory(path: string): void {
    const { pending, record } = this.#state
    const directory = new DirectoryNode()
    directory.uid = euid
    directory.gid = egid
    if (path !== '' && this.#transaction.goesInPlace(path)) {
      const make = () =>
        this.#files.try(path, (at, name) => this.#files.calls.tryMakeDirectoryAt(at, name, 0o700))
      let result = make()
      if (result === -(EEXIST as number)) {
        removeTree(this.#files, path)
        result = make()
      }
      if (result < 0) this.#files.fail('mkdirat', result, path)
      record.put(path, directory)
      return
    }
    const before = this.#state.view.recorded(path)
    pending.set(path, { kind: 'node', node: directory })
    // what the directory held before does not come back with it
    if (before?.kind === 'directory')
      for (const name of record.children(path)?.keys() ?? []) pending.set(joinPath(path, name), gone)
  }

  #makeSymlink(path: string, target: string): void {
    const node = new SymlinkNode(target)
    node.uid = euid
    node.gid = egid
    this.#state.pending.set(path, { kind: 'node', node })
  }

  #link(path: string, to: string): void {
    const { view, pending, record } = this.#state
    if (path === to) return
    if (this.#transaction.versions.has(to)) this.replaced(to)
    const target = view.find(to)
    const found = view.find(path)
    if (target?.node.kind === 'symlink') {
      const copy = new SymlinkNode(target.node.target)
      copyMetadata(target.node, copy)
      if (found !== undefined) this.clear(path)
      pending.set(path, { kind: 'node', node: copy })
      return
    }
    if (target?.node.kind !== 'file') throw notAFile(to)
    if (found?.node === target.node) return
    if (isAtOrBelow(to, path)) throw notAFile(to)
    if (target.file === undefined && this.#transaction.goesInPlace(path)) {
      this.#linkPlaced(path, to)
      record.link(path, target.node, to)
      this.#transaction.touchPlaced(target.node, to)
      return
    }
    const file = this.#transaction.pendingOf(to)
    this.#state.pending.fileChanged(file)
    if (found !== undefined) this.clear(path)
    pending.set(path, { kind: 'file', file })
  }

  #linkPlaced(path: string, to: string): void {
    const { calls } = this.#files
    const link = () =>
      this.#files.try(path, (at, name) =>
        calls.tryLinkAt(this.#files.directory(parentOf(to)), cName(nameOf(to)), at, name),
      )
    let result = link()
    if (result === -(EEXIST as number)) {
      removeTree(this.#files, path)
      result = link()
    }
    if (result < 0) this.#files.fail('linkat', result, path)
  }

  /** Files that lose a name here and have others: their marks change, so all of them are looked after. */
  #keepOtherNames(path: string): void {
    const { view, record, pending } = this.#state
    const node = view.recorded(path)
    if (node?.kind === 'directory') {
      for (const [name, child] of record.children(path) ?? [])
        if (child.kind === 'directory' || (child.kind === 'file' && child.group !== 0))
          if (!view.hides(path)) this.#keepOtherNames(joinPath(path, name))
      return
    }
    if (node?.kind !== 'file' || node.group === 0 || pending.get(path) !== undefined) return
    for (const name of record.namesOf(node) ?? []) {
      if (name === path || pending.get(name) !== undefined || view.hides(parentOf(name))) continue
      const file = this.#transaction.pendingOf(name)
      file.home = name
      return
    }
  }

  #move(path: string, to: string): void {
    const { view, pending } = this.#state
    const found = view.find(path)
    if (found === undefined || found.node.kind === 'other') return
    if (found.node.kind === 'file') {
      const file = this.#transaction.pendingOf(path)
      pending.set(to, { kind: 'file', file })
      return
    }
    const { node } = found
    const moved = node.kind === 'symlink' ? new SymlinkNode(node.target) : new DirectoryNode()
    copyMetadata(node, moved)
    if (node.kind === 'directory') {
      const children = [...view.children(path).keys()]
      const before = view.recorded(to)
      pending.set(to, { kind: 'node', node: moved })
      if (before?.kind === 'directory')
        for (const name of this.#state.record.children(to)?.keys() ?? [])
          pending.set(joinPath(to, name), gone)
      for (const name of children) this.#move(joinPath(path, name), joinPath(to, name))
    } else pending.set(to, { kind: 'node', node: moved })
  }
}

function notRenamed(path: string, to: string): HotspareError {
  return new HotspareError(
    'entry-invalid',
    `'${displayPath(path)}' cannot be renamed to '${displayPath(to)}'.`,
  )
}
