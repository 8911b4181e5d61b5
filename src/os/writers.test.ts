import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { writersOf } from './writers.ts'

test('another process that has the store open for writing is named, one that reads is not', async t => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'hotspare-writers-')))
  t.after(() => rm(directory, { recursive: true }))
  const path = join(directory, 'app.db')
  await writeFile(path, '')
  const open = async (file: string, how: '<' | '<>') => {
    const child = spawn('sh', ['-c', `exec 3${how}"$1"; echo ready; read line`, 'sh', file])
    await once(child.stdout, 'data')
    return {
      pid: child.pid,
      async [Symbol.asyncDispose]() {
        child.stdin.end()
        await once(child, 'exit')
      },
    }
  }
  assert.deepEqual(await writersOf(path), [])
  {
    await using reader = await open(path, '<')
    assert.ok(reader.pid !== undefined)
    assert.deepEqual(await writersOf(path), [])
  }
  for (const file of [path, `${path}-wal`]) {
    await using writer = await open(file, '<>')
    assert.deepEqual(await writersOf(path), [`sh, process ${writer.pid}`])
    assert.deepEqual(await writersOf(directory), [`sh, process ${writer.pid}`])
  }
  assert.deepEqual(await writersOf(path), [])
})
