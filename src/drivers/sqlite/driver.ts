/** Wiring of the driver. What an act needs is loaded with it, so that a command starts with little. */
import { existsSync, readSync, statSync } from 'node:fs'
import type { Driver } from '../driver.ts'
import { databaseHeaderBytes, parseDatabaseHeader } from './database-header.ts'
import { openShared } from './descriptors.ts'

export const sqliteDriver: Driver = {
  name: 'sqlite',
  summary: 'SQLite databases: the pages first, then the committed transactions of the write-ahead log',
  profiles: [],
  capabilities: { singleFile: true, appendsOnly: false, holdsWriters: false, stateDigest: true },
  tools: [],
  async detect(path) {
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined
    const file = openShared(path, 'read')
    try {
      const bytes = Buffer.alloc(databaseHeaderBytes)
      readSync(file.fd, bytes, 0, databaseHeaderBytes, 0)
      const header = parseDatabaseHeader(bytes)
      if (header === undefined) return undefined
      const mode = header.wal ? 'WAL mode' : 'not in WAL mode'
      return { confidence: 1, reason: `SQLite database, pages of ${header.pageBytes} bytes, ${mode}` }
    } finally {
      file.release()
    }
  },
  async openSource(options) {
    const { SqliteSource } = await import('./source.ts')
    return new SqliteSource(options)
  },
  async openReplica(options) {
    const { openSqliteReplica } = await import('./replica.ts')
    return openSqliteReplica(options)
  },
  async recover() {
    // SQLite recovers a copy by itself at its next open: the transactions stand in the copy's own log
  },
  async check(options) {
    const { checkSqliteCopy } = await import('./check.ts')
    return checkSqliteCopy(options)
  },
  async checkLive(options) {
    const { checkLiveDatabase } = await import('./check.ts')
    return checkLiveDatabase(options)
  },
  async clone(options) {
    const { cloneSqliteCopy } = await import('./clone.ts')
    return cloneSqliteCopy(options)
  },
  async snapshot(options) {
    const { snapshotSqliteCopy } = await import('./snapshot.ts')
    return snapshotSqliteCopy(options)
  },
  async openCopySource(options) {
    const { openSqliteCopySource } = await import('./copy-source.ts')
    return openSqliteCopySource(options)
  },
  async backlog(source, position) {
    if (!existsSync(source)) return undefined
    const { walBacklog } = await import('./wal-backlog.ts')
    return walBacklog(source, position)
  },
}
