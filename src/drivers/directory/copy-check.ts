/**
 * Proves that a copy is what was recorded: names and metadata at one moment, then every byte; and, when asked, that a
 * source is what was recorded too.
 */
import { blake3 } from '@napi-rs/blake-hash'
import { isSystemError } from '../../os/errors.ts'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { cName, openFlag } from '../../os/tree-calls.ts'
import { xattrPlace } from '../../os/xattr-calls.ts'
import { displayPath } from '../../stream/entry.ts'
import type { CheckReport } from '../driver.ts'
import type { CopyCalls } from './copy-calls.ts'
import { CopyFiles } from './copy-files.ts'
import {
  blockBytes,
  type CopyNode,
  type FileNode,
  type Metadata,
  sameXattrs,
  secondsOf,
  toXattrs,
} from './copy-node.ts'
import { joinPath, nameOf, parentOf } from './copy-paths.ts'
import type { CheckDone, ReadWork } from './copy-read-protocol.ts'
import type { RecordedCopy } from './copy-recorded.ts'
import { readLink } from './copy-verifying.ts'
import { isCopied } from './pass-plan.ts'

const differencesShown = 20

/** What differs, of which the first are named. */
class Differences {
  readonly shown: string[] = []
  count = 0

  add(path: string, what: string): void {
    this.count++
    if (this.shown.length < differencesShown) this.shown.push(`'${displayPath(path)}' ${what}`)
  }
}

export function checkTree(
  calls: CopyCalls,
  copy: RecordedCopy,
  against: string | undefined,
  work: ReadWork,
): CheckDone {
  const { record, status } = copy.state
  const nodes = [...record.walk()]
  const files = firstNames(nodes)
  const size = files.reduce((sum, [, node]) => sum + node.size, 0)
  const totalBytes = against === undefined ? size : 2 * size
  const findings: { ok: boolean; what: string }[] = []

  const metadata = new Differences()
  new TreeComparison(copy.files, copy, metadata).run()
  work.noted()
  tell(
    findings,
    metadata,
    `names and metadata of ${nodes.length} files, directories and links are as recorded`,
  )

  const content = new Differences()
  let bytes = 0
  for (const [path, node] of files) {
    const fd = copy.open(path, node)
    if (fd === undefined) content.add(path, 'is gone')
    else {
      try {
        const block = differingBlock(copy, fd, node, done => work.progress(bytes + done, totalBytes))
        if (block !== undefined)
          content.add(path, `differs from what was copied, in its bytes from ${block * blockBytes}`)
      } finally {
        calls.closeFd(fd)
      }
    }
    bytes += node.size
  }
  tell(findings, content, `all ${bytes} bytes of ${files.length} files are those that were copied`)
  findings.push({
    ok: true,
    what: status.shown?.consistent
      ? 'the copy was read while its application was held: it is consistent'
      : 'the source was not read while its application was held: the copy is its last whole pass, and not proved consistent',
  })
  if (against !== undefined)
    compareWith(calls, copy, against, files, findings, done => work.progress(size + done, totalBytes))
  const report: CheckReport = { valid: findings.every(({ ok }) => ok), findings, bytes }
  return { kind: 'check', report }
}

function tell(findings: { ok: boolean; what: string }[], found: Differences, good: string): void {
  if (found.count === 0) findings.push({ ok: true, what: good })
  for (const what of found.shown) findings.push({ ok: false, what })
  const more = found.count - found.shown.length
  if (more > 0) findings.push({ ok: false, what: `and ${more} more` })
}

/** Each file once, under its first name. */
function firstNames(nodes: readonly (readonly [string, CopyNode])[]): [string, FileNode][] {
  const seen = new Set<FileNode>()
  const files: [string, FileNode][] = []
  for (const [path, node] of nodes) {
    if (node.kind !== 'file' || seen.has(node)) continue
    if (node.group !== 0) seen.add(node)
    files.push([path, node])
  }
  return files
}

function differingBlock(
  copy: RecordedCopy,
  fd: number,
  node: FileNode,
  progress: (bytes: number) => void,
): number | undefined {
  const buffer = Buffer.allocUnsafe(Math.min(blockBytes, node.size))
  for (let block = 0; block < node.blocks; block++) {
    const length = copy.readBlock(fd, node, block, buffer)
    if (length === undefined) return block
    progress(block * blockBytes + length)
  }
  if (node.blocks === 0) progress(0)
  return undefined
}

/** Compares names and metadata of a tree with the record. */
class TreeComparison {
  readonly #files: CopyFiles
  readonly #copy: RecordedCopy
  readonly #found: Differences
  readonly #stat = new StatBuffer()
  readonly #inodes = new Map<FileNode, string>()
  /** Of files with several names, by inode, the first name. */
  readonly #firsts = new Map<string, { readonly path: string; readonly node: FileNode }>()

  constructor(files: CopyFiles, copy: RecordedCopy, found: Differences) {
    this.#files = files
    this.#copy = copy
    this.#found = found
  }

  run(): void {
    const { record } = this.#copy.state
    this.#files.calls.statFd(this.#files.root, this.#stat)
    if (record.root !== undefined) this.#metadata('', record.root, true)
    this.#directory('')
  }

  #directory(path: string): void {
    const children = this.#copy.state.record.children(path) ?? new Map<string, CopyNode>()
    const names = new Set(this.#files.list(path))
    for (const name of names) {
      if (children.has(name)) continue
      const at = joinPath(path, name)
      // a source may have special files, which are named when it is read, and not copied
      const isSource = this.#files !== this.#copy.files
      if (isSource && this.#files.exists(at, this.#stat) && !isCopied(this.#stat.kind)) continue
      this.#found.add(
        at,
        isSource ? 'is in the source, and not in the copy' : 'is not in the record: somebody put it there',
      )
    }
    for (const [name, node] of children) {
      const at = joinPath(path, name)
      if (!names.has(name) || !this.#files.exists(at, this.#stat)) this.#found.add(at, 'is gone')
      else this.#node(at, node)
    }
  }

  #node(path: string, node: CopyNode): void {
    const kinds = { file: fileKind.file, directory: fileKind.directory, symlink: fileKind.symlink }
    const { kind } = this.#stat
    if (node.kind === 'other') return
    if (kind !== kinds[node.kind]) {
      this.#found.add(path, `is no ${node.kind} any more`)
      return
    }
    if (node.kind === 'file') {
      if (this.#stat.size !== node.size)
        this.#found.add(path, `has ${this.#stat.size} bytes, and ${node.size} were copied`)
      this.#linked(path, node)
    }
    if (node.kind === 'symlink' && readLink(this.#files, path) !== node.target)
      this.#found.add(path, 'leads elsewhere')
    this.#metadata(path, node, node.kind !== 'symlink')
    if (node.kind === 'directory') this.#directory(path)
  }

  #linked(path: string, node: FileNode): void {
    const inode = `${this.#stat.inodeHigh}-${this.#stat.inodeLow}`
    if (this.#stat.links > 1) {
      const other = this.#firsts.get(inode)
      if (other === undefined) this.#firsts.set(inode, { path, node })
      else if (other.node !== node)
        this.#found.add(
          path,
          `is another name of '${displayPath(other.path)}', and was copied as a file of its own`,
        )
    }
    if (node.group === 0) return
    const first = this.#inodes.get(node)
    if (first === undefined) this.#inodes.set(node, inode)
    else if (first !== inode) this.#found.add(path, 'is not linked with its other names any more')
  }

  #metadata(path: string, node: Metadata, hasMode: boolean): void {
    const stat = this.#stat
    if (hasMode && stat.mode !== node.mode)
      this.#found.add(path, `has mode ${octal(stat.mode)}, and ${octal(node.mode)} was asked for`)
    if (stat.uid !== node.uid || stat.gid !== node.gid)
      this.#found.add(path, `belongs to ${stat.uid}:${stat.gid}, and ${node.uid}:${node.gid} was asked for`)
    const seconds = secondsOf(stat.mtimeSecondsLow, stat.mtimeSecondsHigh)
    if (node.timed && (seconds !== node.mtimeSeconds || stat.mtimeNanoseconds !== node.mtimeNanoseconds))
      this.#found.add(path, 'has another time of modification')
    const place =
      path === '' ? this.#files.root : xattrPlace(this.#files.directory(parentOf(path)), cName(nameOf(path)))
    const xattrs = { ...this.#files.calls.readXattrs(place) }
    if (!node.xattrs.has('security.selinux')) delete xattrs['security.selinux']
    if (!sameXattrs(toXattrs(xattrs), node.xattrs)) this.#found.add(path, 'has other extended attributes')
  }
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}

function compareWith(
  calls: CopyCalls,
  copy: RecordedCopy,
  against: string,
  files: readonly (readonly [string, FileNode])[],
  findings: { ok: boolean; what: string }[],
  progress: (bytes: number) => void,
): void {
  const source = new CopyFiles(calls, calls.openRoot(against), false)
  const found = new Differences()
  try {
    new TreeComparison(source, copy, found).run()
    const buffer = Buffer.allocUnsafe(blockBytes)
    let bytes = 0
    for (const [path, node] of files) {
      const block = differingAtSource(source, path, node, buffer)
      if (block !== undefined)
        found.add(path, `has other bytes at the source than in the copy, from ${block * blockBytes}`)
      bytes += node.size
      progress(bytes)
    }
  } finally {
    source.close()
  }
  const named = found.shown.map(what => `at the source ${what}`)
  found.shown.splice(0, found.shown.length, ...named)
  tell(findings, found, `the source '${against}' is what the copy has of it`)
}

/** A file that is not there, or has another size, was named already. */
function differingAtSource(
  source: CopyFiles,
  path: string,
  node: FileNode,
  buffer: Buffer,
): number | undefined {
  const { calls } = source
  let fd: number
  try {
    fd = source.open(path, openFlag.read | openFlag.nonBlocking)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return undefined
    throw error
  }
  try {
    for (let block = 0; block < node.blocks; block++) {
      const offset = block * blockBytes
      const bytes = buffer.subarray(0, Math.min(blockBytes, node.size - offset))
      if (calls.readAt(fd, bytes, offset) < bytes.length) return undefined
      if (!blake3(bytes).equals(node.digest(block))) return block
    }
    return undefined
  } finally {
    calls.closeFd(fd)
  }
}
