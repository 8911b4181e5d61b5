import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { InsideCommand } from './inside-command.ts'

const context = { source: '/srv/app', target: '/backup/app', onOutput: () => {} }

test('the command inside the window knows source, target and where it is, and its output is told', async () => {
  const told: string[] = []
  const command = new InsideCommand('echo "$HOTSPARE_SOURCE $HOTSPARE_TARGET $HOTSPARE_WINDOW"', {
    ...context,
    onOutput: (step, output) => told.push(`${step}: ${output}`),
  })
  await command.done
  assert.deepEqual(told, ['inside: /srv/app /backup/app inside'])
})

for (const [how, text, says] of [
  ['ends with another status than 0', 'echo no room >&2; exit 3', /ended with status 3: .*It said: no room/],
  ['is not found', 'no-such-program-anywhere', /ended with status 127/],
  ['is killed', 'kill -9 $$', /was ended by SIGKILL/],
] as const) {
  test(`a command inside the window that ${how} is a failure of the window`, async () => {
    const command = new InsideCommand(text, context)
    await assert.rejects(command.done, { code: 'inside-failed', message: says })
  })
}

test('a command inside the window that does not count any more is ended with all that it started', async t => {
  const directory = fs.mkdtempSync(join(tmpdir(), 'hotspare-inside-'))
  t.after(() => fs.rmSync(directory, { recursive: true }))
  const pids = join(directory, 'pids')
  const command = new InsideCommand(
    `sleep 60 & echo $! $$ > ${pids}.new; mv ${pids}.new ${pids}; wait`,
    context,
  )
  while (!fs.existsSync(pids)) await new Promise(resolve => setTimeout(resolve, 5))
  command.end()
  await assert.rejects(command.done, { code: 'inside-failed' })
  for (const pid of fs.readFileSync(pids, 'utf8').trim().split(' ')) {
    assert.ok(
      !fs.existsSync(`/proc/${pid}`) || /^State:\tZ/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8')),
    )
  }
})
