/**
 * A process for tests: records transactions of a real database, and then applies them to a copy again and again at
 * full speed (the last is followed by one that leads back to the first); says how many were applied, once a second.
 * Arguments: the directory, a seed, the greatest size of the copy's log in bytes, transactions for each sync.
 */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { type Entry, position } from '../../../stream/entry.ts'
import { openSqliteReplica } from '../replica.ts'
import { accountsSetupSql, accountsSql, changeAccounts, randomFrom } from './accounts.ts'
import { CopyFeeder } from './copy-feeder.ts'
import { optionsIn } from './copy-fixture.ts'

const [at, seed, logBytesMax, perSync] = process.argv.slice(2) as [string, string, string, string]
const random = randomFrom(Number(seed))
const feeder = new CopyFeeder(join(at, 'source.db'), 4096, accountsSetupSql)
feeder.database.exec(accountsSql)
const first = [...feeder.difference()]
const transactions: Entry[][] = []
for (let i = 0; i < 400; i++) {
  changeAccounts(feeder.database, random)
  transactions.push([...feeder.difference()])
}
transactions.push(backTo(first, transactions))
const replica = await openSqliteReplica(optionsIn(at), { logBytesMax: Number(logBytesMax) })
for (const entry of first) await replica.write(entry)
await replica.sync()
let applied = 0
let bytes = 0
let printedMs = performance.now()
for (;;) {
  for (const transaction of transactions) {
    applied++
    for (const entry of transaction) {
      if (entry.type === 'write') bytes += entry.data.length
      await replica.write(entry.type === 'commit' ? { ...entry, position: position(`a${applied}`) } : entry)
    }
    if (applied % Number(perSync) === 0) await replica.sync()
    if (performance.now() - printedMs < 1000) continue
    printedMs = performance.now()
    writeSync(1, `${applied} ${Math.round(bytes / 1e6)} MB\n`)
  }
}

/** The pages that any transaction changed, as they were first; the size and the state as they were. */
function backTo(start: readonly Entry[], later: readonly Entry[][]): Entry[] {
  const changed = new Set<number>()
  for (const entry of later.flat()) if (entry.type === 'write') changed.add(entry.offset)
  return start.filter(entry => entry.type !== 'write' || changed.has(entry.offset))
}
