/**
 * Compresses frames in the thread pool, several at once. zstd's contexts are kept from frame to frame: each is megabytes
 * outside the heap, and to make one for every frame drives collections of all the heap. A frame's bytes do not depend on
 * the frames before it.
 */
import { availableParallelism } from 'node:os'
import * as zlib from 'node:zlib'
import { HotspareError } from '../os/errors.ts'
import { type ArchiveFormat, encodeFrame, frameBytes, zstdParameters } from './compression.ts'

/** Of memory that frames are written to, one after another. */
const chunkBytes = 1024 * 1024

export class FrameEncoder {
  readonly #format: ArchiveFormat
  readonly #level: number
  readonly #idle: ZstdContext[] = []
  readonly #all: ZstdContext[] = []
  readonly #waiting: ((context: ZstdContext) => void)[] = []
  /** One for each core: more of them take the memory next to the cores from one another. */
  readonly #contextsMax = availableParallelism()

  constructor(format: ArchiveFormat, level: number) {
    this.#format = format
    this.#level = level
  }

  /** `data` must not change until it resolves; a tar's frame is `data` itself. */
  async encode(data: Buffer): Promise<Buffer> {
    // a frame that is not whole goes another way through zstd, which depends on the room that there is
    if (this.#format !== 'tar.zst' || data.length !== frameBytes)
      return encodeFrame(this.#format, this.#level, data)
    const context = await this.#take()
    try {
      return await context.encode(data)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#idle.push(context)
      else next(context)
    }
  }

  #take(): Promise<ZstdContext> | ZstdContext {
    const idle = this.#idle.pop()
    if (idle !== undefined) return idle
    if (this.#all.length < this.#contextsMax) {
      const context = new ZstdContext(this.#level)
      this.#all.push(context)
      return context
    }
    return new Promise(resolve => {
      this.#waiting.push(resolve)
    })
  }

  /** When nothing is being encoded any more. */
  close(): void {
    for (const context of this.#all) context.close()
  }
}

/** A stream of zstd's that ends a frame with everything that is written to it. */
class ZstdContext {
  readonly #stream: zlib.ZstdCompress
  #pieces: Buffer[] = []
  #error: Error | undefined
  #reject: ((error: Error) => void) | undefined

  constructor(level: number) {
    this.#stream = zlib.createZstdCompress({
      chunkSize: chunkBytes,
      flush: zlib.constants.ZSTD_e_end,
      params: zstdParameters(level),
    })
    this.#stream.on('data', (piece: Buffer) => this.#pieces.push(piece))
    this.#stream.on('error', error => {
      // what is being written is not called back then
      this.#error = error
      this.#reject?.(error)
    })
  }

  async encode(data: Buffer): Promise<Buffer> {
    if (this.#error !== undefined) throw this.#error
    await new Promise<void>((resolve, reject) => {
      this.#reject = reject
      this.#stream.write(data, error => (error ? reject(error) : resolve()))
    })
    const pieces = this.#pieces
    this.#pieces = []
    const [only] = pieces
    if (only === undefined) throw new HotspareError('archive-damaged', 'A frame was compressed to nothing.')
    return pieces.length === 1 ? only : Buffer.concat(pieces)
  }

  close(): void {
    this.#stream.destroy()
  }
}
