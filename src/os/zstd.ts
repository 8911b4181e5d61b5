import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)

/** zstd at its quickest level, by the threads of Node.js: the event loop goes on meanwhile. */
export const zstdCompressor = {
  compress(bytes: Buffer): Promise<Buffer> {
    return compress(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
  },

  /** Rejects when it does not give exactly so many bytes; never takes more memory than that. */
  async decompress(bytes: Buffer, rawBytes: number): Promise<Buffer> {
    const raw = await decompress(bytes, { maxOutputLength: Math.max(rawBytes, 1) })
    if (raw.length !== rawBytes) throw new Error(`${raw.length} bytes instead of ${rawBytes}`)
    return raw
  },
}
