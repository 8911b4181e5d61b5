/** Small live stores of each kind, and what a user would see in a copy of them. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export interface LiveStore {
  readonly kind: string
  readonly path: string
  /** Commits one more. */
  add(): void
  /** How many commits a copy (or a clone) holds. */
  count(copy: string): number
  /** Changes a copy as an application that opened it would. */
  tamper(copy: string): void
  close(): void
}

export function sqliteStore(directory: string): LiveStore {
  const path = join(directory, 'app.db')
  const database = new DatabaseSync(path)
  database.exec('PRAGMA journal_mode = wal; CREATE TABLE t (n INTEGER PRIMARY KEY, fill TEXT)')
  const insert = database.prepare('INSERT INTO t (fill) VALUES (?)')
  return {
    kind: 'sqlite',
    path,
    add: () => void insert.run('x'.repeat(500)),
    count(copy) {
      const opened = new DatabaseSync(copy, { readOnly: true })
      try {
        return Number(opened.prepare('SELECT count(*) AS n FROM t').get()?.n)
      } finally {
        opened.close()
      }
    },
    tamper(copy) {
      const opened = new DatabaseSync(copy)
      opened.exec("INSERT INTO t (fill) VALUES ('not from the source'); PRAGMA wal_checkpoint(TRUNCATE)")
      opened.close()
    },
    close: () => database.close(),
  }
}

const recordBytes = 512

export function packsStore(directory: string): LiveStore {
  const path = join(directory, 'events.rdm')
  fs.mkdirSync(path)
  const pack = (number: number) => `${String(number).padStart(8, '0')}.pack`
  const perPack = 20
  let written = 0
  return {
    kind: 'packs',
    path,
    add() {
      const name = pack(1 + Math.floor(written / perPack))
      written++
      fs.appendFileSync(join(path, name), Buffer.alloc(recordBytes, written % 251))
    },
    count(copy) {
      const names = fs.readdirSync(copy).filter(name => name.endsWith('.pack'))
      const bytes = names.reduce((sum, name) => sum + fs.statSync(join(copy, name)).size, 0)
      return bytes / recordBytes
    },
    tamper(copy) {
      const newest = fs.readdirSync(copy).sort().at(-1) ?? ''
      fs.appendFileSync(join(copy, newest), 'not from the source')
    },
    close() {},
  }
}

export const storeKinds = [sqliteStore, packsStore]
