/** Reads a range of a file in chunks, one ahead of the consumer. */
import { type ChunkPool, chunkBytes } from '../../os/chunk-pool.ts'
import type { StorageFile } from '../../os/storage.ts'

export interface Chunk {
  readonly data: Buffer
  /** Gives the memory back; then `data` may hold anything. */
  recycle(): void
}

/** Each chunk is the consumer's own until it is recycled. Ends early where the file ends. */
export async function* readAhead(
  pool: ChunkPool,
  file: StorageFile,
  from: number,
  to: number,
): AsyncGenerator<Chunk> {
  let next = from < to ? readChunk(pool, file, from, to) : undefined
  try {
    for (let offset = from; next !== undefined; ) {
      const chunk: Chunk = await next
      const wanted = Math.min(chunkBytes, to - offset)
      const length = chunk.data.length
      offset += length
      next = length === wanted && offset < to ? readChunk(pool, file, offset, to) : undefined
      // whoever stops consuming never sees a failure of the chunk that was read ahead
      next?.catch(() => undefined)
      if (length > 0) yield chunk
    }
  } finally {
    // the descriptor may be closed only when nothing reads from it
    await next?.catch(() => undefined)
  }
}

async function readChunk(pool: ChunkPool, file: StorageFile, offset: number, to: number): Promise<Chunk> {
  const wanted = Math.min(chunkBytes, to - offset)
  // a short read is not worth a whole chunk
  if (wanted < chunkBytes / 4) {
    const buffer = Buffer.allocUnsafeSlow(wanted)
    return { data: buffer.subarray(0, await file.read(buffer, offset)), recycle: () => undefined }
  }
  const chunk = pool.take()
  const data = chunk.subarray(0, await file.read(chunk.subarray(0, wanted), offset))
  let isGiven = false
  return {
    data,
    recycle() {
      if (isGiven) return
      isGiven = true
      pool.give(chunk)
    },
  }
}
