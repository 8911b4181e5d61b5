import { ChunkPool } from '../../os/chunk-pool.ts'

export interface PageRun {
  readonly firstPage: number
  /** Whole pages, the consumer's own until `recycle`. */
  readonly bytes: Buffer
  recycle(): void
}

/** A database file. */
export interface PageReader {
  /** Resolves with the bytes that were read: less than asked for only at the file's end. */
  readPagesAsync(buffer: Buffer, offset: number): Promise<number>
}

/** The pages of a database file as they are now, in ascending order, one run read ahead. Ends at the file's end. */
export async function* scanPages(file: PageReader, pageBytes: number): AsyncGenerator<PageRun> {
  const pool = new ChunkPool()
  const readRun = async (firstPage: number): Promise<PageRun> => {
    const chunk = pool.take()
    const bytes = await file.readPagesAsync(chunk, (firstPage - 1) * pageBytes)
    let recycled = false
    return {
      firstPage,
      bytes: chunk.subarray(0, bytes - (bytes % pageBytes)),
      recycle() {
        if (recycled) return
        recycled = true
        pool.give(chunk)
      },
    }
  }
  let next: Promise<PageRun> | undefined = readRun(1)
  try {
    while (next !== undefined) {
      const run: PageRun = await next
      next = undefined
      if (run.bytes.length === 0) return
      next = readRun(run.firstPage + run.bytes.length / pageBytes)
      // whoever stops consuming never sees a failure of what was read ahead
      next.catch(() => undefined)
      yield run
    }
  } finally {
    // the connections may be closed only when nothing reads any more
    await next?.catch(() => undefined)
  }
}
