/** The first 100 bytes of a SQLite database (https://sqlite.org/fileformat2.html#the_database_header). */
import { isPageSize } from './wal-format.ts'

export const databaseHeaderBytes = 100
const magic = Buffer.from('SQLite format 3\0', 'latin1')

export interface DatabaseHeader {
  readonly pageBytes: number
  /** Bytes 18 and 19 are 2: the write-ahead log is used. */
  readonly wal: boolean
  /** Size in pages, trusted only where `pagesValid`. */
  readonly pages: number
  /** The size was written by an engine that keeps it (its change counter equals the version-valid-for number). */
  readonly pagesValid: boolean
  /** Rises with each transaction in rollback mode. */
  readonly changeCounter: number
  /** SQLITE_VERSION_NUMBER of the engine that wrote last, e.g. 3045001. */
  readonly engineVersion: number
}

/** Undefined when the bytes are not a database's (empty, encrypted, something else). */
export function parseDatabaseHeader(bytes: Buffer): DatabaseHeader | undefined {
  if (bytes.length < databaseHeaderBytes || !bytes.subarray(0, 16).equals(magic)) return undefined
  const rawPageBytes = bytes.readUInt16BE(16)
  const pageBytes = rawPageBytes === 1 ? 65536 : rawPageBytes
  if (!isPageSize(pageBytes)) return undefined
  const changeCounter = bytes.readUInt32BE(24)
  return {
    pageBytes,
    wal: bytes[18] === 2 && bytes[19] === 2,
    pages: bytes.readUInt32BE(28),
    pagesValid: changeCounter === bytes.readUInt32BE(92) && bytes.readUInt32BE(28) > 0,
    changeCounter,
    engineVersion: bytes.readUInt32BE(96),
  }
}

/** Marks page 1 as WAL mode: a copy is always kept in WAL mode, whatever its source's mode. */
export function markWalMode(pageOne: Uint8Array): void {
  pageOne[18] = 2
  pageOne[19] = 2
}

/** The page that holds the lock bytes at 1 GiB: never written, in no database. */
export function lockPage(pageBytes: number): number {
  return 0x40000000 / pageBytes + 1
}
