import assert from 'node:assert/strict'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Entry, Position } from '../../stream/entry.ts'
import type { Sink } from '../../stream/sink.ts'
import type { CopySource } from '../driver.ts'
import { openSqliteCopySource } from './copy-source.ts'
import { openSqliteReplica } from './replica.ts'
import { accountsSetupSql, accountsSql, changeAccounts, randomFrom } from './testing/accounts.ts'
import { CopyFeeder } from './testing/copy-feeder.ts'
import { code, copyOptionsIn, optionsIn, scratch, source, sqlite3, store } from './testing/copy-fixture.ts'

/** Gives the sink all that it lacks; the bytes of what was given. */
async function bring(from: CopySource, sink: Sink, each = async (_: Entry) => {}): Promise<number> {
  const options = {
    signal: new AbortController().signal,
    inventory: async () => sink.inventory?.(store),
  }
  let bytes = 0
  for await (const entry of from.read(await sink.position(store), options)) {
    if (entry.type === 'write') bytes += entry.data.length
    await sink.write(entry)
    await each(entry)
  }
  await sink.sync()
  return bytes
}

function directory(at: string, name: string): string {
  const path = join(at, name)
  mkdirSync(join(path, 'sidecar'), { recursive: true })
  return path
}

/** The engine finds it whole; a digest of its rows. */
function rowsOf(path: string): string {
  assert.equal(sqlite3(path, 'PRAGMA integrity_check'), 'ok')
  return sqlite3(path, '.sha3sum')
}

for (const seed of [1, 2, 3, 4, 5, 6]) {
  test(`a copy that is followed is given as it stood, to who has nothing, an old copy or the same (seed ${seed})`, async () => {
    await using dir = await scratch()
    const random = randomFrom(seed)
    const pageBytes = [512, 4096, 65536][seed % 3] as number
    const feeder = new CopyFeeder(join(dir.at, 'source.db'), pageBytes, accountsSetupSql)
    feeder.database.exec(accountsSql)
    // a log that is emptied seldom, often or at once
    const followed = await openSqliteReplica(optionsIn(dir.at), {
      logBytesMax: [1_000_000, 100_000, 1][seed % 3] as number,
    })
    const change = async (count: number) => {
      for (let i = 0; i < count; i++) {
        changeAccounts(feeder.database, random, 300)
        await feeder.send(followed)
        await followed.sync()
      }
    }
    const below = optionsIn(directory(dir.at, 'below'))
    let copy = await openSqliteReplica(below)
    for (let round = 0; round < 6; round++) {
      await change(1 + Math.floor(random() * 12))
      const frozen = await openSqliteCopySource(copyOptionsIn(dir.at))
      const expected = rowsOf(join(dir.at, 'copy.db'))
      const { position, state } = followed.consistent() as { position: Position; state: string }
      assert.deepEqual([frozen.commit.position, frozen.commit.state], [position, state])
      await change(Math.floor(random() * 5))
      let writes = 0
      await bring(frozen, copy, async ({ type }) => {
        if (type === 'write' && ++writes % 10 === 0) await change(1)
      })
      assert.equal(await bring(frozen, copy), 0, 'what is the same is not given again')
      await frozen.close()
      assert.equal(copy.consistent()?.position, position)
      assert.equal(copy.consistent()?.state, state)
      assert.equal(rowsOf(below.path), expected)
      if (random() < 0.3) {
        await copy.close()
        copy = await openSqliteReplica(below)
      }
    }
    await copy.close()
    await followed.close()
    feeder.close()
  })
}

test('of an old copy only the pages that differ are given', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const followed = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(zeroblob(3000000))')
  feeder.database.exec('UPDATE t SET v = randomblob(3000000)')
  await feeder.send(followed)
  await followed.sync()
  const copy = await openSqliteReplica(optionsIn(directory(dir.at, 'below')))
  const first = await openSqliteCopySource(copyOptionsIn(dir.at))
  assert.ok((await bring(first, copy)) >= 3_000_000)
  await first.close()
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(100))')
  await feeder.send(followed)
  await followed.sync()
  const second = await openSqliteCopySource(copyOptionsIn(dir.at))
  const bytes = await bring(second, copy)
  await second.close()
  assert.ok(bytes > 0 && bytes <= 10 * 4096, `${bytes} bytes`)
  await copy.close()
  await followed.close()
  feeder.close()
})

test('a first copy that is broken off again and again goes on where it was', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const followed = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec(
    'INSERT INTO t(v) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<220) SELECT randomblob(50000) FROM n',
  )
  await feeder.send(followed)
  await followed.sync()
  const below = optionsIn(directory(dir.at, 'below'))
  const givens: number[] = []
  for (let attempt = 0; ; attempt++) {
    assert.ok(attempt < 10, `it never ends: ${givens}`)
    const copy = await openSqliteReplica(below)
    const frozen = await openSqliteCopySource(copyOptionsIn(dir.at), { lostBytesMax: 2_000_000 })
    let given = 0
    const broken = new Error('the link broke')
    const result = await bring(frozen, copy, async entry => {
      if (entry.type === 'write') given += entry.data.length
      if (given > 5_000_000) throw broken
    }).catch(error => error)
    givens.push(given)
    await frozen.close()
    await copy.close()
    if (result !== broken) break
  }
  assert.ok(givens.length >= 3 && givens.length <= 4, `${givens}`)
  assert.equal(sqlite3(below.path, 'PRAGMA integrity_check; SELECT count(*) FROM t'), 'ok\n220')
  await followed.close()
  feeder.close()
})

test('a copy that is not what was recorded is not given on', async () => {
  await using dir = await scratch()
  const feeder = source(dir.at)
  const followed = await openSqliteReplica(optionsIn(dir.at))
  feeder.database.exec('INSERT INTO t(v) VALUES(randomblob(90000))')
  await feeder.send(followed)
  await followed.close()
  const fd = openSync(join(dir.at, 'copy.db'), 'r+')
  writeSync(fd, Buffer.from('x'), 0, 1, 50_000)
  closeSync(fd)
  const below = optionsIn(directory(dir.at, 'below'))
  const copy = await openSqliteReplica(below)
  const frozen = await openSqliteCopySource(copyOptionsIn(dir.at))
  assert.equal(await code(bring(frozen, copy)), 'target-changed')
  await frozen.close()
  assert.equal(copy.consistent(), undefined)
  await copy.close()
  feeder.close()
})
