/**
 * A copy's files on disk, and the new versions that stand beside them in the sidecar.
 *
 * Each change of names can be done again when it was done before, wholly or in part; so what was written down as an
 * intent, or stands in a journal, is carried out by doing it again. Nothing is durable before `sync`.
 */
import { assert, HotspareError, isSystemError, unreachable } from '../os/errors.ts'
import {
  type FileStat,
  type NativePath,
  parentDirectory,
  type Storage,
  type StorageFile,
} from '../os/storage.ts'
import { type AttributesChange, displayPath, type EntryPath, nativePath } from '../stream/entry.ts'
import type { NameOp } from './copy-tree.ts'
import { OpenFiles } from './open-files.ts'

/** Marks the directory that holds the copy itself; no path within a copy has this name. */
const outside = '/'
const stagePrefix = '//'

export class CopyDisk {
  readonly storage: Storage
  readonly #stageDirectory: string
  #root: string
  readonly #open: OpenFiles
  /** Directories of which a name was changed. */
  readonly #dirtyDirectories = new Set<string>()
  /** Made since the last sync: what is moved into one could be lost together with it. */
  readonly #newDirectories = new Set<EntryPath>()
  /** Seen to be directories since the last change of names or sync. */
  readonly #checkedDirectories = new Set<EntryPath>()
  #stageMade = false

  constructor(storage: Storage, root: string, stageDirectory: string) {
    this.storage = storage
    this.#root = root
    this.#stageDirectory = stageDirectory
    this.#open = new OpenFiles(storage)
  }

  get root(): string {
    return this.#root
  }

  /** The copy as a whole has another name now. */
  moved(root: string): void {
    this.#root = root
  }

  native(path: EntryPath): NativePath {
    return nativePath(this.#root, path)
  }

  stat(path: EntryPath): Promise<FileStat | undefined> {
    return this.storage.stat(this.native(path))
  }

  /**
   * No way within the copy leads through a link. The tree has seen to that; this is for what somebody else may have
   * put there since.
   */
  async #checkWay(path: EntryPath): Promise<void> {
    for (let cut = path.indexOf('/'); cut >= 0; cut = path.indexOf('/', cut + 1)) {
      const directory = path.slice(0, cut) as EntryPath
      if (this.#checkedDirectories.has(directory)) continue
      const kind = (await this.stat(directory))?.kind
      if (kind === 'symlink' || kind === 'other') throw this.#changed(directory, `is a ${kind} now`)
      if (kind === 'directory') this.#checkedDirectories.add(directory)
    }
  }

  #changed(path: EntryPath, what: string): HotspareError {
    return new HotspareError(
      'target-changed',
      `'${displayPath(path)}' of the copy in '${this.#root}' ${what}: somebody else changed it. Use --resync to compare anew.`,
      { details: { path } },
    )
  }

  async #openFile(path: EntryPath): Promise<StorageFile | undefined> {
    const open = this.#open.get(path)
    if (open !== undefined) return open
    await this.#checkWay(path)
    const kind = (await this.stat(path))?.kind
    if (kind === undefined) return undefined
    if (kind !== 'file') throw this.#changed(path, `is a ${kind} now`)
    return this.#open.open(path, this.native(path))
  }

  async read(path: EntryPath, buffer: Buffer, offset: number): Promise<number> {
    return (await this.#existing(path)).read(buffer, offset)
  }

  async write(path: EntryPath, offset: number, data: Uint8Array): Promise<void> {
    const file = await this.#existing(path)
    this.#open.wrote(path)
    await file.write(data, offset)
    this.#open.flush(path, data.length)
  }

  async truncate(path: EntryPath, size: number): Promise<void> {
    const file = await this.#existing(path)
    this.#open.wrote(path)
    await file.truncate(size)
  }

  /** The file's bytes are to be made durable by the next sync, though nothing of ours was written. */
  async touch(path: EntryPath): Promise<void> {
    await this.#existing(path)
    this.#open.wrote(path)
  }

  async #existing(path: EntryPath): Promise<StorageFile> {
    const file = await this.#openFile(path)
    if (file !== undefined) return file
    throw this.#changed(path, 'is gone')
  }

  /** Makes the file, and the directories above it, when missing. */
  async ensureFile(path: EntryPath): Promise<void> {
    // a run before this one may have made it, and not its name durable
    this.#namesChanged(path)
    if ((await this.#openFile(path)) !== undefined) return
    await this.#ensureParents(path)
    await this.#open.create(path, this.native(path), 'create')
  }

  async #ensureParents(path: EntryPath): Promise<void> {
    if (path === '') return
    const parts = path.split('/')
    for (let depth = 0; depth < parts.length; depth++)
      await this.#ensureDirectory(parts.slice(0, depth).join('/') as EntryPath)
  }

  async #ensureDirectory(path: EntryPath): Promise<void> {
    this.#namesChanged(path)
    const stat = await this.stat(path)
    if (stat?.kind === 'directory') return
    if (stat !== undefined) await this.#clear(path, stat)
    await this.storage.makeDirectory(this.native(path))
    this.#newDirectories.add(path)
  }

  /** Does a change of names, or completes one that was begun. `isNew`: the name must not be there. */
  async perform(op: NameOp, isNew = false): Promise<void> {
    await this.#checkWay(op.path)
    if (op.kind === 'link' || op.kind === 'rename') await this.#checkWay(op.to)
    this.#checkedDirectories.clear()
    switch (op.kind) {
      case 'file':
        if (isNew) await this.#open.create(op.path, this.native(op.path), 'create-new')
        else await this.ensureFile(op.path)
        this.#namesChanged(op.path)
        return
      case 'directory':
        await this.#ensureParents(op.path)
        await this.#ensureDirectory(op.path)
        return
      case 'symlink':
        await this.#ensureParents(op.path)
        await this.#putInPlace(op.path, made => this.storage.symlink(rawBytes(op.target), made))
        return
      case 'link':
        await this.#link(op.path, op.to)
        return
      case 'rename':
        await this.#rename(op.path, op.to)
        return
      case 'remove':
        await this.#remove(op.path)
        return
      case 'take':
        await this.#take(op.path, op.stage)
        return
      case 'other':
        throw new Error('a node of another kind is never made')
      default:
        unreachable(op)
    }
  }

  /** Makes something under a name in the sidecar, so that it takes its own name by one rename. */
  async #putInPlace(path: EntryPath, make: (made: string) => Promise<void>): Promise<void> {
    await this.#makeStageDirectory()
    const made = `${this.#stageDirectory}/node`
    await this.storage.remove(made)
    await make(made)
    await this.#moveOver(made, path)
    this.#dirtyDirectories.add(stagePrefix)
  }

  async #moveOver(from: NativePath, path: EntryPath): Promise<void> {
    await this.#open.closeTree(path)
    const existing = await this.stat(path)
    if (existing?.kind === 'directory') await this.#clear(path, existing)
    for (const directory of this.#newDirectories) {
      if (directory !== '' && !path.startsWith(`${directory}/`)) continue
      await this.#syncDirectories()
      break
    }
    await this.storage.rename(from, this.native(path))
    this.#namesChanged(path)
  }

  async #link(path: EntryPath, to: EntryPath): Promise<void> {
    const [existing, target] = [await this.stat(path), await this.stat(to)]
    if (target === undefined) {
      assert(existing !== undefined, `nothing to link '${displayPath(path)}' to`)
      return
    }
    this.#namesChanged(path)
    this.#dirtyDirectories.add(stagePrefix)
    if (existing?.inode === target.inode) return
    await this.#ensureParents(path)
    await this.#putInPlace(path, made => this.storage.link(this.native(to), made))
  }

  async #rename(from: EntryPath, to: EntryPath): Promise<void> {
    this.#namesChanged(from)
    this.#namesChanged(to)
    const moving = await this.stat(from)
    if (moving === undefined || from === to) return
    await this.#open.closeTree(from)
    const existing = await this.stat(to)
    // two names of one file: the system would leave both
    if (existing?.inode === moving.inode) return this.storage.remove(this.native(from))
    if (existing === undefined) await this.#ensureParents(to)
    else if (moving.kind === 'directory') await this.#clear(to, existing)
    await this.#moveOver(this.native(from), to)
    this.#namesChanged(from)
  }

  async #remove(path: EntryPath): Promise<void> {
    this.#namesChanged(path)
    const stat = await this.stat(path)
    if (stat !== undefined) await this.#clear(path, stat)
  }

  async #clear(path: EntryPath, stat: FileStat): Promise<void> {
    await this.#open.closeTree(path)
    if (stat.kind !== 'directory') return this.storage.remove(this.native(path))
    for (const directory of [...this.#dirtyDirectories]) {
      if (directory === path || directory.startsWith(`${path}/`)) this.#dirtyDirectories.delete(directory)
    }
    await this.storage.removeTree(this.native(path))
  }

  async #take(path: EntryPath, stage: number): Promise<void> {
    this.#namesChanged(path)
    // not every file system makes both ends of a rename durable with one of them
    this.#dirtyDirectories.add(stagePrefix)
    const made = this.#stagePath(stage)
    if ((await this.storage.stat(made)) === undefined) return
    await this.#ensureParents(path)
    await this.#moveOver(made, path)
    this.#dirtyDirectories.add(stagePrefix)
    await this.#open.rename(stagePrefix + stage, path)
  }

  #stagePath(stage: number): string {
    return `${this.#stageDirectory}/${stage}`
  }

  async #makeStageDirectory(): Promise<void> {
    if (this.#stageMade) return
    await this.storage.makeDirectory(this.#stageDirectory)
    await this.storage.syncDirectory(parentDirectory(this.#stageDirectory))
    this.#stageMade = true
  }

  /** Begins a new version of a file; what had this number is gone. */
  async createStage(stage: number): Promise<void> {
    await this.#makeStageDirectory()
    await this.storage.remove(this.#stagePath(stage))
    await this.#open.create(stagePrefix + stage, this.#stagePath(stage), 'create-new')
    this.#dirtyDirectories.add(stagePrefix)
  }

  async stageFile(stage: number): Promise<StorageFile> {
    const file = await this.#open.open(stagePrefix + stage, this.#stagePath(stage))
    assert(file !== undefined, `the new version ${stage} is gone`)
    return file
  }

  async writeStage(stage: number, offset: number, data: Uint8Array): Promise<void> {
    const file = await this.stageFile(stage)
    this.#open.wrote(stagePrefix + stage)
    await file.write(data, offset)
    this.#open.flush(stagePrefix + stage, data.length)
  }

  async truncateStage(stage: number, size: number): Promise<void> {
    const file = await this.stageFile(stage)
    this.#open.wrote(stagePrefix + stage)
    await file.truncate(size)
  }

  statStage(stage: number): Promise<FileStat | undefined> {
    return this.storage.stat(this.#stagePath(stage))
  }

  closeStage(stage: number): Promise<void> {
    return this.#open.close(stagePrefix + stage)
  }

  /** Removes all new versions but these. */
  async clearStages(keep: ReadonlySet<number>): Promise<void> {
    if ((await this.storage.stat(this.#stageDirectory)) === undefined) return
    for (const name of await this.storage.list(this.#stageDirectory)) {
      if (keep.has(Number(name))) continue
      await this.closeStage(Number(name))
      await this.storage.remove(`${this.#stageDirectory}/${name}`)
    }
  }

  async setAttributes(path: EntryPath, change: AttributesChange): Promise<void> {
    await this.#checkWay(path)
    await this.#setAttributes(path, this.native(path), change)
  }

  async setStageAttributes(stage: number, change: AttributesChange): Promise<void> {
    await this.stageFile(stage)
    await this.#setAttributes(stagePrefix + stage, this.#stagePath(stage), change)
  }

  async #setAttributes(key: string, path: NativePath, change: AttributesChange): Promise<void> {
    const kind = (await this.storage.stat(path))?.kind
    // opened before the mode may forbid it, so that it can be synced
    if (kind === 'file') await this.#open.open(key, path)
    if (change.xattrs !== undefined) {
      const present = await this.storage.xattrs(path)
      for (const name of Object.keys(present))
        if (!Object.hasOwn(change.xattrs, name)) await this.storage.setXattr(path, name, undefined)
      for (const [name, value] of Object.entries(change.xattrs))
        await this.storage.setXattr(path, name, value)
    }
    const { mode, uid, gid, mtimeNs } = change
    await this.storage.setAttributes(path, {
      ...(mode !== undefined && { mode }),
      ...(uid !== undefined && { uid }),
      ...(gid !== undefined && { gid }),
      ...(mtimeNs !== undefined && { mtimeNs }),
    })
    if (kind === 'file') this.#open.wrote(key, 'everything')
    else if (kind === 'directory') this.#dirtyDirectories.add(key)
    else this.#dirtyDirectories.add(parentKey(key))
  }

  /**
   * Resolves when all that was done is durable: files first, then the names. A directory is durable before what it
   * holds, and the new versions' directory comes last: so what was moved is lost at neither end.
   */
  async sync(): Promise<void> {
    this.#checkedDirectories.clear()
    await this.#open.sync()
    await this.#syncDirectories()
  }

  async #syncDirectories(): Promise<void> {
    for (const directory of [...this.#dirtyDirectories].sort((a, b) => depthOf(a) - depthOf(b))) {
      try {
        await this.storage.syncDirectory(this.#nativeDirectory(directory))
      } catch (error) {
        // removed since by a change of names, which marked the directory above
        if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error
      }
      this.#dirtyDirectories.delete(directory)
    }
    this.#newDirectories.clear()
  }

  #nativeDirectory(key: string): NativePath {
    if (key === outside) return parentDirectory(this.#root)
    if (key === stagePrefix) return this.#stageDirectory
    return this.native(key as EntryPath)
  }

  #namesChanged(path: EntryPath): void {
    this.#dirtyDirectories.add(parentKey(path))
  }

  close(): Promise<void> {
    return this.#open.closeAll()
  }
}

function depthOf(directory: string): number {
  if (directory === outside) return -1
  if (directory === stagePrefix) return Number.MAX_SAFE_INTEGER
  return directory === '' ? 0 : directory.split('/').length
}

function parentKey(path: string): string {
  if (path === '') return outside
  const cut = path.lastIndexOf('/')
  return cut < 0 ? '' : path.slice(0, cut)
}

function rawBytes(latin1: string): NativePath {
  const bytes = Buffer.from(latin1, 'latin1')
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes) ? text : bytes
}
