/**
 * A primary, a standby, one in cascade behind it and one beside, with a database, packs and a directory under
 * writers at full speed. Any process is killed at any moment, again and again; others are promoted, and old primaries
 * rejoin.
 *
 *     HOTSPARE_KILL_SECONDS=600 SEED=7 node --test test/serve-kills.integration.test.ts
 */
import assert from 'node:assert/strict'
import * as fs from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { KillWorld } from './serve/kill-world.ts'

const seconds = Number(process.env.HOTSPARE_KILL_SECONDS ?? 30)
const seed = Number(process.env.SEED ?? 1 + (Math.floor(Date.now() / 1000) % 1_000_000))

test('whoever is killed, what wait promised is in whoever is promoted, and at the end all have the same', {
  timeout: (seconds * 2 + 300) * 1000,
}, async t => {
  const root = await fs.mkdtemp(join(tmpdir(), 'hotspare-kills-'))
  const world = new KillWorld(root, seed)
  try {
    await world.begin()
    const endMs = Date.now() + seconds * 1000
    while (Date.now() < endMs) await world.step()
    await world.converge()
  } catch (error) {
    throw new Error(`SEED=${seed}: ${error instanceof Error ? error.message : error}\n${world.describe()}`, {
      cause: error,
    })
  } finally {
    await world.end()
    if (process.env.HOTSPARE_KILL_KEEP !== '1') await fs.rm(root, { recursive: true, maxRetries: 5 })
  }
  t.diagnostic(`seed ${seed}: ${JSON.stringify(world.counts)}`)
  t.diagnostic(JSON.stringify(world.said()))
  for (const [what, count] of Object.entries(world.counts))
    assert.ok(count > 0 || what === 'writerKills' || what === 'clones', `${count} ${what} (SEED=${seed})`)
})
