/**
 * A consistent clone of a copy, also while it is being followed: the files and sizes of one moment are noted and opened
 * under a short lock, and then copied while the follower goes on appending.
 *
 * The clone is made under a temporary name, made durable, and takes its own by a rename: a crash leaves the temporary
 * name alone, which the next clone removes. Bytes that are copied are compared with their recorded digests on the way.
 */
import type { CloneOptions, CloneReport } from '../drivers/driver.ts'
import { describeSystemError, HotspareError, isSystemError } from '../os/errors.ts'
import {
  type FileStat,
  type NativePath,
  parentDirectory,
  type Storage,
  type StorageFile,
} from '../os/storage.ts'
import { displayPath, type EntryPath, nativePath } from '../stream/entry.ts'
import type { CopyFile, TreeNode } from './copy-tree.ts'
import { type RecordedReading, readRecorded } from './recorded-reading.ts'
import { toConsistent } from './state-record.ts'

/** More files than this are not held open: then no name of the copy changes until the clone is made. */
const openFilesMax = 500

export async function cloneFileCopy(options: CloneOptions): Promise<CloneReport> {
  const { storage, destination } = options
  if ((await storage.stat(destination)) !== undefined) {
    throw new HotspareError('target-foreign', `'${destination}' exists already. Give a name that is free.`, {
      details: { path: destination },
    })
  }
  const temporary = `${destination}.hotspare-tmp`
  try {
    const reading = await readRecorded(options)
    try {
      await storage.removeTree(temporary)
      const making = new CloneMaking(options, temporary, reading)
      await making.run()
      await storage.rename(temporary, destination)
      await storage.syncDirectory(parentDirectory(destination))
      return { method: making.method, bytes: making.bytes, commit: toConsistent(reading.consistent) }
    } catch (error) {
      await storage.removeTree(temporary)
      throw error
    } finally {
      await reading.release()
    }
  } catch (error) {
    throw describeSystemError(error, `cloning '${options.path}' to '${destination}'`)
  }
}

class CloneMaking {
  readonly #options: CloneOptions
  readonly #storage: Storage
  readonly #root: string
  readonly #reading: RecordedReading
  readonly #open = new Map<CopyFile, StorageFile>()
  readonly #made = new Map<CopyFile, EntryPath>()
  #reflinks: boolean | undefined
  bytes = 0

  constructor(options: CloneOptions, root: string, reading: RecordedReading) {
    this.#options = options
    this.#storage = options.storage
    this.#root = root
    this.#reading = reading
  }

  get method(): CloneReport['method'] {
    return this.#reflinks ? 'reflink' : 'copy'
  }

  async run(): Promise<void> {
    try {
      const nodes = [...this.#reading.state.tree.walk()]
      await this.#openFiles(nodes)
      const files = [...this.#reading.state.tree.filesByPath()]
      const totalBytes = files.reduce((sum, { file }) => sum + file.size, 0)
      for (const { path, node } of nodes) {
        this.#options.signal.throwIfAborted()
        await this.#make(path, node)
        this.#options.onProgress({ bytes: this.bytes, totalBytes })
      }
      for (const { path, node } of nodes.reverse()) {
        if (node.kind === 'directory') await this.#finishDirectory(path)
      }
    } finally {
      for (const file of this.#open.values()) await file.close()
    }
  }

  async #openFiles(nodes: readonly { readonly path: EntryPath; readonly node: TreeNode }[]): Promise<void> {
    const files = nodes.filter(({ node }) => node.kind === 'file')
    if (files.length > openFilesMax) return
    for (const { path, node } of files) {
      if (node.kind === 'file' && !this.#open.has(node.file))
        this.#open.set(node.file, await this.#storage.open(this.#source(path), 'read'))
    }
    await this.#reading.releaseNames()
  }

  #source(path: EntryPath): NativePath {
    return nativePath(this.#options.path, path)
  }

  #target(path: EntryPath): NativePath {
    return nativePath(this.#root, path)
  }

  async #make(path: EntryPath, node: TreeNode): Promise<void> {
    switch (node.kind) {
      case 'directory':
        await this.#storage.makeDirectory(this.#target(path))
        return
      case 'symlink':
        await this.#storage.symlink(Buffer.from(node.target, 'latin1'), this.#target(path))
        return
      case 'file': {
        const made = this.#made.get(node.file)
        if (made !== undefined) return this.#storage.link(this.#target(made), this.#target(path))
        this.#made.set(node.file, path)
        return this.#makeFile(path, node.file)
      }
      case 'other':
        throw new HotspareError(
          'unsupported',
          `'${displayPath(path)}' in the copy is a device, pipe or socket, which cannot be cloned.`,
        )
    }
  }

  async #makeFile(path: EntryPath, file: CopyFile): Promise<void> {
    const held = this.#open.get(file)
    const source = held ?? (await this.#storage.open(this.#source(path), 'read'))
    try {
      const target = await this.#storage.open(this.#target(path), 'create-new')
      try {
        if (await this.#reflink(source, target)) await target.truncate(file.size)
        else await this.#copy(path, file, source, target)
        this.bytes += file.size
        await this.#takeAttributes(path, await source.stat())
        await target.sync('everything')
      } finally {
        await target.close()
      }
    } finally {
      if (held === undefined) await source.close()
    }
  }

  /** Where the file system can share blocks once, it can always. */
  async #reflink(source: StorageFile, target: StorageFile): Promise<boolean> {
    if (this.#reflinks === false) return false
    this.#reflinks = await this.#storage.reflink(source, target)
    return this.#reflinks
  }

  /** The next block is read while one is written. */
  async #copy(path: EntryPath, file: CopyFile, source: StorageFile, target: StorageFile): Promise<void> {
    const { blocks } = file
    let writing: Promise<void> = Promise.resolve()
    const buffers = [Buffer.allocUnsafe(blocks.blockBytes), Buffer.allocUnsafe(blocks.blockBytes)] as const
    for (let block = 0; block < blocks.count; block++) {
      const offset = block * blocks.blockBytes
      const bytes = buffers[block % 2 === 0 ? 0 : 1].subarray(0, blocks.blockLength(block))
      const [length] = await Promise.all([source.read(bytes, offset), writing])
      if (length < bytes.length || !blocks.matches(block, bytes)) {
        throw new HotspareError(
          'digest-mismatch',
          `'${displayPath(path)}' in the copy '${this.#options.path}' is not what was copied, in its bytes from ${offset}. The clone was not made. Run 'hotspare check', and 'hotspare follow --resync' to repair it.`,
          { details: { path, offset } },
        )
      }
      this.#options.signal.throwIfAborted()
      writing = target.write(bytes, offset)
    }
    await writing
  }

  async #finishDirectory(path: EntryPath): Promise<void> {
    const stat = await this.#storage.stat(this.#source(path))
    // its name may have gone since; then it has none of the metadata that a copy of it could carry
    if (stat !== undefined) await this.#takeAttributes(path, stat)
    await this.#storage.syncDirectory(this.#target(path))
  }

  async #takeAttributes(path: EntryPath, stat: FileStat): Promise<void> {
    const { mode, mtimeNs, uid, gid } = stat
    const target = this.#target(path)
    try {
      await this.#storage.setAttributes(target, { uid, gid })
    } catch (error) {
      // only root may give files away: the clone belongs to whoever makes it
      if (!isSystemError(error, 'EPERM')) throw error
    }
    for (const [name, value] of Object.entries(await this.#xattrs(path)))
      await this.#storage.setXattr(target, name, value)
    await this.#storage.setAttributes(target, { mode, mtimeNs })
  }

  async #xattrs(path: EntryPath): Promise<Record<string, Buffer>> {
    try {
      return await this.#storage.xattrs(this.#source(path))
    } catch (error) {
      // its name has gone since, and with it the only way to them
      if (isSystemError(error, 'ENOENT')) return {}
      throw error
    }
  }
}
