/**
 * A process for tests: fills the small disk that a copy is on, at each step of following in turn, and frees it again.
 * The copy must be at a whole transaction each time, and following must go on. Arguments: a directory of its own, the
 * small disk mounted in it.
 */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { seed } from '../../../os/testing/seed.ts'
import type { Replica } from '../../driver.ts'
import { openSqliteReplica } from '../replica.ts'
import { accountsSetupSql, accountsSql, accountsTotal, changeAccounts, randomFrom } from './accounts.ts'
import { CopyFeeder } from './copy-feeder.ts'
import { code, optionsIn, sqlite3 } from './copy-fixture.ts'

const [at, disk] = process.argv.slice(2) as [string, string]
mkdirSync(join(disk, 'sidecar'), { recursive: true })
const copy = join(disk, 'copy.db')
const ballast = join(disk, 'ballast')
const limits = { logBytesMax: 200_000 }
const random = randomFrom(seed)
const feeder = new CopyFeeder(join(at, 'source.db'), 4096, accountsSetupSql)
feeder.database.exec(accountsSql)

let faults = 0
let replica = await openSqliteReplica(optionsIn(disk), limits)
await feeder.send(replica)
await replica.sync()
for (let round = 0; round < 60; round++) {
  const freeBytes = statfsSync(disk).bavail * statfsSync(disk).bsize
  // leave room for one page more in each round, so that another step is the first to fail
  writeFileSync(ballast, Buffer.alloc(Math.max(0, freeBytes - round * 4096)))
  let failure = 'none'
  for (let i = 0; i < 8 && failure === 'none'; i++) {
    changeAccounts(feeder.database, random, 300)
    failure = await code(follow(replica))
  }
  if (failure !== 'none') {
    faults++
    assert.equal(failure, 'disk-full')
    await code(replica.close())
    const [integrity, total] = inspect()
    assert.deepEqual([integrity, total], ['ok', String(accountsTotal)])
    // still full: opening may fail, and must not harm
    const opened = await code(openSqliteReplica(optionsIn(disk), limits).then(other => other.close()))
    assert.ok(opened === 'none' || opened === 'disk-full', opened)
    rmSync(ballast)
    replica = await openSqliteReplica(optionsIn(disk), limits)
    await feeder.resume(replica)
    await follow(replica)
  }
  rmSync(ballast, { force: true })
  const number = feeder.database.prepare('SELECT number FROM progress').get() as { number: number }
  assert.deepEqual(inspect(), ['ok', String(accountsTotal), String(number.number)])
}
await replica.close()
console.log(JSON.stringify({ faults }))

async function follow(target: Replica): Promise<void> {
  await feeder.send(target)
  await target.sync()
}

/** By a connection of another process; on a full disk it may not be able to make its index. */
function inspect(): string[] {
  return sqlite3(
    copy,
    'PRAGMA integrity_check; SELECT sum(balance) FROM accounts; SELECT number FROM progress',
  ).split('\n')
}
