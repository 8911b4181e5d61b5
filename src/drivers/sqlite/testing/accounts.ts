/** For tests: an application whose database has an invariant, the sum of all balances, and numbers its commits. */
import type { DatabaseSync } from 'node:sqlite'

export const accountsTotal = 100_000

/** The database shrinks with its content; must come first. */
export const accountsSetupSql = 'PRAGMA auto_vacuum = FULL'

export const accountsSql = `
  CREATE TABLE IF NOT EXISTS accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS filler(id INTEGER PRIMARY KEY, data BLOB);
  CREATE TABLE IF NOT EXISTS progress(number INTEGER NOT NULL);
  INSERT INTO progress SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM progress);
  INSERT INTO accounts
    WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    SELECT i, 1000 FROM n WHERE NOT EXISTS (SELECT 1 FROM accounts);
`

/** One transaction, of few pages or many; gives its number. */
export function changeAccounts(database: DatabaseSync, random: () => number, rowsMax = 3000): number {
  const id = () => 1 + Math.floor(random() * 100)
  const amount = Math.floor(random() * 50)
  database.exec('BEGIN IMMEDIATE')
  database.exec(`UPDATE accounts SET balance = balance - ${amount} WHERE id = ${id()}`)
  database.exec(`UPDATE accounts SET balance = balance + ${amount} WHERE id = ${id()}`)
  const kind = random()
  if (kind < 0.5) {
    const count = kind < 0.02 ? rowsMax : 5
    database.exec(
      `INSERT INTO filler(data) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < ${count})
       SELECT randomblob(${Math.floor(random() * 2500)}) FROM n`,
    )
  } else if (kind < 0.55) {
    database.exec(`DELETE FROM filler WHERE id > (SELECT max(id) * ${random()} FROM filler)`)
  }
  database.exec('UPDATE progress SET number = number + 1')
  const { number } = database.prepare('SELECT number FROM progress').get() as { number: number }
  database.exec('COMMIT')
  return number
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
