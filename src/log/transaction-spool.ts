/**
 * The frames of one store's transaction until its commit: in memory while they are few, then in a file of their own,
 * which nobody reads after a crash.
 */
import { describeSystemError } from '../os/errors.ts'
import type { Storage, StorageFile } from '../os/storage.ts'
import { foldFrame } from './log-chain.ts'

const readBytes = 1024 * 1024

export class TransactionSpool {
  readonly #storage: Storage
  readonly #path: string
  readonly #memoryBytesMax: number
  #file: StorageFile | undefined
  #fileBytes = 0
  #memory: Buffer[] = []
  #memoryBytes = 0
  /** Digest of all frames (log-chain.ts). */
  content = 0n

  constructor(storage: Storage, path: string, memoryBytesMax: number) {
    this.#memoryBytesMax = memoryBytesMax
    this.#storage = storage
    this.#path = path
  }

  get bytes(): number {
    return this.#fileBytes + this.#memoryBytes
  }

  /** All frames, when none is in the file. */
  get memory(): readonly Buffer[] | undefined {
    return this.#fileBytes === 0 ? this.#memory : undefined
  }

  /** Takes the frame; resolves at once while there is room in memory. */
  add(frame: Buffer): Promise<void> | undefined {
    this.content = foldFrame(this.content, frame)
    this.#memory.push(frame)
    this.#memoryBytes += frame.length
    return this.#memoryBytes > this.#memoryBytesMax ? this.#spill() : undefined
  }

  async #spill(): Promise<void> {
    try {
      if (this.#file === undefined) {
        await this.#storage.remove(this.#path)
        this.#file = await this.#storage.open(this.#path, 'create-new')
      }
      for (const frame of this.#memory) {
        await this.#file.write(frame, this.#fileBytes)
        this.#fileBytes += frame.length
      }
    } catch (error) {
      throw describeSystemError(error, `Cannot keep a large transaction in '${this.#path}'`)
    }
    this.#memory = []
    this.#memoryBytes = 0
  }

  /** All that was added, in pieces. */
  async *read(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.#fileBytes; at += readBytes) {
      const piece = Buffer.allocUnsafeSlow(Math.min(readBytes, this.#fileBytes - at))
      const length = await (this.#file as StorageFile).read(piece, at)
      if (length !== piece.length) throw new Error(`'${this.#path}' is shorter than what was written to it`)
      yield piece
    }
    yield* this.#memory
  }

  /** Begins anew, empty. */
  async clear(): Promise<void> {
    this.#memory = []
    this.#memoryBytes = 0
    this.content = 0n
    if (this.#fileBytes === 0) return
    this.#fileBytes = 0
    await this.#file?.truncate(0)
  }

  async close(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    this.#memory = []
    this.#memoryBytes = 0
    this.#fileBytes = 0
    if (file === undefined) return
    await file.close()
    await this.#storage.remove(this.#path)
  }
}
