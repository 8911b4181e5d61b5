/** Where an archive's frames go. Each gets them in order, and says at the end that all of them are there and right. */
import type { Writable } from 'node:stream'
import type { StorageFile } from '../os/storage.ts'
import type { ArchiveFormat } from './compression.ts'
import type { ArchiveFrame } from './frame-queue.ts'
import { ReadBack } from './read-back.ts'
import type { ReadBackResult } from './read-back-messages.ts'

export interface ArchiveOutput {
  /** Takes the frame with backpressure; its memory is the caller's again when this has resolved. */
  write(frame: ArchiveFrame): Promise<void>
  /** Resolves when all was read back and proved, and is where it should be (in a file: durable). */
  finish(): Promise<ReadBackResult>
  close(): Promise<void>
}

/** Written bytes are sent on their way to the disk in steps, so that little is left for the end. */
const syncBytes = 32 * 1024 * 1024

/** A file that is read back while it grows. */
export class FileOutput implements ArchiveOutput {
  readonly #file: StorageFile
  readonly #readBack: ReadBack
  #offset = 0
  #checked: Promise<void> = Promise.resolve()
  #syncing: Promise<void> | undefined
  #unsynced = 0
  #error: { readonly error: unknown } | undefined

  constructor(file: StorageFile, path: string, format: ArchiveFormat, readBack = new ReadBack()) {
    this.#file = file
    this.#readBack = readBack
    readBack.begin({ format, path })
  }

  async write({ bytes, rawBytes }: ArchiveFrame): Promise<void> {
    if (this.#error !== undefined) throw this.#error.error
    const offset = this.#offset
    await this.#file.write(bytes, offset)
    this.#offset += bytes.length
    this.#checked = this.#note(this.#readBack.check({ offset, length: bytes.length, rawBytes }))
    this.#unsynced += bytes.length
    if (this.#unsynced >= syncBytes && this.#syncing === undefined) {
      this.#unsynced = 0
      this.#syncing = this.#note(this.#file.sync()).finally(() => {
        this.#syncing = undefined
      })
    }
  }

  /** A failure is met at the next write, or at the end. */
  #note(work: Promise<void>): Promise<void> {
    return work.catch(error => {
      this.#error ??= { error }
    })
  }

  async finish(): Promise<ReadBackResult> {
    const synced = Promise.resolve(this.#syncing).then(() => this.#file.sync('everything'))
    await Promise.all([this.#checked, this.#note(synced)])
    if (this.#error !== undefined) throw this.#error.error
    return this.#readBack.finish(this.#offset)
  }

  async close(): Promise<void> {
    await this.#syncing
    await this.#readBack.close()
    await this.#file.close()
  }
}

/** So many frames are on their way through the check. */
const framesMax = 8

/** A stream gets a frame only when it has been decoded and proved. */
export class StreamOutput implements ArchiveOutput {
  readonly #stream: Writable
  readonly #readBack: ReadBack
  #offset = 0
  #waiting = 0
  #sent: Promise<void> = Promise.resolve()
  #error: { readonly error: unknown } | undefined
  readonly #wakes: (() => void)[] = []
  readonly #onError = (error: unknown): void => this.#fail(error)
  readonly #onClose = (): void =>
    this.#fail(Object.assign(new Error('the output was closed'), { code: 'EPIPE' }))

  constructor(stream: Writable, format: ArchiveFormat, readBack = new ReadBack()) {
    this.#stream = stream
    this.#readBack = readBack
    readBack.begin({ format, path: undefined })
    stream.on('error', this.#onError)
    stream.on('close', this.#onClose)
  }

  #fail(error: unknown): void {
    this.#error ??= { error }
    this.#changed()
  }

  #changed(): void {
    for (const wake of this.#wakes.splice(0)) wake()
  }

  async write({ bytes, rawBytes }: ArchiveFrame): Promise<void> {
    // the frame's memory is used again, and the thread gets a copy of its own as well
    const own = Buffer.from(bytes)
    const checked = this.#readBack.check({ offset: this.#offset, length: own.length, rawBytes, bytes: own })
    this.#offset += own.length
    this.#waiting++
    this.#sent = this.#sent
      .then(async () => {
        await checked
        if (this.#error === undefined) await this.#send(own)
      })
      .catch(error => this.#fail(error))
      .finally(() => {
        this.#waiting--
        this.#changed()
      })
    checked.catch(() => {})
    while (this.#waiting >= framesMax && this.#error === undefined) await this.#change()
    if (this.#error !== undefined) throw this.#error.error
  }

  #change(): Promise<void> {
    return new Promise(resolve => {
      this.#wakes.push(resolve)
    })
  }

  async #send(bytes: Buffer): Promise<void> {
    let drained = false
    const isFull = !this.#stream.write(bytes)
    if (!isFull) return
    this.#stream.once('drain', () => {
      drained = true
      this.#changed()
    })
    while (!drained && this.#error === undefined) await this.#change()
  }

  async finish(): Promise<ReadBackResult> {
    while (this.#waiting > 0 && this.#error === undefined) await this.#change()
    if (this.#error !== undefined) throw this.#error.error
    return this.#readBack.finish(this.#offset)
  }

  async close(): Promise<void> {
    this.#stream.off('close', this.#onClose)
    this.#stream.off('error', this.#onError)
    // who closed it early gets no error that nobody listens to
    if (this.#error !== undefined) this.#stream.on('error', () => {})
    await this.#readBack.close()
  }
}
