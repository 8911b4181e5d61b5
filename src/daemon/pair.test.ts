import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pairTokenText, parsePairToken } from '../link/pair-token.ts'
import { PeerStore } from '../link/peer-store.ts'
import { nodeStorage } from '../os/node-storage.ts'
import { systemRandom } from '../os/random.ts'
import { fc } from '../os/testing/properties.ts'
import { makePairing, takePairing } from './pair.ts'
import { parseServerConfig } from './server-config.ts'

function settings(t: TestContext, name: string, role: string, set = 'shop') {
  const directory = mkdtempSync(join(tmpdir(), 'hotspare-pair-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const other = name === 'alpha' ? 'beta' : 'alpha'
  const upstream = role === 'standby' ? `upstream: ${other}` : ''
  const text = `set: ${set}\nname: ${name}\nrole: ${role}\n${upstream}\nstate: state\nstores: [{path: app.db, driver: sqlite}]\npeers: [{name: ${other}}]\n`
  return parseServerConfig(text, join(directory, 'hotspare.yaml')).settings
}

test('after pairing both sides have the secret in files that nobody else reads; the taker knows the maker by its certificate', async t => {
  const alpha = settings(t, 'alpha', 'primary')
  const beta = settings(t, 'beta', 'standby')
  const made = await makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'beta', again: false })
  const taken = await takePairing(
    nodeStorage,
    beta,
    `  ${made.token.slice(0, 60)}\n${made.token.slice(60)}\n`,
  )
  assert.deepEqual(taken, { peer: 'alpha', fingerprint: made.fingerprint, known: true })
  const atAlpha = await new PeerStore(nodeStorage, alpha.stateDirectory).peer('beta')
  const atBeta = await new PeerStore(nodeStorage, beta.stateDirectory).peer('alpha')
  assert.deepEqual(atAlpha?.secret, atBeta?.secret)
  assert.equal(atAlpha?.certificate, undefined)
  assert.equal(atBeta?.certificate, made.fingerprint)
  for (const { stateDirectory } of [alpha, beta]) {
    for (const file of readdirSync(join(stateDirectory, 'peers')))
      assert.equal(statSync(join(stateDirectory, 'peers', file)).mode & 0o777, 0o600)
  }
})

test('servers that are paired are paired anew only when asked for, and then with another secret', async t => {
  const alpha = settings(t, 'alpha', 'primary')
  const make = (again: boolean) =>
    makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'beta', again })
  const first = await make(false)
  await assert.rejects(make(false), { code: 'usage' })
  const second = await make(true)
  assert.ok(!parsePairToken(first.token).secret.equals(parsePairToken(second.token).secret))
})

test('a token is taken only by the server of the set that it is for', async t => {
  const alpha = settings(t, 'alpha', 'primary')
  const made = await makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'gamma', again: false })
  assert.equal(made.known, false)
  const beta = settings(t, 'beta', 'standby')
  await assert.rejects(takePairing(nodeStorage, beta, made.token), /for a server named 'gamma'/)
  const other = settings(t, 'gamma', 'primary', 'library')
  await assert.rejects(takePairing(nodeStorage, other, made.token), /of the set 'shop'/)
  await assert.rejects(
    makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'alpha', again: false }),
    /this server itself/,
  )
})

test('a token comes out as it went in, and any letter that is wrong or missing is seen', () => {
  const token = {
    set: 'shop',
    from: 'alpha',
    to: 'beta',
    secret: systemRandom.bytes(32),
    certificate: systemRandom.bytes(32).toString('hex'),
    address: 'tcp://alpha.example.org:2000',
  }
  const text = pairTokenText(token)
  assert.deepEqual(parsePairToken(text), token)
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom('', 'A', 'z', '-', '9', '.'), (at, letter) => {
      fc.pre(text[at] !== letter)
      assert.throws(() => parsePairToken(text.slice(0, at) + letter + text.slice(at + 1)), { code: 'usage' })
    }),
  )
  assert.throws(() => parsePairToken(text.replace('pair-1.', 'pair-2.')), /version 2/)
})

test('a pairing whose file is damaged is named, and no pairing is made up from it', async t => {
  const alpha = settings(t, 'alpha', 'primary')
  await makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'beta', again: false })
  const store = new PeerStore(nodeStorage, alpha.stateDirectory)
  await store.pin('beta', 'ab'.repeat(32))
  assert.equal((await store.peer('beta'))?.certificate, 'ab'.repeat(32))
  await assert.rejects(store.pin('beta', 'cd'.repeat(32)))
  for (const text of ['', '{}', '{"v":1,"name":"gamma"}', 'x'.repeat(100_000)]) {
    writeFileSync(join(alpha.stateDirectory, 'peers/beta.json'), text)
    await assert.rejects(store.peer('beta'))
  }
  assert.equal(await store.peer('../alpha'), undefined)
  assert.equal(await store.peer('..'), undefined)
})

test('a peer that proves itself in several connections at once is pinned in each of them', async t => {
  const alpha = settings(t, 'alpha', 'primary')
  await makePairing(nodeStorage, systemRandom, { settings: alpha, peer: 'beta', again: false })
  const store = new PeerStore(nodeStorage, alpha.stateDirectory)
  const certificate = 'ab'.repeat(32)
  await Promise.all(Array.from({ length: 20 }, () => store.pin('beta', certificate)))
  assert.equal((await store.peer('beta'))?.certificate, certificate)
  const others = await Promise.allSettled([
    store.pin('beta', 'cd'.repeat(32)),
    store.pin('beta', certificate),
  ])
  assert.deepEqual(
    others.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  )
})
