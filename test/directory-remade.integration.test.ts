/** Directories that are removed and made again under their names, with others in them, faster than anybody looks. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../src/os/testing/random.ts'
import { killStarted, start } from './cli/hotspare.ts'

const roundsMax = 4
const remadeEach = 60
const namesMax = 50
const equalMsMax = 10_000

test('what is in a directory that was made anew under its name is copied, whatever was known of the one before', async t => {
  const root = fs.mkdtempSync(join(tmpdir(), 'hotspare-remade-'))
  t.after(() => {
    killStarted()
    fs.rmSync(root, { recursive: true })
  })
  const [live, copy] = [join(root, 'live'), join(root, 'copy')]
  fs.mkdirSync(live)
  fs.writeFileSync(join(live, 'first'), 'first')
  const run = start('follow', live, copy, '--json')
  await run.event('live')
  const random = new Random(1)
  const at = (i: number) => join(live, `directory ${i % namesMax}`)
  const differs = () =>
    execFileSync('rsync', ['-aHAXn', '--checksum', '--delete', '-i', `${live}/`, `${copy}/`], {
      encoding: 'utf8',
    })
  for (let round = 1; round <= roundsMax; round++) {
    for (let i = 0; i < remadeEach; i++) {
      fs.rmSync(at(i), { recursive: true, force: true })
      fs.mkdirSync(join(at(i), `one ${round}`, 'two'), { recursive: true })
      if (i % 3 === 0 && fs.existsSync(at(i + 7))) fs.renameSync(at(i + 7), join(at(i), 'moved'))
      await sleep(random.below(30))
    }
    const endMs = Date.now() + equalMsMax
    while (differs() !== '' && Date.now() < endMs) await sleep(100)
    assert.equal(differs(), '', `round ${round}`)
  }
  assert.equal((await run.end('SIGTERM')).exit, 0)
})
