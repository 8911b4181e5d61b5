/**
 * A sink that applies entries to a directory one by one, in the plainest way, with ordinary calls and none of the driver's
 * own code: what a source means, so that the source can be judged without a replica. A commit is kept at once.
 */
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { blake3 } from '@napi-rs/blake-hash'
import { listXattrs, removeXattr, setModificationTime, setXattr } from '../../../os/attributes.ts'
import {
  type Change,
  type Commit,
  type Entry,
  type EntryPath,
  nativePath,
  type Position,
} from '../../../stream/entry.ts'
import type { Inventory, InventoryFile, InventoryNode, Sink } from '../../../stream/sink.ts'

const blockBytes = 1024 * 1024

export class NaiveSink implements Sink {
  readonly root: string
  #position: Position | undefined
  readonly commits: Commit[] = []
  /** Of the last pass. */
  readonly changes: Change[] = []
  /** Say what there is instead of a position, until the next commit. */
  forgetful = false
  /** Say what there is also while it has a position. */
  tellsInventory = false
  readonly #replacing = new Map<string, string | Buffer>()

  constructor(root: string) {
    this.root = root
    fs.mkdirSync(root, { recursive: true })
  }

  async position(): Promise<Position | undefined> {
    return this.forgetful ? undefined : this.#position
  }

  async write(entry: Entry): Promise<void> {
    if (entry.type === 'commit') {
      if (this.#replacing.size > 0) throw new Error('a replacement was not ended')
      this.#position = entry.position
      this.forgetful = false
      this.commits.push(entry)
      return
    }
    this.changes.push(entry)
    this.#apply(entry)
    if (entry.type === 'write') entry.recycle?.()
  }

  async sync(): Promise<void> {}
  async close(): Promise<void> {}

  #at(path: EntryPath): string | Buffer {
    return this.#replacing.get(path) ?? nativePath(this.root, path)
  }

  #apply(change: Change): void {
    const at = this.#at(change.path)
    switch (change.type) {
      case 'write': {
        const fd = fs.openSync(
          at,
          fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_NOFOLLOW,
          0o600,
        )
        // a copy: the memory is shared with the source
        fs.writeSync(fd, Buffer.from(change.data), 0, change.data.length, change.offset)
        fs.closeSync(fd)
        return
      }
      case 'truncate':
        fs.truncateSync(at, change.size)
        return
      case 'replace': {
        const staged = Buffer.concat([
          Buffer.from(nativePath(this.root, '' as EntryPath)),
          Buffer.from(`.stage`),
        ])
        fs.writeFileSync(staged, '')
        if (this.#replacing.size > 0) throw new Error('one replacement at a time')
        this.#replacing.set(change.path, staged)
        return
      }
      case 'replaced':
        this.#replacing.delete(change.path)
        fs.renameSync(at, nativePath(this.root, change.path))
        return
      case 'remove':
        fs.rmSync(at as string, { recursive: true, force: true })
        return
      case 'rename':
        fs.renameSync(at, nativePath(this.root, change.to))
        return
      case 'node': {
        const { node } = change
        const there = fs.lstatSync(at, { throwIfNoEntry: false })
        if (node.kind === 'directory' && there?.isDirectory()) return
        if (there !== undefined) fs.rmSync(at as string, { recursive: true })
        if (node.kind === 'directory') fs.mkdirSync(at)
        else if (node.kind === 'symlink') fs.symlinkSync(Buffer.from(node.target, 'latin1'), at)
        else fs.linkSync(nativePath(this.root, node.to), at)
        return
      }
      case 'attributes': {
        const { uid, gid, mode, mtimeNs, xattrs } = change
        if (uid !== undefined || gid !== undefined) fs.lchownSync(at, uid ?? -1, gid ?? -1)
        if (xattrs !== undefined) {
          for (const name of listXattrs(at)) if (!(name in xattrs)) removeXattr(at, name)
        }
        if (mode !== undefined) fs.chmodSync(at, mode)
        for (const [name, value] of Object.entries(xattrs ?? {})) setXattr(at, name, value)
        if (mtimeNs !== undefined) setModificationTime(at, mtimeNs)
        return
      }
      case 'record':
        throw new Error('no record store')
    }
  }

  async inventory(): Promise<Inventory | undefined> {
    if (!this.forgetful && !this.tellsInventory) return undefined
    const files: InventoryFile[] = []
    const others: InventoryNode[] = []
    const seen = new Set<bigint>()
    const walk = (directory: string): void => {
      const names = fs.readdirSync(nativePath(this.root, directory as EntryPath), { encoding: 'latin1' })
      for (const name of names) {
        const path = (directory === '' ? name : `${directory}/${name}`) as EntryPath
        const native = nativePath(this.root, path)
        const stat = fs.lstatSync(native, { bigint: true })
        if (stat.isDirectory()) {
          others.push({ path, kind: 'directory' })
          walk(path)
        } else if (stat.isSymbolicLink()) others.push({ path, kind: 'symlink' })
        else if (stat.nlink > 1n && seen.has(stat.ino)) others.push({ path, kind: 'hardlink' })
        else {
          seen.add(stat.ino)
          files.push(inventoryFile(path, fs.readFileSync(native)))
        }
      }
    }
    walk('')
    return {
      async *files() {
        yield* files
      },
      file: async path => files.find(file => file.path === path),
      async *others() {
        yield* others
      },
    }
  }
}

function inventoryFile(path: EntryPath, content: Buffer): InventoryFile {
  return {
    path,
    size: content.length,
    blockBytes,
    digest: 'blake3-256',
    digests: async (first, count) => {
      const digests: Buffer[] = []
      for (let block = first; block < first + count; block++)
        digests.push(blake3(content.subarray(block * blockBytes, (block + 1) * blockBytes)))
      return Buffer.concat(digests)
    },
  }
}

/** What `rsync` would still have to do, item by item; empty when source and copy are equal. */
export function rsyncDifference(source: string, copy: string): string {
  return execFileSync('rsync', ['-aHAXn', '--delete', '-i', '--checksum', `${source}/`, `${copy}/`], {
    encoding: 'latin1',
  })
}
