/**
 * Files of a copy that are held open while they are written, and what of them is not durable yet.
 *
 * Invariant: a file that was written stays open until it has been synced, so that no error of writing it back is lost.
 */
import { isSystemError } from '../os/errors.ts'
import type { NativePath, Storage, StorageFile } from '../os/storage.ts'

const openFilesMax = 128
const syncsAtOnceMax = 16

/** So many bytes are written before their way to the disk begins, so that the sync at the end has little left to do. */
const flushBytes = 8 * 1024 * 1024

interface OpenFile {
  readonly file: StorageFile
  dirty: 'no' | 'content' | 'everything'
  unflushedBytes: number
  /** A sync that goes on while more is written; gives what went wrong. */
  flushing: Promise<unknown> | undefined
}

export class OpenFiles {
  readonly #storage: Storage
  /** The least recently used first. */
  readonly #files = new Map<string, OpenFile>()

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /** The file of this key when it is open. */
  get(key: string): StorageFile | undefined {
    return this.#use(key)?.file
  }

  /** A key is a path within the copy, or begins with '//'. The file, opened when it is not; undefined when it does not exist. */
  async open(key: string, path: NativePath): Promise<StorageFile | undefined> {
    const known = this.#use(key)
    if (known !== undefined) return known.file
    try {
      return await this.#add(key, await this.#storage.open(path, 'write'))
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined
      throw error
    }
  }

  async create(key: string, path: NativePath, mode: 'create' | 'create-new'): Promise<StorageFile> {
    const file = await this.#add(key, await this.#storage.open(path, mode))
    this.wrote(key)
    return file
  }

  wrote(key: string, what: 'content' | 'everything' = 'content'): void {
    const open = this.#files.get(key)
    if (open !== undefined && open.dirty !== 'everything') open.dirty = what
  }

  /** Bytes are written: their way to the disk may begin. */
  flush(key: string, bytes: number): void {
    const open = this.#files.get(key)
    if (open === undefined) return
    open.unflushedBytes += bytes
    if (open.unflushedBytes < flushBytes || open.flushing !== undefined) return
    open.unflushedBytes = 0
    open.flushing = open.file.sync().then(
      () => {
        open.flushing = undefined
      },
      error => error,
    )
  }

  #use(key: string): OpenFile | undefined {
    const known = this.#files.get(key)
    if (known === undefined) return undefined
    this.#files.delete(key)
    this.#files.set(key, known)
    return known
  }

  async #add(key: string, file: StorageFile): Promise<StorageFile> {
    this.#files.set(key, { file, dirty: 'no', unflushedBytes: 0, flushing: undefined })
    if (this.#files.size > openFilesMax) await this.#makeRoom(key)
    return file
  }

  async #makeRoom(keep: string): Promise<void> {
    await this.sync()
    for (const key of this.#files.keys()) {
      if (this.#files.size <= openFilesMax / 2) return
      if (key !== keep) await this.close(key)
    }
  }

  /** Resolves when all that was written is durable. */
  async sync(): Promise<void> {
    const dirty = [...this.#files.values()].filter(open => open.dirty !== 'no')
    for (let at = 0; at < dirty.length; at += syncsAtOnceMax) {
      await allSettled(
        dirty.slice(at, at + syncsAtOnceMax).map(async open => {
          await flushed(open)
          await open.file.sync(open.dirty === 'everything' ? 'everything' : 'content')
          open.dirty = 'no'
          open.unflushedBytes = 0
        }),
      )
    }
  }

  async close(key: string): Promise<void> {
    const open = this.#files.get(key)
    this.#files.delete(key)
    if (open === undefined) return
    try {
      await flushed(open)
    } finally {
      await open.file.close()
    }
  }

  /** Closes what has this path or lies below it, without a sync. */
  async closeTree(path: string): Promise<void> {
    const below = path === '' ? '' : `${path}/`
    for (const key of [...this.#files.keys()]) {
      if (key === path || (key.startsWith(below) && !key.startsWith('//'))) await this.close(key)
    }
  }

  /** The open file has another name now. */
  async rename(from: string, to: string): Promise<void> {
    const open = this.#files.get(from)
    await this.close(to)
    this.#files.delete(from)
    if (open !== undefined) this.#files.set(to, open)
  }

  async closeAll(): Promise<void> {
    const all = [...this.#files.values()]
    this.#files.clear()
    await allSettled(
      all.map(async open => {
        await open.flushing
        await open.file.close()
      }),
    )
  }
}

/** The system tells the error of a sync once, so it is told on. */
async function flushed(open: OpenFile): Promise<void> {
  const error = await open.flushing
  open.flushing = undefined
  if (error !== undefined) throw error
}

/** Waits for all, so that nothing goes on behind a fault; then throws the first. */
async function allSettled(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) {
    if (result.status === 'rejected') throw result.reason
  }
}
