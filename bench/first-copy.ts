import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Benchmark } from './bench.ts'
import { median, run } from './measure.ts'

/**
 * One database file, whole processes, both sides durable at their end: `cp` and then `sync` of the copy, against
 * `hotspare follow --once`, which also digests, reads back and records what it copied. Nothing is removed in between:
 * files that are made right after a large removal are slower.
 */
export const firstCopy: Benchmark = {
  name: 'first-copy',
  async run({ scale, directory, hotspare }) {
    const source = join(directory, 'source.db')
    makeDatabase(source, scale.bytes)
    const ratios: number[] = []
    const plain: number[] = []
    const peaks: number[] = []
    const copy = join(directory, 'copy')
    // the first run warms up memory and disk, and does not count
    for (let i = scale.runs === 1 ? 1 : 0; i <= scale.runs; i++) {
      const name = `${copy}-${i}`
      const cp = await run('cp', [source, `${name}.cp`])
      const synced = await run('sync', [`${name}.cp`])
      const ours = await run(process.execPath, [hotspare, 'follow', '--once', '-q', source, `${name}.db`])
      if (i === 0) continue
      ratios.push(ours.seconds / (cp.seconds + synced.seconds))
      plain.push(ours.seconds / cp.seconds)
      peaks.push(ours.peakBytes)
    }
    const ratio = median(ratios)
    const peak = Math.max(...peaks)
    const size = `${(scale.bytes / 2 ** 30).toFixed(2)} GiB`
    return [
      {
        what: `first copy, one file of ${size}`,
        against: 'cp, and sync of the copy',
        figure: `${ratio.toFixed(2)} of its time`,
        value: ratio,
        toReach: 'at most 1.1',
        reached: ratio <= 1.1,
        details: { ratios, ratiosToCpThatLeavesItInMemory: plain },
      },
      {
        what: `memory, first copy of ${size}`,
        against: '-',
        figure: `${Math.round(peak / 2 ** 20)} MiB at most`,
        value: peak,
        toReach: 'at most 150 MB',
        reached: peak <= 150e6,
        details: { peaks },
      },
    ]
  },
}

export function makeDatabase(path: string, bytes: number): void {
  const database = new DatabaseSync(path)
  database.exec(
    'PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB); BEGIN',
  )
  const insert = database.prepare('INSERT INTO t (b) VALUES (randomblob(1000000))')
  for (let written = 0; written < bytes; written += 1_000_000) insert.run()
  database.exec('COMMIT; PRAGMA journal_mode = WAL')
  database.close()
}
