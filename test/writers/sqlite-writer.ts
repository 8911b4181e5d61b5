/**
 * A writer of a SQLite database for tests and benchmarks, in a process of its own: accounts whose balances sum up to
 * zero, and a table of numbered rows, of which each transaction adds some. Prints `start N`, then the last committed
 * number at most every `--report-ms` (with `--report-times` and when it was committed, in milliseconds since 1970), and at the
 * end `done N`. With `--times` the file gets the time of each transaction's commit: pairs of a number and milliseconds
 * since 1970, as 64-bit floats.
 *
 *   node sqlite-writer.ts DATABASE [--seconds S] [--rows R] [--mode immediate|deferred] [--synchronous OFF|NORMAL|FULL]
 *     [--autocheckpoint PAGES] [--id K] [--pause-ms P] [--report-ms P] [--report-times] [--journal WAL|DELETE] [--prefill MB] [--times FILE]
 */
import { writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '3600' },
    rows: { type: 'string', default: '1' },
    mode: { type: 'string', default: 'immediate' },
    synchronous: { type: 'string', default: 'NORMAL' },
    autocheckpoint: { type: 'string', default: '1000' },
    id: { type: 'string', default: '1' },
    'pause-ms': { type: 'string', default: '0' },
    'report-ms': { type: 'string', default: '20' },
    'report-times': { type: 'boolean', default: false },
    journal: { type: 'string', default: 'WAL' },
    prefill: { type: 'string', default: '0' },
    times: { type: 'string' },
  },
})
const id = Number(values.id)
const accounts = 1000
const database = new DatabaseSync(positionals[0] as string, { timeout: 10_000 })
database.exec(`PRAGMA journal_mode = ${values.journal}; PRAGMA synchronous = ${values.synchronous};
  PRAGMA wal_autocheckpoint = ${values.autocheckpoint}`)
database.exec(`BEGIN IMMEDIATE;
  CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS entry (writer INTEGER, number INTEGER, body TEXT, PRIMARY KEY (writer, number)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS filler (id INTEGER PRIMARY KEY, body BLOB);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${accounts})
    INSERT OR IGNORE INTO account SELECT i, 0 FROM n;
  COMMIT`)
for (let megabyte = 0; megabyte < Number(values.prefill); megabyte++) {
  database.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 256)
    INSERT INTO filler (body) SELECT randomblob(4000) FROM n`)
}
const last = database.prepare('SELECT max(number) AS number FROM entry WHERE writer = ?').get(id) as {
  number: number | null
}
const move = database.prepare('UPDATE account SET balance = balance + ? WHERE id = ?')
const look = database.prepare('SELECT sum(balance) AS total FROM account WHERE id < 4')
const insert = database.prepare('INSERT INTO entry VALUES (?, ?, ?)')
const body = 'x'.repeat(100)
const end = performance.now() + Number(values.seconds) * 1000
let number = last.number ?? 0
let reportedMs = performance.now()
const begin = database.prepare(values.mode === 'deferred' ? 'BEGIN' : 'BEGIN IMMEDIATE')
const commit = database.prepare('COMMIT')
const times: number[] = []
process.stdout.write(`start ${number}\n`)
while (performance.now() < end) {
  begin.run()
  if (values.mode === 'deferred') look.get()
  for (let row = 0; row < Number(values.rows); row++) insert.run(id, ++number, body)
  const amount = number % 97
  move.run(amount, (number % accounts) + 1)
  move.run(-amount, ((number * 7) % accounts) + 1)
  commit.run()
  const now = performance.now()
  if (values.times !== undefined) times.push(number, performance.timeOrigin + now)
  if (now - reportedMs >= Number(values['report-ms'])) {
    reportedMs = now
    const time = values['report-times'] ? ` ${performance.timeOrigin + now}` : ''
    process.stdout.write(`${number}${time}\n`)
  }
  if (values['pause-ms'] !== '0')
    await new Promise(resolve => setTimeout(resolve, Number(values['pause-ms'])))
}
if (values.times !== undefined) writeFileSync(values.times, new Float64Array(times))
process.stdout.write(`done ${number}\n`)
database.close()
