/**
 * Files and directories that are copied whole. A file takes its name on the copy atomically, by `replaced`; a directory
 * is filled under a temporary name and renamed.
 */

import { ChunkPool, chunkBytes } from '../../os/chunk-pool.ts'
import type { Clock } from '../../os/clock.ts'
import { isSystemError } from '../../os/errors.ts'
import type { FileStat, Storage, StorageFile } from '../../os/storage.ts'
import {
  displayPath,
  type Entry,
  type EntryPath,
  entryPath,
  nativePath,
  type StoreName,
} from '../../stream/entry.ts'
import type { Notice } from '../driver.ts'
import type { Scan } from './pack-set.ts'
import type { WholeFile } from './profile.ts'
import { readAhead } from './read-ahead.ts'

/** A file that changes while it is read is read again so often; then the last reading stands until the next. */
const readTriesMax = 3
/** A file of more than `chunkBytes` that keeps changing is sent again at most this often. */
const resendIntervalMs = 1000

/** What tells one version of a file from the next without reading it. */
export type FileIdentity = string

export function fileIdentity(stat: FileStat): FileIdentity {
  return `${stat.inode}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`
}

export class WholeFiles {
  readonly #storage: Storage
  readonly #clock: Clock
  readonly #store: StoreName
  readonly #root: string
  readonly #onNotice: (notice: Notice) => void
  readonly #sent = new Map<string, { identity: FileIdentity; sentMs: number }>()
  readonly #chunks = new ChunkPool()
  #deferredUntilMs: number | undefined

  constructor(options: {
    storage: Storage
    clock: Clock
    store: StoreName
    root: string
    onNotice(notice: Notice): void
  }) {
    this.#storage = options.storage
    this.#clock = options.clock
    this.#store = options.store
    this.#root = options.root
    this.#onNotice = notice => options.onNotice(notice)
  }

  forget(): void {
    this.#sent.clear()
    this.#deferredUntilMs = undefined
  }

  /** The copy has this version. */
  know(name: string, identity: FileIdentity): void {
    this.#sent.set(name, { identity, sentMs: 0 })
  }

  drop(name: string): void {
    this.#sent.delete(name)
  }

  /** Milliseconds until a deferred file is due. */
  retryInMs(): number {
    if (this.#deferredUntilMs === undefined) return Number.POSITIVE_INFINITY
    return Math.max(0, this.#deferredUntilMs - this.#clock.nowMs())
  }

  vanished(scan: Scan): string[] {
    return [...this.#sent.keys()].filter(name => !scan.view.entries.has(name))
  }

  /** Those that have changed since they were sent. */
  async *send(scan: Scan): AsyncGenerator<Entry> {
    this.#deferredUntilMs = undefined
    for (const whole of scan.layout.wholes) {
      const stat = scan.view.entries.get(whole.name)
      if (stat === undefined) continue
      const known = this.#sent.get(whole.name)
      const identity = whole.content === undefined ? fileIdentity(stat) : contentIdentity(whole.content)
      if (known?.identity === identity) continue
      const dueMs = (known?.sentMs ?? 0) + resendIntervalMs
      if (known !== undefined && stat.size > chunkBytes && this.#clock.nowMs() < dueMs) {
        this.#deferredUntilMs = Math.min(this.#deferredUntilMs ?? dueMs, dueMs)
        continue
      }
      yield* this.sendOne(whole)
    }
  }

  async *sendOne(whole: WholeFile): AsyncGenerator<Entry> {
    const path = entryPath(whole.name)
    if (whole.content !== undefined) {
      yield { type: 'replace', store: this.#store, path }
      yield { type: 'write', store: this.#store, path, offset: 0, data: Buffer.from(whole.content) }
      yield { type: 'replaced', store: this.#store, path }
      this.#sent.set(whole.name, { identity: contentIdentity(whole.content), sentMs: this.#clock.nowMs() })
      return
    }
    const file = await this.#open(path)
    // it is gone: the next look finds that out
    if (file === undefined) return
    try {
      let identity = ''
      for (let tries = 1; ; tries++) {
        const before = await file.stat()
        identity = fileIdentity(before)
        yield { type: 'replace', store: this.#store, path }
        yield* this.#content(file, path, before.size)
        const after = await file.stat()
        if (fileIdentity(after) === identity) break
        if (tries === readTriesMax) {
          this.#onNotice({
            code: 'changed-while-read',
            message: `${displayPath(whole.name)} in ${this.#root} changed while it was read, ${readTriesMax} times; it is sent again when it has changed.`,
          })
          break
        }
      }
      yield { type: 'replaced', store: this.#store, path }
      this.#sent.set(whole.name, { identity, sentMs: this.#clock.nowMs() })
    } finally {
      await file.close()
    }
  }

  /** Nothing when the directory went away before all its files were open. */
  async *sendTree(name: string): AsyncGenerator<Entry> {
    const temporary = `${name}.tmp`
    const files = await this.#openTree(name)
    if (files === undefined) return
    try {
      yield { type: 'remove', store: this.#store, path: entryPath(temporary) }
      yield { type: 'node', store: this.#store, path: entryPath(temporary), node: { kind: 'directory' } }
      for (const [inner, file] of files) {
        const path = entryPath(`${temporary}/${inner}`)
        const { size } = await file.stat()
        yield { type: 'write', store: this.#store, path, offset: 0, data: Buffer.alloc(0) }
        yield* this.#content(file, path, size)
      }
      // a copy that was stopped just after the renaming may have it already
      yield { type: 'remove', store: this.#store, path: entryPath(name) }
      yield { type: 'rename', store: this.#store, path: entryPath(temporary), to: entryPath(name) }
    } finally {
      for (const [, file] of files) await file.close()
    }
  }

  async *#content(file: StorageFile, path: EntryPath, size: number): AsyncGenerator<Entry> {
    let offset = 0
    for await (const { data, recycle } of readAhead(this.#chunks, file, 0, size)) {
      const { length } = data
      yield { type: 'write', store: this.#store, path, offset, data, recycle }
      offset += length
    }
  }

  async #open(path: EntryPath): Promise<StorageFile | undefined> {
    try {
      return await this.#storage.open(nativePath(this.#root, path), 'read')
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined
      throw error
    }
  }

  async #openTree(name: string): Promise<[string, StorageFile][] | undefined> {
    const files: [string, StorageFile][] = []
    const directory = nativePath(this.#root, entryPath(name))
    try {
      const names = await this.#storage.list(directory)
      for (const inner of names.sort()) {
        const file = await this.#open(entryPath(`${name}/${inner}`))
        if (file === undefined) break
        files.push([inner, file])
      }
      if (files.length === names.length && (await this.#storage.stat(directory)) !== undefined) return files
    } catch (error) {
      await closeAll(files)
      if (isSystemError(error, 'ENOENT')) return undefined
      throw error
    }
    await closeAll(files)
    return undefined
  }
}

async function closeAll(files: readonly [string, StorageFile][]): Promise<void> {
  for (const [, file] of files) await file.close()
}

export function contentIdentity(content: Buffer): FileIdentity {
  return `content:${content.toString('latin1')}`
}
