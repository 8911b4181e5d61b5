/**
 * A process for tests: reads a copy again and again until it is told to end by SIGTERM, and checks in each read
 * transaction that the sum is right, that time doesn't go back, and now and then the whole database. Ends with status
 * 1 and a message at the first fault. Says `reading` after the first read. Arguments: the copy, how it opens it (`keep` or `reopen`), and `cycle` when
 * the transactions begin anew now and then.
 */
import { DatabaseSync } from 'node:sqlite'
import { setImmediate } from 'node:timers/promises'
import { accountsTotal } from './accounts.ts'

const [path, manner, cycle] = process.argv.slice(2) as [string, string, string | undefined]
let ending = false
process.on('SIGTERM', () => {
  ending = true
})
let reads = 0
let last = 0
let seen = 0
let database = new DatabaseSync(path, { timeout: 5000 })
while (!ending) {
  database.exec('BEGIN')
  const { number } = database.prepare('SELECT number FROM progress').get() as { number: number }
  const { total } = database.prepare('SELECT sum(balance) AS total FROM accounts').get() as { total: number }
  const fillers = database.prepare('SELECT sum(length(data)) AS bytes FROM filler').get() as { bytes: number }
  const again = database.prepare('SELECT number FROM progress').get() as { number: number }
  if (total !== accountsTotal) fail(`the sum is ${total} at ${number}`)
  if (number < last && cycle === undefined) fail(`commit ${number} was read after ${last}`)
  if (again.number !== number) fail(`commit ${number} became ${again.number} within a transaction`)
  if (typeof fillers.bytes !== 'number' && fillers.bytes !== null) fail('no sum')
  if (++reads === 1) console.log('reading')
  if (reads % 20 === 0) {
    const check = database.prepare('PRAGMA integrity_check').get() as { integrity_check: string }
    if (check.integrity_check !== 'ok') fail(`integrity_check: ${check.integrity_check} at ${number}`)
  }
  database.exec('COMMIT')
  if (number !== last) seen++
  last = number
  if (manner === 'reopen') {
    database.close()
    database = new DatabaseSync(path, { timeout: 5000 })
  }
  await setImmediate()
}
database.close()
console.log(JSON.stringify({ reads, seen, last }))

function fail(message: string): never {
  console.log(message)
  process.exit(1)
}
