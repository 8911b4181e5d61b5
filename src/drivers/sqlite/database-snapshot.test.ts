import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { systemClock } from '../../os/clock.ts'
import { DatabaseSnapshot } from './database-snapshot.ts'

test('what is found out while a snapshot is taken is of the commit that it shows, however many come meanwhile', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-snapshot-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'live.db')
  const writer = new DatabaseSync(path)
  t.after(() => writer.close())
  writer.exec('PRAGMA journal_mode=wal; CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (0)')
  let committed = 0
  const commit = () => writer.prepare('UPDATE t SET n = ?').run(++committed)
  const seen: number[] = []
  const snapshot = await DatabaseSnapshot.open(path, systemClock, {
    whenHeld: () => {
      seen.push(committed)
      // others go on, three times
      for (let i = 0; i < 5 && seen.length <= 3; i++) commit()
    },
  })
  try {
    for (let i = 0; i < 5; i++) commit()
    const { n } = snapshot.connection.prepare('SELECT n FROM t').get() as { n: number }
    assert.deepEqual(seen, [0, 5, 10, 15])
    assert.equal(n, 15)
  } finally {
    snapshot.close()
  }
})
