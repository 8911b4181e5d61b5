/** Whether to compress what goes over a link: only while it saves bytes, and time. */

/** Passed in: the work is done elsewhere, and a link without it never compresses. */
export interface Compressor {
  compress(bytes: Buffer): Promise<Buffer>
  /** Rejects when it does not give exactly so many bytes. */
  decompress(bytes: Buffer, rawBytes: number): Promise<Buffer>
}

/** Saving less than a tenth is not worth the work. */
const ratioMax = 0.9
/** While off, one batch is tried again after so many bytes, or so long. */
const sampleEveryBytes = 16 * 1024 * 1024
const sampleEveryMs = 5000
/** Smaller ones tell nothing about the rest. */
const sampleBytesMin = 16 * 1024
const packBytesMin = 1024
/** A link that is quicker than the compressor ever is (250 MB/s) is not worth a sample. */
const compressorMsPerByte = 1 / 250_000
/** The link's pace is that of the last so many bytes, roughly. */
const paceBytes = 4 * 1024 * 1024

export class CompressionChoice {
  #on = false
  #rawSinceSample = 0
  #sampledMs = Number.NEGATIVE_INFINITY
  #msPerByte = 0

  get on(): boolean {
    return this.#on
  }

  /** Whether this batch is to be compressed, because it pays or to see whether it does. */
  wants(rawBytes: number, nowMs: number): boolean {
    if (this.#on) return rawBytes >= packBytesMin
    this.#rawSinceSample += rawBytes
    if (rawBytes < sampleBytesMin || this.#msPerByte < compressorMsPerByte) return false
    return this.#rawSinceSample >= sampleEveryBytes || nowMs - this.#sampledMs >= sampleEveryMs
  }

  /** What compressing a batch gave. True: the packed form is to be sent. */
  packed(rawBytes: number, packedBytes: number, tookMs: number, nowMs: number): boolean {
    const ratio = packedBytes / rawBytes
    if (rawBytes >= sampleBytesMin) {
      const wholeMs = rawBytes * this.#msPerByte
      this.#on = ratio <= ratioMax && tookMs + ratio * wholeMs < wholeMs
      this.#rawSinceSample = 0
      this.#sampledMs = nowMs
    }
    return ratio <= ratioMax
  }

  /** How long the link took to take so many bytes. */
  wrote(bytes: number, tookMs: number): void {
    const weight = Math.min(1, bytes / paceBytes)
    this.#msPerByte += weight * (tookMs / bytes - this.#msPerByte)
  }
}
