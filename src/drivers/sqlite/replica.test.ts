import assert from 'node:assert/strict'
import { existsSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import type { Notice } from '../driver.ts'
import { openSqliteReplica } from './replica.ts'
import { code, optionsIn, scratch, source, sqlite3, store } from './testing/copy-fixture.ts'

for (const pageBytes of [512, 4096, 65536]) {
  test(`the bare command reads each transaction as soon as it is synced (pages of ${pageBytes})`, async () => {
    await using dir = await scratch()
    const feeder = source(dir.at, pageBytes)
    const replica = await openSqliteReplica(optionsIn(dir.at))
    assert.equal(await replica.position(store), undefined)
    for (let i = 1; i <= 30; i++) {
      feeder.database.exec(`INSERT INTO t(v) VALUES(randomblob(${(i * 997) % 9000}))`)
      const commit = await feeder.send(replica)
      await replica.sync()
      assert.equal(await replica.position(store), commit.position)
      assert.equal(replica.consistent()?.state, commit.state)
      assert.equal(
        sqlite3(join(dir.at, 'copy.db'), 'PRAGMA integrity_check; SELECT count(*) FROM t'),
        `ok\n${i}`,
      )
    }
    await replica.close()
    assert.equal(existsSync(join(dir.at, 'copy.db-wal')), false)
    assert.equal(sqlite3(join(dir.at, 'copy.db'), 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n30')
    const again = await openSqliteReplica(optionsIn(dir.at))
    assert.equal(await again.position(store), `n${feeder.number}`)
    feeder.database.exec('DELETE FROM t; VACUUM')
    await feeder.send(again)
    await again.sync()
    assert.equal(sqlite3(join(dir.at, 'copy.db'), 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n0')
    await again.close()
    feeder.close()
  })
}

test('a first copy goes on where it was stopped, and shows only when it is whole', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  feeder.database.exec(
    'INSERT INTO t(v) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<400) SELECT randomblob(1000) FROM n',
  )
  const entries = [...feeder.firstCopy(16)]
  const cut = entries.findIndex((entry, i) => entry.type === 'commit' && i > 40)
  let replica = await openSqliteReplica(optionsIn(dir.at))
  for (const entry of entries.slice(0, cut + 1)) await replica.write(entry)
  await replica.sync()
  // what comes after the commit is void
  await replica.write(entries[cut + 1]!)
  assert.equal(existsSync(join(dir.at, 'copy.db')), false)
  assert.equal(replica.consistent(), undefined)
  const stopped = await replica.position(store)
  assert.equal(stopped, (entries[cut] as { position?: string }).position)
  await replica.write(entries[cut + 1]!)
  await replica.close()

  replica = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await replica.position(store), stopped)
  const file = await (await replica.inventory?.(store))?.file('' as never)
  assert.ok(file !== undefined && file.size >= 16 * 4096)
  for (const entry of entries.slice(cut + 1)) await replica.write(entry)
  await replica.sync()
  assert.equal(await replica.position(store), `n${feeder.number}`)
  assert.equal(sqlite3(join(dir.at, 'copy.db'), 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n400')
  await replica.close()
  feeder.close()
})

test('a digest that does not fit is refused, and the copy stays at the transaction before', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  let replica = await openSqliteReplica(optionsIn(dir.at))
  const first = await feeder.send(replica)
  await replica.sync()
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(5000))')
  const spoilt = feeder.send(replica, entry => {
    if (entry.type !== 'write' || entry.offset === 0) return entry
    const data = Buffer.from(entry.data)
    data[100] = (data[100] as number) ^ 1
    return { ...entry, data }
  })
  assert.equal(await code(spoilt), 'digest-mismatch')
  await replica.close()
  assert.equal(sqlite3(join(dir.at, 'copy.db'), 'SELECT count(*) FROM t'), '0')
  replica = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await replica.position(store), first.position)
  await replica.close()
  feeder.close()
})

test('a transaction larger than memory allows shows whole or not at all', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  let replica = await openSqliteReplica(optionsIn(dir.at))
  const first = await feeder.send(replica)
  await replica.sync()
  feeder.database.exec(
    'INSERT INTO t(v) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<12000) SELECT randomblob(1500) FROM n',
  )
  const copy = join(dir.at, 'copy.db')
  const entries = [...feeder.difference()]
  assert.ok(entries.length > 4000)
  for (const entry of entries.slice(0, -2)) await replica.write(entry)
  assert.equal(sqlite3(copy, 'SELECT count(*) FROM t'), '0')
  // the source was interrupted: what came is void, and comes again
  assert.equal(await replica.position(store), first.position)
  for (const entry of entries) await replica.write(entry)
  await replica.sync()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n12000')
  await replica.close()
  replica = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await replica.position(store), `n${feeder.number}`)
  feeder.database.exec('DELETE FROM t WHERE id > 10; VACUUM')
  await feeder.send(replica)
  await replica.sync()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n10')
  await replica.close()
  feeder.close()
})

test('another page size is a new copy, which takes the place of the old one when it is whole', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const copy = join(dir.at, 'copy.db')
  const replica = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(1)')
  await feeder.send(replica)
  await replica.sync()
  feeder.database.exec('PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=WAL')
  feeder.database.exec('INSERT INTO t(v) VALUES(2)')
  const entries = [...feeder.firstCopy(2)]
  for (const entry of entries.slice(0, -2)) await replica.write(entry)
  await replica.sync()
  assert.equal(sqlite3(copy, 'SELECT count(*) FROM t; PRAGMA page_size'), '1\n4096')
  const reader = new DatabaseSync(copy, { readOnly: true })
  reader.prepare('SELECT count(*) FROM t').get()
  for (const entry of entries.slice(-2, -1)) await replica.write(entry)
  assert.equal(await code(replica.write(entries.at(-1)!)), 'target-busy')
  await replica.close()
  assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'target-busy')
  reader.close()
  const again = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await again.position(store), `n${feeder.number}`)
  assert.equal(
    sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t; PRAGMA page_size'),
    'ok\n2\n1024',
  )
  await again.close()
  feeder.close()
})

test('a copy that somebody changed is recognised, and taken as it is only with resync', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const copy = join(dir.at, 'copy.db')
  let replica = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(1),(2)')
  await feeder.send(replica)
  await replica.close()

  sqlite3(copy, 'SELECT * FROM t')
  replica = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await replica.position(store), `n${feeder.number}`, 'reading changes nothing')
  await replica.close()

  sqlite3(copy, 'UPDATE t SET v=7 WHERE id=1')
  assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'target-changed')
  assert.equal(sqlite3(copy, 'SELECT group_concat(v) FROM t'), '7,2', 'it is not overwritten')

  replica = await openSqliteReplica(optionsIn(dir.at, { resync: true }))
  assert.equal(await replica.position(store), undefined)
  const inventory = await replica.inventory?.(store)
  assert.notEqual(await inventory?.file('' as never), undefined)
  feeder.restart()
  await feeder.send(replica)
  await replica.sync()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT group_concat(v) FROM t'), 'ok\n1,2')
  await replica.close()
  feeder.close()
})

test('who writes the copy while it is followed is noticed before anything is written over it', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const copy = join(dir.at, 'copy.db')
  const replica = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(1)')
  await feeder.send(replica)
  await replica.sync()
  sqlite3(copy, 'INSERT INTO t(v) VALUES(99)')
  feeder.database.exec('INSERT INTO t(v) VALUES(2)')
  await feeder.send(replica)
  assert.equal(await code(replica.sync()), 'target-changed')
  await replica.close()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT group_concat(v) FROM t'), 'ok\n1,99')
  assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'target-changed')
  feeder.close()
})

test('what an outside command checkpoints, or truncates of the log, is no change', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const copy = join(dir.at, 'copy.db')
  const replica = await openSqliteReplica(optionsIn(dir.at))
  await feeder.send(replica)
  for (const mode of ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE', 'TRUNCATE', 'RESTART', 'PASSIVE']) {
    feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(3000))')
    await feeder.send(replica)
    await replica.sync()
    sqlite3(copy, `PRAGMA wal_checkpoint(${mode})`)
  }
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(3000))')
  await feeder.send(replica)
  await replica.sync()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n8')
  await replica.close()
  const again = await openSqliteReplica(optionsIn(dir.at))
  assert.equal(await again.position(store), `n${feeder.number}`)
  await again.close()
  feeder.close()
})

test('what is at the target and is not ours is left alone, or replaced with resync', async () => {
  for (const content of [
    '',
    'something else, and long enough to be read as a header of a database. '.repeat(9),
  ]) {
    await using dir = await scratch()
    const feeder = source(dir.at)
    const copy = join(dir.at, 'copy.db')
    writeFileSync(copy, content)
    assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'target-foreign')
    assert.equal(readFileSync(copy, 'utf8'), content)
    const notices: Notice[] = []
    const replica = await openSqliteReplica(
      optionsIn(dir.at, { resync: true, onNotice: notice => notices.push(notice) }),
    )
    assert.equal(await replica.position(store), undefined)
    assert.equal(await replica.inventory?.(store), undefined)
    await feeder.send(replica)
    await replica.close()
    assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n0')
    feeder.close()
  }
})

test('a foreign database is taken over with resync, whatever its journal mode', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const copy = join(dir.at, 'copy.db')
  sqlite3(copy, 'CREATE TABLE other(x); INSERT INTO other VALUES(randomblob(20000))')
  const replica = await openSqliteReplica(optionsIn(dir.at, { resync: true }))
  assert.equal(await replica.position(store), undefined)
  assert.notEqual(await replica.inventory?.(store), undefined)
  await feeder.send(replica)
  await replica.close()
  assert.equal(sqlite3(copy, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n0')
  feeder.close()
})

test('a record that is damaged is said to be, a copy that was removed is made anew', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  let replica = await openSqliteReplica(optionsIn(dir.at))
  await feeder.send(replica)
  await replica.close()
  rmSync(join(dir.at, 'copy.db'))
  const notices: Notice[] = []
  replica = await openSqliteReplica(optionsIn(dir.at, { onNotice: notice => notices.push(notice) }))
  assert.deepEqual(
    notices.map(notice => notice.code),
    ['copy-missing'],
  )
  assert.equal(await replica.position(store), undefined)
  feeder.restart()
  await feeder.send(replica)
  await replica.close()
  const state = openSync(join(dir.at, 'sidecar', 'state'), 'r+')
  for (const at of [50, 512 * 1024 + 50]) writeSync(state, 'XX', at)
  assert.equal(await code(openSqliteReplica(optionsIn(dir.at))), 'state-damaged')
  replica = await openSqliteReplica(optionsIn(dir.at, { resync: true }))
  assert.equal(await replica.position(store), undefined)
  await replica.close()
  feeder.close()
})

test('a commit without a page, and one that changes nothing, are taken', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const replica = await openSqliteReplica(optionsIn(dir.at))
  await feeder.send(replica)
  await replica.sync()
  const before = readFileSync(join(dir.at, 'copy.db-wal')).length
  const commit = await feeder.send(replica)
  await replica.sync()
  assert.equal(await replica.position(store), commit.position)
  assert.equal(readFileSync(join(dir.at, 'copy.db-wal')).length, before)
  await replica.close()
  feeder.close()
})

test('a power loss in the middle of a group leaves the group before, or the whole group', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const replica = await openSqliteReplica(optionsIn(dir.at))
  await feeder.send(replica)
  await replica.sync()
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(9000))')
  const first = await feeder.send(replica)
  await replica.sync()
  const files = ['copy.db', 'copy.db-wal', 'sidecar/state', 'sidecar/pages']
  const take = () => files.map(name => readFileSync(join(dir.at, name)))
  const before = take()
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(30000))')
  const second = await feeder.send(replica)
  await replica.sync()
  const after = take()
  await replica.close()
  feeder.close()

  const [walBefore, walAfter] = [before[1]!, after[1]!]
  const frameBytes = 24 + 4096
  const commitFrameAt = walAfter.length - frameBytes
  const logs: { what: string; wal: Buffer; whole: boolean }[] = [
    { what: 'nothing of the log', wal: walBefore, whole: false },
    { what: 'all but a byte', wal: walAfter.subarray(0, -1), whole: false },
    { what: 'all', wal: walAfter, whole: true },
    { what: 'a hole', wal: holed(walAfter, walBefore.length + 100, 512), whole: false },
    { what: 'only the commit frame', wal: holed(walAfter, walBefore.length, frameBytes), whole: false },
    { what: 'all but the commit frame', wal: walAfter.subarray(0, commitFrameAt), whole: false },
  ]
  const tornSlot = Buffer.from(after[2]!)
  for (let at = 0; at < tornSlot.length; at++) {
    // the first half of what was written
    if (tornSlot[at] === before[2]![at]) continue
    tornSlot.fill(0, at + 60, at + 4000)
    break
  }
  for (const { what, wal, whole } of logs) {
    // the record is durable before the commit frame is written at all
    const states = what === 'nothing of the log' ? [before[2]!, after[2]!, tornSlot] : [after[2]!]
    for (const state of states) {
      await using lost = await scratch()
      for (const [i, name] of files.entries()) {
        const bytes = name === 'copy.db-wal' ? wal : name === 'sidecar/state' ? state : after[i]!
        writeFileSync(join(lost.at, name), bytes)
      }
      const recovered = await openSqliteReplica(optionsIn(lost.at))
      assert.equal(await recovered.position(store), (whole ? second : first).position, what)
      assert.equal(recovered.consistent()?.state, (whole ? second : first).state, what)
      assert.equal(
        sqlite3(join(lost.at, 'copy.db'), 'PRAGMA integrity_check; SELECT count(*) FROM t'),
        `ok\n${whole ? 2 : 1}`,
      )
      await recovered.close()
    }
  }
})

function holed(bytes: Buffer, at: number, length: number): Buffer {
  const copy = Buffer.from(bytes)
  copy.fill(0, at, at + length)
  return copy
}
