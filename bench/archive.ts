/**
 * An archive of many small files, beside tar: whole processes, in turn, a fresh file each time. Ours is read back, proved
 * and durable at its end; tar's is none of it, and what a sync of its file adds stands in the details, as do the sizes.
 */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Benchmark } from './bench.ts'
import { median, run } from './measure.ts'
import { TextTree } from './text-tree.ts'

const limit = 0.8

export const archive: Benchmark = {
  name: 'archive',
  peers: { tar: 'tar', zstd: 'zstd' },
  async run({ directory, hotspare, scale }) {
    const tree = new TextTree(join(directory, 'live'), scale.files)
    const copy = join(directory, 'copy')
    await run(process.execPath, [hotspare, 'follow', '--once', '-q', tree.path, copy])
    const ratios: number[] = []
    const ratiosSynced: number[] = []
    const theirs: number[] = []
    const ours: number[] = []
    const peaks: number[] = []
    const bytes = { ours: 0, tar: 0 }
    // the first run warms up memory and disk, and does not count
    for (let i = scale.runs === 1 ? 1 : 0; i <= scale.runs; i++) {
      const theirFile = join(directory, `tar-${i}.tar.zst`)
      const ourFile = join(directory, `archive-${i}.tar.zst`)
      await run('sync', [])
      const tarred = await run('tar', ['--zstd', '-cf', theirFile, '-C', copy, '.'])
      const synced = await run('sync', [theirFile])
      await run('sync', [])
      const archived = await run(process.execPath, [hotspare, 'archive', '-q', copy, ourFile])
      if (i === 0) continue
      ratios.push(archived.seconds / tarred.seconds)
      ratiosSynced.push(archived.seconds / (tarred.seconds + synced.seconds))
      theirs.push(tarred.seconds)
      ours.push(archived.seconds)
      peaks.push(archived.peakBytes)
      bytes.ours = statSync(ourFile).size
      bytes.tar = statSync(theirFile).size
    }
    const value = median(ratios)
    const size = `${((100 * bytes.ours) / bytes.tar).toFixed(0)} % of its size`
    return [
      {
        what: `archive of ${tree.files} small files to .tar.zst, read back`,
        against: 'tar --zstd -cf',
        figure: `${value.toFixed(2)} of its time, ${size}`,
        value,
        toReach: `at most ${limit}`,
        reached: value <= limit,
        details: { ratios, ratiosToTarAndSync: ratiosSynced, ours, tar: theirs, bytes, peaks },
      },
    ]
  },
}
