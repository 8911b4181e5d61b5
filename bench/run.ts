/**
 * Measures hotspare beside its peers, the two sides in turn within one run, and prints a table of ratios; all that was
 * measured goes as JSON to bench/results/.
 *
 *   npm run bench -- [--smoke] [--only NAME] [--directory DIR]
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { archive } from './archive.ts'
import type { Benchmark, Result, Scale } from './bench.ts'
import { directoryFirstCopy, directoryUnchanged, directoryWindow } from './directories.ts'
import { firstCopy } from './first-copy.ts'
import { idle } from './idle.ts'
import { linkBulk } from './link.ts'
import { logAppend } from './log.ts'
import { packsBacklog, packsLatency } from './packs.ts'
import { sqliteLoad } from './sqlite.ts'
import { failover, standbyFirst, standbyLatency } from './standby.ts'

const benchmarks: readonly Benchmark[] = [
  directoryFirstCopy,
  directoryUnchanged,
  directoryWindow,
  archive,
  firstCopy,
  packsLatency,
  packsBacklog,
  sqliteLoad,
  logAppend,
  linkBulk,
  standbyLatency,
  standbyFirst,
  failover,
  idle,
]
const whole: Scale = { bytes: 2 * 2 ** 30, files: 100_000, seconds: 10, idleSeconds: 30, runs: 5 }
const smoke: Scale = { bytes: 64 * 2 ** 20, files: 2_000, seconds: 2, idleSeconds: 3, runs: 1 }

const { values } = parseArgs({
  options: {
    smoke: { type: 'boolean' },
    only: { type: 'string' },
    directory: { type: 'string', default: tmpdir() },
  },
})
const root = fileURLToPath(new URL('..', import.meta.url))
const scale = values.smoke ? smoke : whole
const chosen = benchmarks.filter(({ name }) => values.only === undefined || name === values.only)
if (chosen.length === 0) {
  process.stderr.write(
    `There is no benchmark '${values.only}': ${benchmarks.map(({ name }) => name).join(', ')}.\n`,
  )
  process.exit(2)
}

const missing = chosen
  .flatMap(({ peers }) => Object.entries(peers ?? {}))
  .filter(([program]) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error !== undefined)
if (missing.length > 0) {
  const [programs, packages] = [0, 1].map(i => [...new Set(missing.map(peer => peer[i]))].join(' '))
  process.stderr.write(`To measure beside, these are missing: ${programs}. apt-get install -y ${packages}\n`)
  process.exit(2)
}

const results: Result[] = []
for (const benchmark of chosen) {
  const directory = mkdtempSync(join(values.directory, 'hotspare-bench-'))
  process.stderr.write(`${benchmark.name} ...\n`)
  try {
    results.push(...(await benchmark.run({ scale, directory, hotspare: join(root, 'dist/cli/main.js') })))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const headings = ['what', 'against', 'measured', 'to reach', ''] as const
const rows = results.map(({ what, against, figure, toReach, reached }) => [
  what,
  against,
  figure,
  toReach,
  reached ? 'reached' : values.smoke ? 'smoke: no verdict' : 'MISSED',
])
const widths = headings.map((heading, i) => Math.max(heading.length, ...rows.map(row => row[i]?.length ?? 0)))
for (const row of [headings, ...rows]) {
  process.stdout.write(
    `${row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd()}\n`,
  )
}

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const report = {
  at: new Date().toISOString(),
  version,
  smoke: values.smoke === true,
  machine: {
    processors: cpus().length,
    model: cpus()[0]?.model,
    memoryBytes: totalmem(),
    kernel: release(),
    node: process.version,
  },
  results,
}
mkdirSync(join(root, 'bench/results'), { recursive: true })
const file = join(root, 'bench/results', `${report.at.replace(/[:.]/g, '-')}.json`)
writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`)
process.stderr.write(`All figures: ${file}\n`)
