import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { enableCompileCache, getCompileCacheDir } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { startThread } from './thread.ts'

const directory = mkdtempSync(join(tmpdir(), 'hotspare-thread-'))
const base = pathToFileURL(join(directory, 'who-starts-it.ts')).href
after(() => rmSync(directory, { recursive: true }))

test('a thread has what it was given, and the compiled code of its process', async () => {
  const first = `
    import { getCompileCacheDir } from 'node:module'
    import { parentPort, workerData } from 'node:worker_threads'
    parentPort.on('message', message => {
      parentPort.postMessage({ cache: getCompileCacheDir(), workerData, message })
      parentPort.close()
    })`
  writeFileSync(join(directory, 'first.ts'), first)
  const told = async () => {
    const worker = startThread('./first', base, { workerData: 7 })
    worker.postMessage('asked at once')
    // what it says last may come together with its end
    const [[answer]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    return answer
  }
  const message = 'asked at once'
  assert.deepEqual(await told(), { cache: undefined, workerData: 7, message })
  enableCompileCache(join(directory, 'cache'))
  const cache = getCompileCacheDir()
  assert.ok(cache?.startsWith(directory))
  assert.deepEqual(await told(), { cache, workerData: 7, message })
})

test('what the first module of a thread throws ends the thread', async () => {
  writeFileSync(join(directory, 'throws.ts'), `throw new Error('as it began')`)
  const worker = startThread('./throws', base)
  const [error] = await once(worker, 'error')
  assert.match(error.message, /as it began/)
})
