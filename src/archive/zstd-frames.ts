/**
 * Cuts a zstd file into its frames (RFC 8878, 3.1), without decompressing them: the decoder of Node.js takes one frame.
 * Only lengths are read here; whether a frame's bytes are right is its decoder's to say.
 */

const magic = 0xfd2fb528
/** What any decoder passes over: 0x184D2A50 to 0x184D2A5F, then a length. */
const skippableMagic = 0x184d2a50
const skippableMask = 0xfffffff0
const headBytesMax = 18
const dictionaryBytes = [0, 1, 2, 4]
const contentSizeBytes = [0, 2, 4, 8]
const rleBlock = 1

export interface ZstdFrame {
  /** Where it begins in the file. */
  readonly offset: number
  /** To be read to the end before the next frame is asked for. */
  pieces(): AsyncGenerator<Buffer>
}

export class ZstdFrames {
  readonly #source: AsyncIterator<Buffer>
  #chunk: Buffer = Buffer.alloc(0)
  #offset = 0

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** Of what was taken. */
  get offset(): number {
    return this.#offset
  }

  /** The next frame that has content; 'end', or 'other' when something else stands there. */
  async next(): Promise<ZstdFrame | 'end' | 'other'> {
    for (;;) {
      const head = await this.#peek(8)
      if (head.length === 0) return 'end'
      if (head.length < 8) return 'other'
      const found = head.readUInt32LE(0)
      if (found === magic) return { offset: this.#offset, pieces: () => this.#frame() }
      if ((found & skippableMask) >>> 0 !== skippableMagic) return 'other'
      for await (const _ of this.#take(8 + head.readUInt32LE(4)));
    }
  }

  async *#frame(): AsyncGenerator<Buffer> {
    const head = await this.#peek(headBytesMax)
    const descriptor = head[4] ?? 0
    const isSingle = (descriptor & 0x20) !== 0
    const sizeFlag = descriptor >> 6
    const sizeBytes = sizeFlag === 0 && isSingle ? 1 : (contentSizeBytes[sizeFlag] ?? 0)
    yield* this.#take(5 + (isSingle ? 0 : 1) + (dictionaryBytes[descriptor & 3] ?? 0) + sizeBytes)
    for (let isLast = false; !isLast; ) {
      const block = await this.#peek(3)
      if (block.length < 3) {
        // cut short: the decoder says so
        yield* this.#take(block.length)
        return
      }
      const header = block.readUIntLE(0, 3)
      isLast = (header & 1) !== 0
      const isRle = ((header >> 1) & 3) === rleBlock
      yield* this.#take(3 + (isRle ? 1 : header >> 3))
    }
    if ((descriptor & 4) !== 0) yield* this.#take(4)
  }

  /** So many bytes without taking them; fewer only at the end of the file. */
  async #peek(length: number): Promise<Buffer> {
    while (this.#chunk.length < length) {
      const { value, done } = await this.#source.next()
      if (done === true) break
      this.#chunk = this.#chunk.length === 0 ? value : Buffer.concat([this.#chunk, value])
    }
    return this.#chunk.subarray(0, length)
  }

  async *#take(length: number): AsyncGenerator<Buffer> {
    for (let rest = length; rest > 0; ) {
      if (this.#chunk.length === 0 && (await this.#peek(1)).length === 0) return
      const piece = this.#chunk.subarray(0, rest)
      this.#chunk = this.#chunk.subarray(piece.length)
      this.#offset += piece.length
      rest -= piece.length
      yield piece
    }
  }
}
