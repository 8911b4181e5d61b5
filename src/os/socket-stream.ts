/** A byte stream out of what Node.js reads from and writes to: a socket, or the two pipes of a process. */
import type { Readable, Writable } from 'node:stream'
import type { ByteStream } from './transport.ts'

/** Read and not taken yet; then the other side waits. */
const readBytesMax = 1024 * 1024
/** Written and not taken by the system yet; then the writer waits. */
const writeBytesMax = 1024 * 1024

export interface SocketStreamOptions {
  readonly peer: string
  readonly binding?: Buffer
  readonly certificate?: string
  /** Sends what was written, and ends both directions. */
  close(): void
}

export class SocketStream implements ByteStream {
  readonly peer: string
  readonly binding?: Buffer
  readonly certificate?: string
  readonly #readable: Readable
  readonly #writable: Writable
  readonly #close: () => void
  #pieces: Buffer[] = []
  #bytes = 0
  #ended = false
  #closed = false
  #error: Error | undefined
  #arrived: (() => void) | undefined
  #drained: (() => void)[] = []

  constructor(readable: Readable, writable: Writable, options: SocketStreamOptions) {
    this.peer = options.peer
    if (options.binding !== undefined) this.binding = options.binding
    if (options.certificate !== undefined) this.certificate = options.certificate
    this.#readable = readable
    this.#writable = writable
    this.#close = options.close
    const fail = (error: Error) => {
      this.#error ??= error
      this.#changed()
    }
    const end = () => {
      this.#ended = true
      this.#changed()
    }
    readable.on('error', fail)
    readable.once('end', end)
    readable.once('close', end)
    if ((writable as unknown) !== readable) {
      writable.on('error', fail)
    }
    writable.once('close', () => this.#wakeWriters())
    writable.on('drain', () => this.#wakeWriters())
  }

  async *read(): AsyncIterable<Buffer> {
    this.#readable.on('data', (piece: Buffer) => {
      if (this.#closed) return
      this.#pieces.push(piece)
      this.#bytes += piece.length
      if (this.#bytes >= readBytesMax) this.#readable.pause()
      this.#arrived?.()
    })
    this.#readable.resume()
    for (;;) {
      const pieces = this.#pieces
      if (pieces.length > 0 && !this.#closed) {
        this.#pieces = []
        for (const piece of pieces) {
          this.#bytes -= piece.length
          yield piece
        }
        if (this.#readable.isPaused() && this.#bytes < readBytesMax) this.#readable.resume()
      } else if (this.#error !== undefined && !this.#closed) throw this.#error
      else if (this.#ended || this.#closed) return
      else {
        await new Promise<void>(resolve => {
          this.#arrived = resolve
        })
        this.#arrived = undefined
      }
    }
  }

  async write(data: Uint8Array, taken?: () => void): Promise<void> {
    this.#checkWritable()
    this.#writable.write(data, error => {
      if (error == null) taken?.()
    })
    if (this.#writable.writableLength <= writeBytesMax) return
    await new Promise<void>(resolve => {
      this.#drained.push(resolve)
    })
    this.#checkWritable()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#close()
    this.#changed()
  }

  #checkWritable(): void {
    if (this.#error !== undefined) throw this.#error
    if (this.#closed) throw new Error('the stream is closed')
    if (this.#writable.destroyed || this.#writable.writableEnded)
      throw new Error('the other side has closed the connection')
  }

  #changed(): void {
    this.#arrived?.()
    this.#wakeWriters()
  }

  #wakeWriters(): void {
    const drained = this.#drained
    this.#drained = []
    for (const wake of drained) wake()
  }
}
