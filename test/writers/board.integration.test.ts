/** What the board writer is for: copies that were taken under load are torn, those that were taken in its mode are not. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, test } from 'node:test'
import type { BoardReport } from '../../src/cli/demo/board-writer.ts'
import { maintenanceCommands } from '../../src/cli/demo/maintenance-flag.ts'
import { judgeBoard } from '../../src/cli/demo/message-board-judge.ts'

const attemptsMax = 10

let root: string
let live: string
let writer: ChildProcess
let report: BoardReport | undefined
let mode: ReturnType<typeof maintenanceCommands>

beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), 'hotspare-board-'))
  live = join(root, 'live')
  report = undefined
  mode = maintenanceCommands({ flag: join(root, 'flag'), acknowledgement: join(root, 'ack') })
})
afterEach(async () => {
  if (writer.exitCode === null && writer.signalCode === null) {
    writer.kill('SIGKILL')
    await once(writer, 'exit')
  }
  fs.rmSync(root, { recursive: true, force: true, maxRetries: 3 })
})

async function startWriter(...options: string[]): Promise<void> {
  const script = join(import.meta.dirname, 'board-writer.ts')
  const files = ['--flag', join(root, 'flag'), '--acknowledgement', join(root, 'ack')]
  const args = [script, live, '--prefill', '5000', ...files, ...options]
  writer = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: writer.stdout! })
  lines.on('line', line => {
    report = JSON.parse(line) as BoardReport
  })
  while ((report?.committed ?? 0) <= 5_000) await once(lines, 'line')
}

async function endWriter(): Promise<BoardReport> {
  const ended = once(writer, 'close')
  writer.kill('SIGTERM')
  assert.equal((await ended)[0], 0)
  assert.ok(report?.done)
  return report
}

const shell = (command: string) => execFileSync('sh', ['-c', command], { timeout: 10_000 })

for (const [name, copy] of [
  ['cp -r', (to: string) => execFileSync('cp', ['-r', live, to])],
  ['rsync -a', (to: string) => execFileSync('rsync', ['-a', `${live}/`, `${to}/`])],
] as const) {
  test(`a board copied by ${name} while it is posted to is torn; in its maintenance mode it is whole`, async () => {
    await startWriter()
    let torn = 0
    for (let attempt = 1; attempt <= attemptsMax && torn === 0; attempt++) {
      const to = join(root, `torn-${attempt}`)
      try {
        copy(to)
      } catch (error) {
        // cp and rsync say so when a name has gone while they copied
        assert.ok([1, 24].includes((error as { status: number }).status), String(error))
      }
      torn = judgeBoard(to).tears.length
    }
    assert.ok(torn > 0, `none of ${attemptsMax} copies was torn`)

    for (let window = 1; window <= 3; window++) {
      shell(mode.enter)
      const to = join(root, `whole-${window}`)
      copy(to)
      shell(mode.verify)
      shell(mode.leave)
      assert.throws(() => shell(mode.verify))
      assert.deepEqual(judgeBoard(to).tears, [])
    }
    const { committed, holds, byAdministrator } = await endWriter()
    const board = judgeBoard(live)
    assert.deepEqual(board.tears, [])
    assert.equal(board.posts, committed)
    assert.equal(holds, 3)
    assert.equal(byAdministrator, 0)
  })
}

test('a mode that is wanted anew at once is acknowledged anew', async () => {
  await startWriter()
  for (let round = 0; round < 20; round++) {
    shell(`${mode.enter}; ${mode.leave}; ${mode.enter}`)
    const posts = judgeBoard(live)
    assert.deepEqual(posts.tears, [])
    assert.equal(judgeBoard(live).posts, posts.posts)
    shell(mode.leave)
  }
  await endWriter()
})

test('the administrator posts in maintenance mode all the same', async () => {
  await startWriter('--administrator-ms', '1')
  shell(mode.enter)
  const { posts } = judgeBoard(live)
  while (judgeBoard(live).posts <= posts) await new Promise(resolve => setTimeout(resolve, 5))
  shell(mode.leave)
  const { byAdministrator } = await endWriter()
  assert.ok(byAdministrator > 0)
  assert.deepEqual(judgeBoard(live).tears, [])
})
