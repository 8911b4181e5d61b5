import assert from 'node:assert/strict'
import fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { look } from './scan-look.ts'
import { scratch } from './testing/source-fixture.ts'

test('a directory that was removed after it was opened is one that is not there, and no error', t => {
  const gone = join(scratch(t), 'gone')
  fs.mkdirSync(gone)
  const root = fs.openSync(gone, fs.constants.O_DIRECTORY)
  t.after(() => fs.closeSync(root))
  fs.rmdirSync(gone)
  const item = { path: '', block: undefined, watch: false }
  const { results } = look({ kind: 'look', root, inotify: -1, watchMask: 0, racyMs: 20, items: [item] })
  assert.deepEqual(results, [{ item: 0, block: undefined, directories: [] }])
})
