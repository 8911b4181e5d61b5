import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { seed } from '../../os/testing/seed.ts'
import { rsyncDifference } from './testing/naive-sink.ts'
import { RandomTree } from './testing/random-tree.ts'
import { scratch } from './testing/source-fixture.ts'
import { treeState } from './testing/tree-state.ts'

const command = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

function follow(t: TestContext, live: string, copy: string): ChildProcess {
  const child = spawn(process.execPath, [command, 'follow', live, copy, '--json'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  return child
}

function judge(live: string, copy: string): void {
  assert.deepEqual(treeState(copy), treeState(live))
  const left = rsyncDifference(live, copy)
    .split('\n')
    .filter(line => line !== '' && !/^[hc][SD]\+/.test(line) && !/^cS/.test(line))
  assert.deepEqual(left, [])
}

test('however often a follower is killed while the tree changes, the next one makes the copy the tree', {
  timeout: 300_000,
}, async t => {
  t.diagnostic(`HOTSPARE_SEED=${seed}`)
  const base = scratch(t)
  const [live, copy] = [join(base, 'live'), join(base, 'copy')]
  fs.mkdirSync(live)
  let state = seed | 1
  const random = (below: number): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
  const tree = new RandomTree(live, random)
  for (let i = 0; i < 300; i++) tree.edit()
  fs.writeFileSync(join(live, 'never removed by chance'), 'x')
  for (let round = 0; round < 8; round++) {
    const follower = follow(t, live, copy)
    const untilMs = performance.now() + 200 + random(2500)
    while (performance.now() < untilMs && follower.exitCode === null) {
      tree.edit('links-made')
      await new Promise(resolve => setTimeout(resolve, random(20)))
    }
    assert.equal(follower.exitCode, null, 'the follower ended by itself')
    follower.kill('SIGKILL')
    await once(follower, 'exit')
  }
  const last = spawnSync(process.execPath, [command, 'follow', live, copy, '--once'], { encoding: 'utf8' })
  assert.equal(last.status, 0, last.stderr)
  judge(live, copy)
  const checked = spawnSync(process.execPath, [command, 'check', copy, '--against', live], {
    encoding: 'utf8',
  })
  assert.equal(checked.status, 0, checked.stdout)
})
