/**
 * What a copy consists of: its names, and for each file its size and block digests. Pure: nothing here touches a disk.
 *
 * Every path is walked from the root through directories that the tree itself knows, so that no entry can reach out of
 * the copy through a symbolic link or a file.
 */
import { HotspareError, unreachable } from '../os/errors.ts'
import { displayPath, type EntryPath } from '../stream/entry.ts'
import { BlockDigests } from './block-digests.ts'

/** By what it is seen that nobody touched a file. */
export interface FileMark {
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly inode: bigint
}

/** A file's content. Hard links are several names of one. */
export class CopyFile {
  readonly id: number
  readonly blocks: BlockDigests
  readonly names = new Set<FileNode>()
  /** As it was when its content was last recorded. */
  mark: FileMark | undefined

  constructor(id: number, blocks: BlockDigests) {
    this.id = id
    this.blocks = blocks
  }

  get size(): number {
    return this.blocks.size
  }

  /** One of its names; undefined when it has none (any more). */
  get path(): EntryPath | undefined {
    for (const node of this.names) return pathOf(node)
    return undefined
  }
}

interface Named {
  parent: DirectoryNode | undefined
  name: string
}
export interface FileNode extends Named {
  readonly kind: 'file'
  readonly file: CopyFile
}
export interface DirectoryNode extends Named {
  readonly kind: 'directory'
  readonly children: Map<string, TreeNode>
}
export interface SymlinkNode extends Named {
  readonly kind: 'symlink'
  readonly target: string
}
/** A device, pipe or socket that stood in a copy which was taken over. */
export interface OtherNode extends Named {
  readonly kind: 'other'
}
export type TreeNode = FileNode | DirectoryNode | SymlinkNode | OtherNode

/** One change of names. `take` gives a name to a new version that stands in the sidecar. */
export type NameOp =
  | { readonly kind: 'file'; readonly path: EntryPath; readonly file: number }
  | { readonly kind: 'directory'; readonly path: EntryPath }
  | { readonly kind: 'symlink'; readonly path: EntryPath; readonly target: string }
  | { readonly kind: 'other'; readonly path: EntryPath }
  | { readonly kind: 'link'; readonly path: EntryPath; readonly to: EntryPath }
  | { readonly kind: 'rename'; readonly path: EntryPath; readonly to: EntryPath }
  | { readonly kind: 'remove'; readonly path: EntryPath }
  | { readonly kind: 'take'; readonly path: EntryPath; readonly file: number; readonly stage: number }

export class CopyTree {
  readonly blockBytes: number
  /** Nothing yet, one file, or a directory. */
  #root: TreeNode | undefined
  readonly #files = new Map<number, CopyFile>()
  #lastId = 0

  constructor(blockBytes: number) {
    this.blockBytes = blockBytes
  }

  get root(): TreeNode | undefined {
    return this.#root
  }

  /** A file that gets its name next. */
  addFile(blocks = new BlockDigests(this.blockBytes)): CopyFile {
    const file = new CopyFile(++this.#lastId, blocks)
    this.#files.set(file.id, file)
    return file
  }

  /** The file with this id, made when missing. */
  file(id: number): CopyFile {
    let file = this.#files.get(id)
    if (file === undefined) {
      file = new CopyFile(id, new BlockDigests(this.blockBytes))
      this.#files.set(id, file)
      this.#lastId = Math.max(this.#lastId, id)
    }
    return file
  }

  /** What has the name; undefined when nothing has, or when the way to it leads through something else. */
  find(path: EntryPath): TreeNode | undefined {
    let node = this.#root
    if (path === '') return node
    for (const part of path.split('/')) {
      if (node?.kind !== 'directory') return undefined
      node = node.children.get(part)
    }
    return node
  }

  findFile(path: EntryPath): CopyFile | undefined {
    const node = this.find(path)
    return node?.kind === 'file' ? node.file : undefined
  }

  /** The directories above `path` that are not there yet, outermost first. Refuses a way through anything else. */
  missingParents(path: EntryPath): EntryPath[] {
    if (path === '') {
      if (this.#root?.kind === 'directory') throw refuse(path, 'the copy is a directory, not one file')
      return []
    }
    const missing: EntryPath[] = []
    const parts = path.split('/')
    let node = this.#root
    for (let depth = 0; depth < parts.length; depth++) {
      if (node === undefined) missing.push(parts.slice(0, depth).join('/') as EntryPath)
      else if (node.kind !== 'directory')
        throw refuse(
          path,
          `'${displayPath(parts.slice(0, depth).join('/'))}' is a ${node.kind}, not a directory`,
        )
      else node = node.children.get(parts[depth] as string)
    }
    return missing
  }

  apply(op: NameOp): void {
    switch (op.kind) {
      case 'file':
      case 'take':
        this.#put(op.path, nameOfFile(this.file(op.file)))
        break
      case 'directory':
        if (this.find(op.path)?.kind === 'directory') break
        this.#put(op.path, { kind: 'directory', parent: undefined, name: '', children: new Map() })
        break
      case 'symlink':
        this.#put(op.path, { kind: 'symlink', parent: undefined, name: '', target: op.target })
        break
      case 'other':
        this.#put(op.path, { kind: 'other', parent: undefined, name: '' })
        break
      case 'link': {
        const existing = this.findFile(op.to)
        if (existing === undefined)
          throw refuse(op.path, `there is no file '${displayPath(op.to)}' to link to`)
        this.#put(op.path, nameOfFile(existing))
        break
      }
      case 'rename':
        this.#rename(op.path, op.to)
        break
      case 'remove': {
        const node = this.find(op.path)
        if (node !== undefined) this.#drop(node)
        break
      }
      default:
        unreachable(op)
    }
  }

  #rename(from: EntryPath, to: EntryPath): void {
    const node = this.find(from)
    if (node === undefined) throw refuse(from, 'there is nothing of this name to rename')
    if (from === to) return
    if (`${to}/`.startsWith(`${from}/`))
      throw refuse(from, `it can't be moved into itself, '${displayPath(to)}'`)
    if (`${from}/`.startsWith(`${to}/`)) throw refuse(from, "it can't take the name of its directory")
    if (this.missingParents(to).length > 0) throw refuse(to, 'its directory is not there')
    node.parent?.children.delete(node.name)
    this.#put(to, node)
  }

  #put(path: EntryPath, node: TreeNode): void {
    const cut = path.lastIndexOf('/')
    const parent = path === '' ? undefined : this.find((cut < 0 ? '' : path.slice(0, cut)) as EntryPath)
    if (path !== '' && parent?.kind !== 'directory') throw refuse(path, 'its directory is not there')
    // the file gets its new name before it may lose an old one, so that it is never without any
    if (node.kind === 'file') node.file.names.add(node)
    const existing = this.find(path)
    if (existing !== undefined && existing !== node) this.#drop(existing)
    node.name = path.slice(cut + 1)
    if (parent?.kind === 'directory') {
      node.parent = parent
      parent.children.set(node.name, node)
    } else {
      node.parent = undefined
      this.#root = node
    }
  }

  #drop(node: TreeNode): void {
    if (node.parent === undefined) this.#root = undefined
    else node.parent.children.delete(node.name)
    this.#forget(node)
  }

  #forget(node: TreeNode): void {
    if (node.kind === 'file') {
      node.file.names.delete(node)
      if (node.file.names.size === 0) this.#files.delete(node.file.id)
    } else if (node.kind === 'directory') {
      for (const child of node.children.values()) this.#forget(child)
    }
  }

  hasFile(id: number): boolean {
    return this.#files.has(id)
  }

  /** All nodes with their paths, in ascending order of the paths' bytes, a directory before what it holds. */
  *walk(): Generator<{ readonly path: EntryPath; readonly node: TreeNode }> {
    if (this.#root !== undefined) yield* walkFrom(this.#root, '')
  }

  /** Each file once, under the least of its names. */
  *filesByPath(): Generator<{ readonly path: EntryPath; readonly file: CopyFile }> {
    for (const { path, node } of this.walk()) {
      if (node.kind === 'file') yield { path, file: node.file }
    }
  }
}

function* walkFrom(node: TreeNode, path: string): Generator<{ path: EntryPath; node: TreeNode }> {
  yield { path: path as EntryPath, node }
  if (node.kind !== 'directory') return
  // as if a directory's name ended in '/', so that whole paths come out in order
  const names = [...node.children].map(([name, child]) => (child.kind === 'directory' ? `${name}/` : name))
  names.sort(byBytes)
  const prefix = path === '' ? '' : `${path}/`
  for (const sorted of names) {
    const name = sorted.endsWith('/') ? sorted.slice(0, -1) : sorted
    yield* walkFrom(node.children.get(name) as TreeNode, prefix + name)
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function nameOfFile(file: CopyFile): FileNode {
  return { kind: 'file', parent: undefined, name: '', file }
}

export function pathOf(node: TreeNode): EntryPath {
  const parts: string[] = []
  for (let at: TreeNode = node; at.parent !== undefined; at = at.parent) parts.push(at.name)
  return parts.reverse().join('/') as EntryPath
}

function refuse(path: EntryPath, why: string): HotspareError {
  return new HotspareError('entry-invalid', `Refused a change of '${displayPath(path)}': ${why}.`, {
    details: { path },
  })
}
