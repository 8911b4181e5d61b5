import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { closeFd, openRoot, syncFileSystemAside } from '../../os/tree-calls.ts'
import { SyncAhead } from './copy-ahead.ts'

const openDescriptors = () => readdirSync('/proc/self/fd').length

test('a sync aside comes to its end, whether it went well or not', async () => {
  const fd = openRoot(tmpdir())
  await Promise.all([syncFileSystemAside(fd), syncFileSystemAside(fd), syncFileSystemAside(-1)])
  closeFd(fd)
})

test('little is not sent ahead; what is under way at the close is waited for, and nothing stays open', async () => {
  const ahead = new SyncAhead(tmpdir())
  // the pool's threads and what they need are there
  await syncFileSystemAside(-1)
  const before = openDescriptors()
  ahead.wrote(1024, 1)
  assert.equal(openDescriptors(), before)
  for (let i = 0; i < 10; i++) ahead.wrote(64 * 1024 * 1024, 1000)
  assert.equal(openDescriptors(), before + 1)
  await ahead.close()
  assert.equal(openDescriptors(), before)
})
