/**
 * An application of the demo, in a process of its own: a bank in a SQLite database. Each transaction moves money between
 * two accounts and writes the order down, so the sum of all balances never changes; to some orders belongs an upload, a
 * file that is written before the row that names it is committed. It knows nothing of hotspare.
 *
 * Arguments: the database, the directory of uploads. Says how many transactions it has committed, a line of JSON every 100 ms; ends on SIGTERM.
 */
import { DatabaseSync } from 'node:sqlite'
import { accounts, openingBalance } from './bank.ts'
import { uploadName, uploadOf, writeUpload } from './uploads.ts'
import { writeUntilTold } from './writer-loop.ts'

const [path = '', uploads = ''] = process.argv.slice(2)
const database = new DatabaseSync(path)
database.exec(`
  PRAGMA journal_mode = wal;
  PRAGMA synchronous = normal;
  PRAGMA busy_timeout = 1000;
  CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE orders (id INTEGER PRIMARY KEY, payer INTEGER NOT NULL, payee INTEGER NOT NULL, amount INTEGER NOT NULL,
    upload TEXT);
  BEGIN;
`)
const open = database.prepare('INSERT INTO accounts VALUES (?, ?)')
for (let id = 0; id < accounts; id++) open.run(id, openingBalance)
database.exec('COMMIT')

const begin = database.prepare('BEGIN IMMEDIATE')
const move = database.prepare('UPDATE accounts SET balance = balance + ? WHERE id = ?')
const order = database.prepare('INSERT INTO orders VALUES (?, ?, ?, ?, ?)')
const commit = database.prepare('COMMIT')

await writeUntilTold(15, number => {
  const payer = (number * 7_919) % accounts
  const payee = (payer + 1 + (number % (accounts - 1))) % accounts
  const amount = 1 + (number % 100)
  const upload = uploadOf(number)
  if (upload !== undefined) writeUpload(uploads, number, upload)
  begin.run()
  move.run(-amount, payer)
  move.run(amount, payee)
  order.run(number, payer, payee, amount, upload === undefined ? null : uploadName(number))
  commit.run()
})
database.close()
