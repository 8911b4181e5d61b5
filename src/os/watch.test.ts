import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openWatcher, type Watcher, watchEvent } from './watch.ts'

const never = new AbortController().signal
const patienceMs = 10_000

function scratch(t: TestContext): string {
  const path = fs.mkdtempSync(join(tmpdir(), 'hotspare-watch-'))
  t.after(() => fs.rmSync(path, { recursive: true }))
  return path
}

function watching(t: TestContext, ...paths: string[]): Watcher {
  const watcher = openWatcher()
  t.after(() => watcher.close())
  for (const path of paths) assert.equal(watcher.add(path, watchEvent.modify | watchEvent.create), true)
  return watcher
}

function inChild(script: string, before = ''): { status: number | null; stdout: string; stderr: string } {
  const code = `import { openWatcher, watchEvent } from ${JSON.stringify(new URL('./watch.ts', import.meta.url))}; ${script}`
  const command = `${before} exec "$0" --input-type=module -e "$1"`
  return spawnSync('sh', ['-c', command, process.execPath, code], { encoding: 'utf8', timeout: patienceMs })
}

test('a change wakes a pending wait', async t => {
  const path = scratch(t)
  const watcher = watching(t, path)
  const waiting = watcher.wait(never, patienceMs)
  fs.writeFileSync(join(path, 'a'), 'x')
  assert.equal(await waiting, 'changed')
  assert.notEqual(watcher.takeEvents() & watchEvent.create, 0)
})

test('a hint that arrives between two waits is not lost', async t => {
  const path = scratch(t)
  const watcher = watching(t, path)
  const other = watching(t, path)
  fs.writeFileSync(join(path, 'a'), 'x')
  assert.equal(await other.wait(never, patienceMs), 'changed')
  assert.equal(await watcher.wait(never, patienceMs), 'changed')
})

test('nothing wakes it but a change, the time or an abort', async t => {
  const watcher = watching(t, scratch(t))
  assert.equal(await watcher.wait(never, 20), 'timeout')
  const controller = new AbortController()
  const waiting = watcher.wait(controller.signal, patienceMs)
  controller.abort()
  assert.equal(await waiting, 'aborted')
})

test('two watchers of one path each get the kinds that they asked for, and closing one leaves the other', async t => {
  const path = scratch(t)
  const creations = openWatcher()
  const deletions = openWatcher()
  t.after(() => deletions.close())
  creations.add(path, watchEvent.create)
  deletions.add(path, watchEvent.delete)
  fs.writeFileSync(join(path, 'a'), 'x')
  assert.equal(await creations.wait(never, patienceMs), 'changed')
  assert.equal(await deletions.wait(never, 20), 'timeout')
  creations.close()
  fs.unlinkSync(join(path, 'a'))
  assert.equal(await deletions.wait(never, patienceMs), 'changed')
})

test('an overflow of the queue is seen by every watcher', async t => {
  const watched = scratch(t)
  const quiet = scratch(t)
  const watcher = watching(t, watched)
  const other = watching(t, quiet)
  const queued = Number(fs.readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'))
  const files = ['a', 'b'].map(name => fs.openSync(join(watched, name), 'w'))
  // nothing is read while this runs; two files in turn, because equal events in sequence become one
  for (let i = 0; i < queued + 10; i++) fs.writeSync(files[i % 2]!, 'x', 0)
  files.forEach(fs.closeSync)
  assert.equal(await other.wait(never, patienceMs), 'overflow')
  assert.equal(await watcher.wait(never, patienceMs), 'overflow')
})

test('what is watched goes away: it wakes, and may be watched again', async t => {
  const path = join(scratch(t), 'inner')
  fs.mkdirSync(path)
  const watcher = watching(t, path)
  fs.rmdirSync(path)
  assert.equal(await watcher.wait(never, patienceMs), 'changed')
  assert.notEqual(watcher.takeEvents() & watchEvent.gone, 0)
  assert.throws(() => watcher.add(path, watchEvent.create), { code: 'ENOENT' })
  fs.mkdirSync(path)
  watcher.add(path, watchEvent.create)
  fs.writeFileSync(join(path, 'a'), 'x')
  assert.equal(await watcher.wait(never, patienceMs), 'changed')
})

test('an open watcher does not keep the process alive, a pending wait does, and neither uses processor time', t => {
  const path = JSON.stringify(scratch(t))
  const open = inChild(`openWatcher().add(${path}, watchEvent.modify); console.log('end')`)
  assert.deepEqual([open.status, open.stdout], [0, 'end\n'], open.stderr)
  const waiting = inChild(
    `const w = openWatcher(); w.add(${path}, watchEvent.modify); const before = process.cpuUsage();
     const result = await w.wait(new AbortController().signal, 500); const used = process.cpuUsage(before);
     console.log(result, used.user + used.system < 50_000)`,
  )
  assert.deepEqual([waiting.status, waiting.stdout], [0, 'timeout true\n'], waiting.stderr)
})

test('without descriptors for events it polls, and says why', () => {
  const child = inChild(
    `import * as fs from 'node:fs';
     const warm = openWatcher(); warm.add('/', watchEvent.modify); warm.close(); await new Promise(setImmediate);
     const held = []; try { for (;;) held.push(fs.openSync('/', 'r')) } catch {}
     const w = openWatcher({ pollMs: 10 }); const usable = w.add('/', watchEvent.modify); fs.closeSync(held.pop());
     const signal = new AbortController().signal; await w.wait(signal, 1e9);
     console.log(usable, await w.wait(signal, 1e9), w.pollingReason)`,
    'ulimit -n 60;',
  )
  assert.equal(child.status, 0, child.stderr)
  assert.match(child.stdout, /^false timeout .*EMFILE/)
})
