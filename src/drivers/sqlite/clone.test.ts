import assert from 'node:assert/strict'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkSqliteCopy } from './check.ts'
import { cloneSqliteCopy } from './clone.ts'
import { openSqliteReplica } from './replica.ts'
import { code, copyOptionsIn, optionsIn, scratch, source, sqlite3 } from './testing/copy-fixture.ts'

test('a clone is one file with the newest durable commit, made while the copy is followed', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const replica = await openSqliteReplica(optionsIn(dir.at))
  await feeder.send(replica)
  for (let i = 1; i <= 5; i++) {
    feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(9000))')
    const commit = await feeder.send(replica)
    await replica.sync()
    const destination = join(dir.at, `clone ${i}.db`)
    const report = await cloneSqliteCopy({ ...copyOptionsIn(dir.at), destination })
    assert.equal(report.commit.position, commit.position)
    assert.equal(report.commit.state, commit.state)
    assert.equal(readFileSync(destination).length, report.bytes)
    assert.equal(existsSync(`${destination}-wal`), false)
    assert.equal(sqlite3(destination, 'PRAGMA integrity_check; SELECT count(*) FROM t'), `ok\n${i}`)
    assert.equal(await code(cloneSqliteCopy({ ...copyOptionsIn(dir.at), destination })), 'usage')
  }
  await replica.close()
  const destination = join(dir.at, 'stopped.db')
  const report = await cloneSqliteCopy({ ...copyOptionsIn(dir.at), destination })
  assert.equal(report.commit.position, `n${feeder.number}`)
  assert.ok(readFileSync(destination).equals(readFileSync(join(dir.at, 'copy.db'))))
  feeder.close()
})

test('a check changes nothing, finds a copy valid, and equal to its source or to an earlier commit of it', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const against = join(dir.at, 'source.db')
  let replica = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(90000))')
  await feeder.send(replica)
  await replica.sync()
  let report = await checkSqliteCopy({ ...copyOptionsIn(dir.at), against })
  assert.deepEqual([report.valid, report.findings.length], [true, 3])
  assert.match(report.findings[1]!.what, /equal to the source's/)

  feeder.database.exec('INSERT INTO t(v) VALUES(1)')
  feeder.database.exec('INSERT INTO t(v) VALUES(2)')
  report = await checkSqliteCopy({ ...copyOptionsIn(dir.at), against })
  assert.equal(report.valid, true)
  assert.match(report.findings[1]!.what, /2 commits ago/)

  feeder.database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  report = await checkSqliteCopy({ ...copyOptionsIn(dir.at), against })
  assert.equal(report.valid, false)
  assert.match(report.findings[1]!.what, /2 of \d+ pages differ|1 of \d+ pages differ/)

  await replica.close()
  const before = readFileSync(join(dir.at, 'copy.db'))
  const names = readdirSync(dir.at).sort()
  assert.equal((await checkSqliteCopy(copyOptionsIn(dir.at))).valid, true)
  assert.ok(readFileSync(join(dir.at, 'copy.db')).equals(before))
  assert.deepEqual(readdirSync(dir.at).sort(), names)
  replica = await openSqliteReplica(optionsIn(dir.at))
  await replica.close()
  feeder.close()
})

test('one bit that is wrong makes a copy invalid, and no clone of it is given', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const replica = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(zeroblob(90000))')
  await feeder.send(replica)
  await replica.close()
  // within the blob, which integrity_check does not see
  const fd = openSync(join(dir.at, 'copy.db'), 'r+')
  writeSync(fd, Buffer.from([1]), 0, 1, 10 * 4096 + 2000)
  closeSync(fd)
  const report = await checkSqliteCopy(copyOptionsIn(dir.at))
  assert.equal(report.valid, false)
  assert.deepEqual(
    report.findings.map(finding => finding.ok),
    [false, true],
  )
  const destination = join(dir.at, 'clone.db')
  assert.equal(await code(cloneSqliteCopy({ ...copyOptionsIn(dir.at), destination })), 'target-changed')
  assert.equal(existsSync(destination), false)
  assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'target-changed')
  feeder.close()
})

test('what is no copy, or none yet, is said to be so', async () => {
  await using dir = await scratch()
  assert.equal(await code(checkSqliteCopy(copyOptionsIn(dir.at))), 'target-foreign')
  const feeder = source(dir.at)
  feeder.database.exec('INSERT INTO t(v) VALUES(zeroblob(90000))')
  const replica = await openSqliteReplica(optionsIn(dir.at))
  for (const entry of [...feeder.firstCopy(4)].slice(0, 12)) await replica.write(entry)
  await replica.sync()
  assert.equal(await code(checkSqliteCopy(copyOptionsIn(dir.at))), 'target-incomplete')
  await replica.close()
  feeder.close()
})
