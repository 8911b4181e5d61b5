/** The units that the recipes show are units that systemd takes. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { test } from 'node:test'

const recipe = join(import.meta.dirname, '../docs/recipes/nightly-archive.md')
const installed = spawnSync('systemd-analyze', ['--version']).status === 0
const skip =
  installed || process.env.HOTSPARE_REQUIRE_ENGINES === '1'
    ? false
    : 'systemd-analyze is missing: apt-get install -y systemd'

test('systemd accepts every unit of the nightly archive, and says nothing about it', { skip }, () => {
  const page = fs.readFileSync(recipe, 'utf8')
  const units = [...page.matchAll(/^`(\/etc\/systemd\/system\/[^`]+)`\n\n```ini\n(.*?)```/gms)]
  assert.equal(units.length, 4)
  const directory = fs.mkdtempSync(join(tmpdir(), 'hotspare-units-'))
  try {
    const paths = units.map(([, path = '', text = '']) => {
      const unit = join(directory, basename(path))
      // it asks that programs are there; ours is not installed where the recipe has it
      fs.writeFileSync(unit, text.replaceAll('/usr/bin/hotspare', '/bin/true'))
      return unit
    })
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', ...paths], { encoding: 'utf8' })
    const ours = stderr.split('\n').filter(line => line.includes('hotspare'))
    assert.deepEqual(ours, [])
    assert.equal(status, 0, stderr)
  } finally {
    fs.rmSync(directory, { recursive: true })
  }
})

test('the commands of the units are what they look like after systemd has read them', { skip }, () => {
  const page = fs.readFileSync(recipe, 'utf8')
  const shells = [...page.matchAll(/^ExecStart=\/bin\/sh -c '(.*)'$/gm)].map(([, text = '']) =>
    text.replaceAll('$$', '$').replaceAll('%%', '%'),
  )
  assert.equal(shells.length, 2)
  for (const text of shells) execFileSync('sh', ['-n', '-c', text])
})
