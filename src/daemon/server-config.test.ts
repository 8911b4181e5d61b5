import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HotspareError } from '../os/errors.ts'
import { parseServerConfig } from './server-config.ts'

const primary = `
set: shop
name: alpha
role: primary
state: state
listen: 127.0.0.1:2000
stores:
  - path: /srv/app/app.db
    driver: sqlite
    wal-limit: 32MiB
  - name: carts
    path: carts.rdm
    driver: packs
    profile: rdm
peers:
  - name: beta
    address: tcp://beta.example:2000
log:
  limit: 2GiB
  when-full: drop
  keep-time: 12h
on-promote: ip addr add 192.0.2.1/24 dev eth0
`

function fault(text: string): string {
  try {
    parseServerConfig(text, '/etc/hotspare/hotspare.yaml')
  } catch (error) {
    assert.ok(error instanceof HotspareError, String(error))
    assert.equal(error.code, 'config-invalid')
    return error.message
  }
  assert.fail('no error')
}

test('a whole configuration is read, with paths relative to its directory and units as people write them', () => {
  const { settings, hooks } = parseServerConfig(primary, '/etc/hotspare/hotspare.yaml')
  assert.equal(settings.stateDirectory, '/etc/hotspare/state')
  assert.deepEqual(
    settings.stores.map(({ store, path }) => [store, path]),
    [
      ['app.db', '/srv/app/app.db'],
      ['carts', '/etc/hotspare/carts.rdm'],
    ],
  )
  assert.deepEqual(settings.stores[0]?.driverOptions, { walBytesMax: 32 * 2 ** 20 })
  assert.deepEqual(settings.limits, {
    bytesMax: 2 * 2 ** 30,
    whenFull: 'drop',
    keepMs: 12 * 3_600_000,
    keepBytes: 0,
  })
  assert.deepEqual(settings.peers, [{ name: 'beta', address: 'tcp://beta.example:2000', subscriber: true }])
  assert.equal(hooks.onPromote, 'ip addr add 192.0.2.1/24 dev eth0')
  assert.equal(hooks.timeoutMs, 60_000)
})

test('a mistake is named with its line, and with what is expected', () => {
  const table: [string, RegExp][] = [
    [primary.replace('role: primary', 'role: master'), /line 4: role must be 'primary' or 'standby'\.$/],
    [primary.replace('driver: sqlite', 'driver: oracle'), /line 9: .*oracle/],
    [primary.replace('profile: rdm', 'profile: rmd'), /line 14: .*no profile 'rmd'\. It has rdm/],
    [primary.replace('wal-limit: 32MiB', 'wal-limit: lots'), /line 10: stores\.0\.wal-limit must be a size/],
    [primary.replace('listen: 127', 'lissen: 127'), /lissen is not known here/],
    [primary.replace('tcp://beta.example:2000', 'beta:2000'), /line 17: 'beta:2000' is no address: 'tcp:/],
    [primary.replace('name: beta', 'name: alpha'), /line 16: 'alpha' is this server itself/],
    [primary.replace('role: primary', 'role: standby'), /line 4: a standby needs 'upstream: NAME'/],
    [
      primary.replace('role: primary', 'role: standby\nupstream: gamma'),
      /line 5: 'gamma' is not among the peers/,
    ],
    [primary.replace('  - name: carts', '  - name: app.db'), /line 11: 'app\.db' is there twice/],
    ['stores: [\n', /line 2: /],
    ['', /role is missing/],
  ]
  for (const [text, expected] of table) assert.match(fault(text), expected)
})
