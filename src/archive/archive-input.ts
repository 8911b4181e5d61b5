/**
 * The bytes of an archive file, decompressed as they are read, whoever made it. What cannot be decompressed is a fault
 * that says where in the file; so is what follows the end of the compressed data.
 */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import * as zlib from 'node:zlib'
import { unreachable } from '../os/errors.ts'
import type { Storage, StorageFile } from '../os/storage.ts'
import { type ArchiveFormat, formatOfBytes } from './compression.ts'
import { ZstdFrames } from './zstd-frames.ts'

const readBytes = 1024 * 1024
/** zstd's window may be as large as its own command takes without being told otherwise: 128 MiB. */
const zstdWindowLogMax = 27

export interface ArchiveInputOptions {
  readonly signal: AbortSignal
  onProgress(done: { readonly bytes: number; readonly totalBytes: number }): void
}

export class ArchiveInput {
  readonly format: ArchiveFormat
  /** Of the file. */
  readonly fileBytes: number
  readonly #file: StorageFile
  readonly #options: ArchiveInputOptions
  #fault: string | undefined

  /** The system's error when there is no such file. */
  static async open(storage: Storage, path: string, options: ArchiveInputOptions): Promise<ArchiveInput> {
    const file = await storage.open(path, 'read')
    try {
      const { size } = await file.stat()
      const first = Buffer.alloc(4)
      await file.read(first, 0)
      return new ArchiveInput(file, size, formatOfBytes(first), options)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(
    file: StorageFile,
    fileBytes: number,
    format: ArchiveFormat,
    options: ArchiveInputOptions,
  ) {
    this.#file = file
    this.fileBytes = fileBytes
    this.format = format
    this.#options = options
  }

  /** What is wrong with the file itself, seen when its bytes came to their end. */
  get fault(): string | undefined {
    return this.#fault
  }

  /** The tar archive, in pieces that the caller may change. Once. */
  async *chunks(): AsyncGenerator<Buffer> {
    switch (this.format) {
      case 'tar':
        yield* this.#read()
        return
      case 'tar.gz':
        yield* this.#decode(zlib.createGunzip({ chunkSize: readBytes }), this.#read(), 0, this.fileBytes)
        return
      case 'tar.zst':
        yield* this.#frames()
        return
      default:
        unreachable(this.format)
    }
  }

  async *#frames(): AsyncGenerator<Buffer> {
    const frames = new ZstdFrames(this.#read())
    const params = { [zlib.constants.ZSTD_d_windowLogMax]: zstdWindowLogMax }
    for (;;) {
      const frame = await frames.next()
      if (frame === 'end') return
      if (frame === 'other') {
        this.#fault = this.#follows(frames.offset)
        return
      }
      const decoder = zlib.createZstdDecompress({ chunkSize: readBytes, params })
      yield* this.#decode(decoder, frame.pieces(), frame.offset)
      if (this.#fault !== undefined) return
    }
  }

  /** Of what begins at `offset`, and has so many bytes, when that is known before. */
  async *#decode(
    decoder: zlib.Gunzip | zlib.ZstdDecompress,
    source: AsyncGenerator<Buffer>,
    offset: number,
    length?: number,
  ): AsyncGenerator<Buffer> {
    // a failure of either reaches who reads the decoder
    const fed = pipeline(Readable.from(source, { objectMode: false }), decoder).catch(() => {})
    try {
      yield* decoder as AsyncIterable<Buffer>
      if (length !== undefined && decoder.bytesWritten < length)
        this.#fault = this.#follows(offset + decoder.bytesWritten)
    } catch (error) {
      if (!isDecoderError(error)) throw error
      this.#fault = `it cannot be decompressed from about byte ${offset + decoder.bytesWritten} of ${this.fileBytes} on (${(error as Error).message})`
    } finally {
      decoder.destroy()
      await fed
    }
  }

  #follows(offset: number): string {
    return `something that is not compressed data follows byte ${offset} of ${this.fileBytes}`
  }

  async *#read(): AsyncGenerator<Buffer> {
    const { signal, onProgress } = this.#options
    for (let offset = 0; offset < this.fileBytes; ) {
      signal.throwIfAborted()
      const chunk = Buffer.allocUnsafe(Math.min(readBytes, this.fileBytes - offset))
      const length = await this.#file.read(chunk, offset)
      if (length === 0) return
      offset += length
      yield chunk.subarray(0, length)
      onProgress({ bytes: offset, totalBytes: this.fileBytes })
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

function isDecoderError(error: unknown): boolean {
  // an AbortError has a number there
  const code = String((error as NodeJS.ErrnoException).code)
  return code.startsWith('Z_') || code.startsWith('ZSTD_')
}
