/**
 * A process for tests: changes a source database at random, as fast as it can, and follows it into a copy; says after
 * each sync which transaction is durable there. Arguments: the directory, a seed.
 */

import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { openSqliteReplica } from '../replica.ts'
import { accountsSetupSql, accountsSql, changeAccounts, randomFrom } from './accounts.ts'
import { CopyFeeder } from './copy-feeder.ts'
import { optionsIn } from './copy-fixture.ts'

const [at, seed] = process.argv.slice(2) as [string, string]
const random = randomFrom(Number(seed))
const feeder = new CopyFeeder(join(at, 'source.db'), 4096, accountsSetupSql)
feeder.database.exec(accountsSql)
const replica = await openSqliteReplica(optionsIn(at), { logBytesMax: 300_000 })
await feeder.resume(replica)
for (;;) {
  const group = 1 + Math.floor(random() * 4)
  let done = 0
  for (let i = 0; i < group; i++) {
    done = changeAccounts(feeder.database, random)
    await feeder.send(replica)
  }
  await replica.sync()
  writeSync(1, `${done}\n`)
}
