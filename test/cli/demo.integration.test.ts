import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { main, Run } from './hotspare.ts'

/** The proofs take what they take on a machine that does other things too. */
const waitMsMax = 90_000

let root: string
let run: Run
beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'hotspare-demo-test-'))
})
afterEach(async () => {
  run.process.kill('SIGKILL')
  await fs.rm(root, { recursive: true, force: true, maxRetries: 5 })
})

function demo(seconds: number, ...args: string[]): Run {
  const command = [process.execPath, main, 'demo', '--seconds', String(seconds), '--json', ...args]
  run = new Run('env', [`TMPDIR=${root}`, ...command], waitMsMax)
  return run
}

/** Processes whose command line names something in the scratch directory. */
async function processesOf(script: string): Promise<number[]> {
  const found: number[] = []
  for (const name of await fs.readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const line = await fs.readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (line.includes(root) && line.includes(script)) found.push(Number(name))
  }
  return found
}

test('the demo proves what it says, ends with status 0, and leaves nothing behind', async () => {
  const { exit, stderr } = await demo(6).end()
  assert.equal(exit, 0, stderr)
  const report = run.lines.at(-1) as { ok: boolean; findings: { ok: boolean; what: string }[] }
  assert.equal(report.ok, true)
  const said = report.findings.map(({ what }) => what).join('\n')
  for (const proof of [
    /Killed in the middle/,
    /Started again/,
    /Cloned while/,
    /not one error/,
    /the copy of the board was that of its last window/,
    /all [\d,]+ uploads that its rows name were in the copy/,
    /board was held for \d+ ms, \d+ ms; each time logs and pages agreed in its copy, at last on all [\d,]+ posts/,
    /equal their live/,
  ]) {
    assert.match(said, proof)
  }
  assert.deepEqual(await fs.readdir(root), [])
  assert.deepEqual(await processesOf(''), [])
})

test('the demo leaves its stores there with --keep, copies and clones included', async () => {
  const { exit, stderr } = await demo(6, '--keep').end()
  assert.equal(exit, 0, stderr)
  const [directory] = await fs.readdir(root)
  assert.ok(directory)
  assert.deepEqual((await fs.readdir(join(root, directory))).sort(), [
    'clones',
    'copy',
    'live',
    'maintenance',
  ])
})

for (const [who, script] of [
  ['an application', 'bank-writer'],
  ['the board', 'board-writer'],
  ['a follower', 'follow'],
] as const) {
  test(`the demo ends with status 1, and says why, when ${who} dies that should not`, async () => {
    demo(20)
    await run.line(line => String(line.text).startsWith('live'), 'live')
    const [victim] = await processesOf(script)
    assert.ok(victim)
    process.kill(victim, 'SIGKILL')
    const { exit } = await run.end()
    assert.equal(exit, 1)
    const report = run.lines.at(-1) as { ok: boolean; findings: { ok: boolean; what: string }[] }
    assert.equal(report.ok, false)
    assert.match(report.findings.find(({ ok }) => !ok)?.what ?? '', /SIGKILL/)
    assert.deepEqual(await fs.readdir(root), [])
  })
}

test('an interrupted demo ends its processes and leaves nothing behind', async () => {
  demo(20)
  await run.line(line => String(line.text).startsWith('live'), 'live')
  const { exit } = await run.end('SIGINT')
  assert.equal(exit, 130)
  assert.deepEqual(await fs.readdir(root), [])
  assert.deepEqual(await processesOf(''), [])
})
