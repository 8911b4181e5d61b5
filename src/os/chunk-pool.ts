/** Memory of chunks that were given back, so that a long copy does not allocate each of its bytes anew. */

export const chunkBytes = 1024 * 1024
const freeChunksMax = 8

export class ChunkPool {
  readonly #free: Buffer[] = []

  /** A chunk of `chunkBytes`, holding anything. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(chunkBytes)
  }

  /** The chunk must not be used afterwards. */
  give(chunk: Buffer): void {
    if (this.#free.length < freeChunksMax) this.#free.push(chunk)
  }
}
