import { strict as assert } from 'node:assert'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { driverConformance } from '../conformance.ts'

const writerScript = fileURLToPath(new URL('../../../test/writers/sqlite-writer.ts', import.meta.url))
const hotspare = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

/** What the sqlite3 command says of a database: as many numbered commits as the highest number, none missing. */
function judge(path: string): { last: number } {
  const sql = `SELECT writer, max(number), count(*) FROM entry GROUP BY writer;
    SELECT 'sum', sum(balance), count(*) FROM account; PRAGMA integrity_check`
  const lines = execFileSync('sqlite3', [path, sql], { encoding: 'utf8' }).trim().split('\n')
  assert.equal(lines.pop(), 'ok')
  assert.equal(lines.pop(), 'sum|0|1000')
  for (const line of lines) {
    const [, last, count] = line.split('|')
    assert.equal(count, last, `commits are missing: ${line}`)
  }
  return { last: lines.reduce((sum, line) => sum + Number(line.split('|')[1]), 0) }
}

driverConformance({
  name: 'sqlite',
  prepare: async (_, directory) => join(directory, 'live database ☃.db'),
  writer: source => ({ command: process.execPath, arguments: [writerScript, source, '--report-ms', '5'] }),
  judge: async store => judge(store),
})

/** The number in a log's header that is one more at each restart; undefined when there is no log, or an empty one. */
function salt(path: string): number | undefined {
  const log = existsSync(`${path}-wal`) ? readFileSync(`${path}-wal`) : Buffer.alloc(0)
  return log.length < 32 ? undefined : log.readUInt32BE(16)
}

/** Writers, each in a process of its own, and a follower, for some seconds; gives the largest size of the log. */
async function follow(
  t: TestContext,
  options: { writers: number; seconds: number; arguments: readonly string[] },
): Promise<{ restarts: number; logBytesMax: number }> {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-sqlite-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'live.db')
  const children: ChildProcess[] = []
  t.after(() => children.forEach(child => void child.kill('SIGKILL')))
  const start = (id: number, seconds: number) => {
    const given = [writerScript, path, '--id', String(id), '--seconds', String(seconds), ...options.arguments]
    const child = spawn(process.execPath, given, { stdio: ['ignore', 'ignore', 'inherit'] })
    children.push(child)
    return child
  }
  await once(start(1, 0), 'exit')
  const copy = join(directory, 'copy.db')
  const follower = spawn(process.execPath, [hotspare, 'follow', path, copy, '-q'], { stdio: 'inherit' })
  children.push(follower)
  while (statSync(copy, { throwIfNoEntry: false }) === undefined) {
    assert.equal(follower.exitCode, null)
    await sleep(10)
  }
  const writers: ChildProcess[] = []
  for (let id = 1; id <= options.writers; id++) writers.push(start(id, options.seconds))
  const isWritten = () => writers.some(writer => writer.exitCode === null)
  let firstSalt = salt(path)
  for (; firstSalt === undefined && isWritten(); firstSalt = salt(path)) await sleep(20)
  let logBytesMax = 0
  const look = setInterval(() => {
    logBytesMax = Math.max(logBytesMax, statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0)
  }, 20)
  for (const writer of writers) if (writer.exitCode === null) await once(writer, 'exit')
  clearInterval(look)
  const restarts = firstSalt === undefined ? 0 : (salt(path) ?? firstSalt) - firstSalt
  for (const writer of writers) assert.equal(writer.exitCode, 0, 'a writer met an error')
  const source = judge(path)
  const deadlineMs = performance.now() + 20_000
  while (judgeQuietly(copy) !== source.last) {
    assert.ok(performance.now() < deadlineMs, 'the copy did not catch up')
    await sleep(20)
  }
  follower.kill('SIGTERM')
  if (follower.exitCode === null) await once(follower, 'exit')
  assert.equal(follower.exitCode, 0)
  execFileSync(process.execPath, [hotspare, 'check', copy, '--against', path, '--json'])
  return { restarts, logBytesMax }
}

function judgeQuietly(path: string): number {
  return statSync(path, { throwIfNoEntry: false }) === undefined ? 0 : judge(path).last
}

test('an application whose transactions read before they write meets no SQLITE_BUSY because of us', async t => {
  const { logBytesMax } = await follow(t, { writers: 1, seconds: 5, arguments: ['--mode', 'deferred'] })
  t.diagnostic(`largest log: ${logBytesMax >> 20} MiB`)
})

test('the log of an application that never checkpoints is restarted, without an error for the application', async t => {
  const given = ['--mode', 'deferred', '--autocheckpoint', '0']
  const { restarts, logBytesMax } = await follow(t, { writers: 1, seconds: 8, arguments: given })
  t.diagnostic(`the log was restarted ${restarts} times, and had at most ${logBytesMax >> 20} MiB`)
  assert.ok(restarts >= 2, `the log was restarted ${restarts} times, and had at most ${logBytesMax} bytes`)
})

test('many writing processes are followed, and each finds its transactions in the copy', async t => {
  await follow(t, { writers: 4, seconds: 4, arguments: [] })
})

test('transactions of many megabytes are followed', async t => {
  await follow(t, { writers: 1, seconds: 4, arguments: ['--rows', '50000'] })
})

test('a database in rollback mode is followed by comparison, and told so', async t => {
  await follow(t, {
    writers: 1,
    seconds: 3,
    arguments: ['--journal', 'DELETE', '--synchronous', 'OFF', '--pause-ms', '5'],
  })
})

test('readers of the copy see whole transactions only, while it is followed at full speed', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-sqlite-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'live.db')
  const copy = join(directory, 'copy.db')
  const writer = spawn(process.execPath, [writerScript, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => writer.kill('SIGKILL'))
  await once(writer.stdout, 'data')
  const follower = spawn(process.execPath, [hotspare, 'follow', path, copy, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => follower.kill('SIGKILL'))
  let said = ''
  follower.stdout.on('data', data => {
    said += data
  })
  while (!said.includes('"live"')) await sleep(10)
  let last = 0
  let looks = 0
  const endMs = performance.now() + 5000
  while (performance.now() < endMs) {
    // now and then an outside opener is the only one beside the follower, and closes
    const reader = new DatabaseSync(copy, { timeout: 5000, readOnly: looks % 2 === 0 })
    for (let i = 0; i < 20; i++) {
      const row = reader
        .prepare(
          'SELECT max(number) AS last, count(*) AS count, (SELECT sum(balance) FROM account) AS sum FROM entry',
        )
        .get() as { last: number; count: number; sum: number }
      assert.equal(row.sum, 0)
      assert.equal(row.count, row.last)
      assert.ok(row.last >= last, 'the copy went back')
      last = row.last
      await sleep(5)
    }
    looks++
    reader.close()
  }
  assert.ok(looks > 5)
  assert.equal(follower.exitCode, null)
})
