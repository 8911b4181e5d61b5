import { existsSync, readSync, statSync } from 'node:fs'
import type { Driver } from '../driver.ts'
import { checkSqliteCopy } from './check.ts'
import { cloneSqliteCopy } from './clone.ts'
import { databaseHeaderBytes, parseDatabaseHeader } from './database-header.ts'
import { openShared } from './descriptors.ts'
import { openSqliteReplica } from './replica.ts'
import { SqliteSource } from './source.ts'
import { walBacklog } from './wal-backlog.ts'

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
    return new SqliteSource(options)
  },
  openReplica: openSqliteReplica,
  async recover() {
    // SQLite recovers a copy by itself at its next open: the transactions stand in the copy's own log
  },
  check: checkSqliteCopy,
  clone: cloneSqliteCopy,
  async backlog(source, position) {
    return existsSync(source) ? walBacklog(source, position) : undefined
  },
}
