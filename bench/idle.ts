import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Benchmark } from './bench.ts'
import { end, processorSeconds } from './measure.ts'

/** What a follower costs while nothing is written. */
export const idle: Benchmark = {
  name: 'idle',
  async run({ scale, directory, hotspare }) {
    const database = join(directory, 'idle.db')
    const application = new DatabaseSync(database)
    application.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)')
    const packs = join(directory, 'packs')
    mkdirSync(packs)
    writeFileSync(join(packs, '0001'), 'one')
    const copies = [
      [database, join(directory, 'copy.db')],
      [packs, join(directory, 'copy'), '--driver', 'packs', '--profile', 'generic'],
    ]
    const followers = copies.map(given =>
      spawn(process.execPath, [hotspare, 'follow', '-q', ...given], {
        stdio: ['ignore', 'inherit', 'inherit'],
      }),
    )
    try {
      // past the quiet log's being put away
      await sleep(8000)
      const before = followers.map(follower => processorSeconds(follower.pid as number))
      await sleep(scale.idleSeconds * 1000)
      const used = followers.map(
        (follower, i) => processorSeconds(follower.pid as number) - (before[i] as number),
      )
      const share = Math.max(...used) / scale.idleSeconds
      return [
        {
          what: `idle for ${scale.idleSeconds} s`,
          against: '-',
          figure: `${(share * 100).toFixed(3)} % of a core`,
          value: share,
          toReach: 'under 0.1 %',
          reached: share < 0.001,
          details: { sqliteSeconds: used[0], packsSeconds: used[1] },
        },
      ]
    } finally {
      for (const follower of followers) await end(follower)
      application.close()
    }
  },
}
