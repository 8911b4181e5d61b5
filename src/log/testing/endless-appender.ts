/**
 * Appends to the log in a directory, for several stores at once, from where each stands, until it is killed; prints
 * each number that became durable.
 *
 *   node endless-appender.ts DIRECTORY
 */
import { writeSync } from 'node:fs'
import { systemClock } from '../../os/clock.ts'
import { nodeStorage } from '../../os/node-storage.ts'
import { systemRandom } from '../../os/random.ts'
import { entryPath, position, storeName } from '../../stream/entry.ts'
import { openLog } from '../segment-log.ts'
import { roomy } from './log-harness.ts'

const log = await openLog({
  storage: nodeStorage,
  clock: systemClock,
  random: systemRandom,
  directory: process.argv[2] as string,
  limits: { ...roomy, keepBytes: 1 << 30 },
  segmentBytes: 200_000,
  bufferBytes: 20_000,
  onNotice: notice => process.stderr.write(`${notice.message}\n`),
})

async function run(name: string, bytes: number): Promise<void> {
  const store = storeName(name)
  const sink = log.sink(store)
  for (let i = Number((await sink.position(store)) ?? 0) + 1; ; i++) {
    const data = Buffer.alloc(bytes, i % 251)
    await sink.write({ type: 'write', store, path: entryPath('f'), offset: 0, data })
    await sink.write({ type: 'commit', store, position: position(String(i)), consistent: true, timeMs: i })
    await sink.sync()
    writeSync(1, `${log.durable}\n`)
  }
}

await Promise.all([run('a', 200), run('b', 5000), run('c', 60_000)])
