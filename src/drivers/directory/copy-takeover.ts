/** Makes a record of what is really there, by reading all of it: of a copy that is taken over as it is. */
import { blake3 } from '@napi-rs/blake-hash'
import { fileKind, StatBuffer } from '../../os/stat-buffer.ts'
import { cName, openFlag } from '../../os/tree-calls.ts'
import { type XattrPlace, xattrPlace } from '../../os/xattr-calls.ts'
import { digestOfZeros } from './copy-content.ts'
import type { CopyFiles } from './copy-files.ts'
import {
  blockBytes,
  type CopyNode,
  DirectoryNode,
  FileNode,
  type Metadata,
  OtherNode,
  SymlinkNode,
  takeTime,
  toXattrs,
} from './copy-node.ts'
import { joinPath, nameOf, parentOf } from './copy-paths.ts'
import type { CopyRecord } from './copy-record.ts'
import { readLink } from './copy-verifying.ts'

export function takeOver(files: CopyFiles, record: CopyRecord): void {
  const root = new DirectoryNode()
  const stat = new StatBuffer()
  files.calls.statFd(files.root, stat)
  takeMetadata(root, stat, files, files.root)
  record.root = root
  const linked = new Map<string, { node: FileNode; path: string }>()
  const pending = ['']
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const name of files.list(directory).sort()) {
      const path = joinPath(directory, name)
      if (!files.exists(path, stat)) continue
      const inode = `${stat.inodeHigh}-${stat.inodeLow}`
      const known = stat.kind === fileKind.file && stat.links > 1 ? linked.get(inode) : undefined
      if (known !== undefined) {
        record.link(path, known.node, known.path)
        continue
      }
      const node = readNodeOf(files, path, stat)
      record.put(path, node)
      if (node.kind === 'directory') pending.push(path)
      if (node.kind === 'file' && stat.links > 1) linked.set(inode, { node, path })
    }
  }
}

function readNodeOf(files: CopyFiles, path: string, stat: StatBuffer): CopyNode {
  switch (stat.kind) {
    case fileKind.directory: {
      const node = new DirectoryNode()
      takeMetadata(node, stat, files, files.directory(path))
      return node
    }
    case fileKind.symlink: {
      const node = new SymlinkNode(readLink(files, path) ?? '')
      takeMetadata(node, stat, files, xattrPlace(files.directory(parentOf(path)), cName(nameOf(path))))
      return node
    }
    case fileKind.file:
      return readFile(files, path, stat)
    default:
      return new OtherNode()
  }
}

function takeMetadata(node: Metadata, stat: StatBuffer, files: CopyFiles, place: XattrPlace): void {
  node.mode = stat.mode
  node.uid = stat.uid
  node.gid = stat.gid
  takeTime(node, stat)
  node.timed = true
  node.xattrs = toXattrs(files.calls.readXattrs(place) ?? {})
}

/** With `stat` of the same moment, so that what changes meanwhile is seen by its mark. */
function readFile(files: CopyFiles, path: string, stat: StatBuffer): FileNode {
  const { calls } = files
  const node = new FileNode()
  const fd = files.open(path, openFlag.read)
  try {
    calls.statFd(fd, stat)
    takeMetadata(node, stat, files, fd)
    node.size = stat.size
    node.committedSize = stat.size
    node.digests = Buffer.alloc(node.blocks * 32)
    const buffer = Buffer.allocUnsafe(Math.min(blockBytes, node.size))
    let data = node.size > 0 ? calls.nextData(fd, 0) : undefined
    for (let block = 0; block < node.blocks; block++) {
      const offset = block * blockBytes
      const end = Math.min(offset + blockBytes, node.size)
      if (data !== undefined && data < offset) data = calls.nextData(fd, offset)
      if ((data === undefined || data >= end) && end - offset === blockBytes) {
        node.setDigest(block, Buffer.from(digestOfZeros()))
        continue
      }
      const bytes = buffer.subarray(0, end - offset)
      const length = calls.readAt(fd, bytes, offset)
      bytes.fill(0, length)
      node.setDigest(block, blake3(bytes))
    }
    node.mark(stat)
  } finally {
    calls.closeFd(fd)
  }
  return node
}
