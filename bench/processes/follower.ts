/**
 * Follows a store by the library's own parts and notes when what was durable at the copy. Prints `live` when the copy is
 * complete; at SIGTERM it writes pairs of a mark and milliseconds since 1970, as 64-bit floats, and ends. The mark is
 * the number of bytes taken since it was live (packs), or the highest number in the copy's table `entry` (sqlite).
 *
 *   node follower.ts DRIVER SOURCE TARGET TIMES
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { driverNamed } from '../../src/drivers/registry.ts'
import { systemClock } from '../../src/os/clock.ts'
import { isTransient } from '../../src/os/errors.ts'
import { nodeStorage } from '../../src/os/node-storage.ts'
import { storeName } from '../../src/stream/entry.ts'
import { pump } from '../../src/stream/pump.ts'

const [name, source, target, times] = process.argv.slice(2) as [string, string, string, string]
const driver = driverNamed(name)
const sidecar = `${target}.hotspare`
mkdirSync(sidecar, { recursive: true })
const store = storeName('bench')
const machine = { storage: nodeStorage, clock: systemClock }
const profile = name === 'packs' ? { profile: 'generic' } : {}
const common = { ...machine, ...profile, store, onNotice: () => {} }
const ending = new AbortController()
process.on('SIGTERM', () => ending.abort())

const notes: number[] = []
let liveBytes: number | undefined
let copy: { database: DatabaseSync; last: () => number } | undefined

function openCopy(): { database: DatabaseSync; last: () => number } {
  const database = new DatabaseSync(target)
  const newest = database.prepare('SELECT number FROM entry WHERE writer = 1 ORDER BY number DESC LIMIT 1')
  return { database, last: () => Number(newest.get()?.number ?? 0) }
}

async function follow(): Promise<void> {
  const reader = await driver.openSource({ ...common, path: source, driverOptions: {}, scratch: sidecar })
  const replica = await driver.openReplica({
    ...common,
    path: target,
    sidecar,
    resync: false,
    noDelete: false,
  })
  try {
    await pump({
      store,
      source: reader,
      sink: replica,
      clock: systemClock,
      signal: ending.signal,
      onDurable(_, { bytes }) {
        if (liveBytes === undefined) return
        const now = systemClock.nowMs()
        if (name === 'sqlite') copy ??= openCopy()
        notes.push(copy === undefined ? bytes - liveBytes : copy.last(), now)
      },
      onCaughtUp({ bytes }) {
        if (liveBytes !== undefined) return
        liveBytes = bytes
        process.stdout.write('live\n')
      },
    })
  } finally {
    await reader.close()
    await replica.close()
  }
}

while (!ending.signal.aborted) {
  try {
    await follow()
  } catch (error) {
    // what `hotspare follow` waits out; the marks of packs count from the beginning of one attempt
    if (name !== 'sqlite' || !isTransient(error)) throw error
  }
}
copy?.database.close()
writeFileSync(times, new Float64Array(notes))
