/**
 * Appends transactions of 1 KiB to a log, so many at a time, each of which waits until its own is durable before the
 * next; prints how many were durable in how many seconds.
 *
 *   node log-writer.ts DIRECTORY --seconds S --appenders N
 */
import { parseArgs } from 'node:util'
import { openLog } from '../../src/log/segment-log.ts'
import { systemClock } from '../../src/os/clock.ts'
import { nodeStorage } from '../../src/os/node-storage.ts'
import { systemRandom } from '../../src/os/random.ts'
import { entryPath, position, storeName } from '../../src/stream/entry.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string' }, appenders: { type: 'string' } },
})
const log = await openLog({
  storage: nodeStorage,
  clock: systemClock,
  random: systemRandom,
  directory: positionals[0] as string,
  limits: { bytesMax: 2 ** 40, whenFull: 'block', keepMs: 0, keepBytes: 2 ** 40 },
  onNotice: notice => process.stderr.write(`${notice.message}\n`),
})
/** Before it is measured, as the peers are: what counts is how a server goes on. */
const warmUpMs = 500
const startMs = performance.now() + warmUpMs
const endMs = startMs + Number(values.seconds) * 1000
let durable = 0
/** The same each time, as what the peers are given. */
const data = Buffer.alloc(1024, 'x')

async function append(store: ReturnType<typeof storeName>): Promise<void> {
  const sink = log.sink(store)
  const path = entryPath('records')
  for (let i = 1; performance.now() < endMs; i++) {
    await sink.write({ type: 'write', store, path, offset: i * 1024, data })
    await sink.write({
      type: 'commit',
      store,
      position: position(String(i)),
      consistent: true,
      timeMs: Date.now(),
    })
    await sink.sync()
    if (performance.now() >= startMs) durable++
  }
  await sink.close()
}

await Promise.all(Array.from({ length: Number(values.appenders) }, (_, i) => append(storeName(`s${i}`))))
const seconds = (performance.now() - startMs) / 1000
await log.close()
process.stdout.write(`${JSON.stringify({ count: durable, seconds })}\n`)
