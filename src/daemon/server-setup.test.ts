import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseServerConfig } from './server-config.ts'
import { answersOf, configText, questions } from './server-setup.ts'
import { unitText } from './service-unit.ts'

function presets(answers: Record<string, string>): Record<string, string> {
  const given: Record<string, string> = {}
  for (const question of questions('alpha')) {
    const answer = answers[question.key] ?? question.preset(given)
    assert.ok(answer !== undefined, `${question.key} needs an answer`)
    assert.equal(question.wrong(answer), undefined, `${question.key}: ${answer}`)
    given[question.key] = answer
  }
  return given
}

const stores = [
  { path: '/srv/app/app.db', driver: 'sqlite' },
  { path: '/srv/a "b"/carts.rdm', driver: 'packs', profile: 'rdm' },
]

test('what the questions give is a configuration that is read again, for a primary and for a standby', () => {
  const primary = configText(
    answersOf(presets({ peer: 'beta', onPromote: 'echo "up: $HOTSPARE_SET"' }), stores),
  )
  const read = parseServerConfig(primary, '/etc/hotspare/hotspare.yaml')
  assert.equal(read.settings.name, 'alpha')
  assert.equal(read.settings.role, 'primary')
  assert.equal(read.settings.listen, '127.0.0.1:2000')
  assert.equal(read.settings.stores[1]?.path, '/srv/a "b"/carts.rdm')
  assert.equal(read.hooks.onPromote, 'echo "up: $HOTSPARE_SET"')

  const standby = configText(
    answersOf(presets({ name: 'beta', role: 'standby', peer: 'alpha', address: 'tcp://alpha:2000' }), stores),
  )
  const other = parseServerConfig(standby, '/etc/hotspare/hotspare.yaml')
  assert.equal(other.settings.upstream, 'alpha')
  assert.equal(other.settings.listen, undefined)
  assert.deepEqual(other.settings.peers, [{ name: 'alpha', subscriber: true, address: 'tcp://alpha:2000' }])
})

test('an answer that cannot be is refused with what is expected', () => {
  const byKey = new Map(questions('alpha').map(question => [question.key, question]))
  assert.match(byKey.get('role')?.wrong('master') ?? '', /primary or standby/)
  assert.match(byKey.get('limit')?.wrong('much') ?? '', /size/)
  assert.match(byKey.get('address')?.wrong('beta:2000') ?? '', /tcp:/)
  assert.match(byKey.get('name')?.wrong('a b') ?? '', /name has/)
})

test('a unit quotes what systemd would take for its own', () => {
  const config = parseServerConfig(
    configText(answersOf(presets({ peer: 'beta' }), stores)),
    '/etc/a b/50%.yaml',
  )
  const unit = unitText(config, ['/usr/bin/node', '/opt/hotspare/main.js'], 'backup')
  assert.match(
    unit,
    /^ExecStart=\/usr\/bin\/node \/opt\/hotspare\/main\.js serve -c "\/etc\/a b\/50%%\.yaml"$/m,
  )
  assert.match(unit, /^User=backup$/m)
})
