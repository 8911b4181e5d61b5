/** The replica on a real file system, in a process that is killed at any moment, while clones of its copy are made. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { Random } from '../os/testing/random.ts'
import { seed } from '../os/testing/seed.ts'
import { cloneFileCopy } from './clone.ts'
import { openFileReplica } from './file-replica.ts'
import { snapshotOf } from './testing/copy-laws.ts'
import { difference, modelSteps, modelStore, snapshotAfter, transactionsOf } from './testing/copy-model.ts'
import { endlessScript } from './testing/endless-script.ts'

const writer = fileURLToPath(new URL('testing/endless-writer.ts', import.meta.url))
const transactions = 300
const killsMax = 12

test(`a follower that is killed at any moment leaves what it acknowledged, and each clone is one whole commit (HOTSPARE_SEED=${seed})`, async t => {
  const directory = await mkdtemp(join(tmpdir(), 'hotspare-kill-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const path = join(directory, 'copy')
  await mkdir(`${path}.hotspare`)
  const random = new Random(seed)
  const steps = modelSteps(endlessScript(transactions))
  let acknowledged = 0
  let clones = 0
  let kills = 0

  while (acknowledged < transactions && kills < killsMax) {
    const child = spawn(process.execPath, [writer, path, 'atomic', String(transactions)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    const firstSeen = Promise.withResolvers<void>()
    createInterface({ input: child.stdout }).on('line', line => {
      acknowledged = Number(line)
      firstSeen.resolve()
    })
    await Promise.race([firstSeen.promise, exited])
    // not a wait for something: the moment is what is tried
    const killed = sleep(random.below(250)).then(() => child.kill('SIGKILL'))
    clones += await cloneAndCompare(path, join(directory, `clone-${kills}`))
    await killed
    const [code] = await exited
    assert.ok(code === null || code === 0, `the writer ended with status ${code}`)
    if (code === null) kills++

    const least = acknowledged
    const replica = await openFileReplica(
      {
        storage: nodeStorage,
        clock: systemClock,
        store: modelStore,
        path,
        sidecar: `${path}.hotspare`,
        resync: false,
        noDelete: false,
        onNotice() {},
      },
      { applies: 'atomic' },
    )
    const count = transactionsOf(await replica.position(modelStore))
    assert.ok(count >= least, `${least} were acknowledged, and ${count} are there`)
    assert.equal(transactionsOf(replica.consistent()?.position), count)
    await replica.close()
    const found = await snapshotOf(nodeStorage, path)
    assert.ok(found !== undefined)
    assert.equal(difference(found, snapshotAfter(steps, count)), undefined, `after ${count}`)
    acknowledged = Math.max(acknowledged, count)
  }
  assert.ok(kills >= 5, `only ${kills} kills`)
  assert.ok(clones >= 3, `only ${clones} clones`)

  async function cloneAndCompare(source: string, destination: string): Promise<number> {
    try {
      const { commit } = await cloneFileCopy({
        storage: nodeStorage,
        clock: systemClock,
        store: modelStore,
        path: source,
        sidecar: `${source}.hotspare`,
        destination,
        signal: AbortSignal.timeout(20_000),
        onProgress() {},
        onNotice() {},
      })
      const found = await snapshotOf(nodeStorage, destination)
      const expected = snapshotAfter(steps, transactionsOf(commit.position))
      assert.equal(found && difference(found, expected), undefined, `clone at ${commit.position}`)
      return 1
    } catch (error) {
      // killed in the middle of a change: it says so, and the next start repairs it
      if (error instanceof HotspareError && error.code === 'target-incomplete') return 0
      throw error
    }
  }
})
