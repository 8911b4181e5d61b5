import assert from 'node:assert/strict'
import test from 'node:test'
import type { Hello } from '../link/session.ts'
import { systemRandom } from '../os/random.ts'
import { type Link, PeerLink, type PeerLinkOptions } from './peer-link.ts'
import type { ServerMachine } from './server.ts'
import { sessionPair } from './testing/session-pair.ts'
import { newClock } from './upstream/testing/test-server.ts'

function helloOf(server: string, upstream?: string): Hello {
  const common = { version: 1, set: 'set', server, stream: 's', epoch: { number: 1, by: 'a' } }
  return { ...common, role: 'standby', path: [server], ...(upstream === undefined ? {} : { upstream }) }
}

/** What gamma has of its peer beta; `own` is asked whenever it says what it is. */
function linkOf(own: () => Hello, onLink: PeerLinkOptions['onLink']): PeerLink {
  return new PeerLink({
    self: 'gamma',
    peer: { name: 'beta', subscriber: true },
    machine: { clock: newClock(), random: systemRandom } as unknown as ServerMachine,
    terms: () => ({ hello: own(), trust: { peer: async () => undefined, pin: async () => {} } }),
    onLink,
  })
}

test('a session that waited for the one before it says what the server is by then, or is closed', async () => {
  const had: string[] = []
  const held = Promise.withResolvers<void>()
  let own = helloOf('gamma', 'alpha')
  const peer = linkOf(
    () => own,
    async link => {
      had.push(own.upstream ?? '')
      await link.session.over
      // what the session was used for takes a while to end
      await held.promise
    },
  )
  const meet = () => {
    const said = own
    const { first, second } = sessionPair(said, helloOf('beta'))
    return { first, second, said, adopted: peer.adopt(first, false, said) }
  }
  const one = meet()
  await new Promise(setImmediate)
  const two = meet()
  await one.second.over
  own = helloOf('gamma', 'beta')
  held.resolve()
  for (let i = 0; i < 10; i++) await new Promise(setImmediate)
  assert.deepEqual(had, ['alpha'])
  assert.match(String(await two.second.over), /what was said is not true any more/)
  await Promise.all([one.adopted, two.adopted])
  const three = meet()
  await new Promise(setImmediate)
  assert.deepEqual(had, ['alpha', 'beta'])
  await peer.close()
  await three.adopted
})

test('who asks for a session is never given one that is over, however long what it was used for takes to end', async () => {
  const held = Promise.withResolvers<void>()
  const own = helloOf('gamma', 'beta')
  const peer = linkOf(
    () => own,
    async link => {
      await link.session.over
      await held.promise
    },
  )
  const { signal } = new AbortController()
  const one = sessionPair(own, helloOf('beta'))
  const firstAdopted = peer.adopt(one.first, false, own)
  assert.equal((await peer.connected(signal)).session, one.first)
  one.break()
  await one.first.over
  const found: Link[] = []
  const asked = peer.connected(signal).then(link => found.push(link))
  await new Promise(setImmediate)
  assert.equal(found.length, 0)
  held.resolve()
  await firstAdopted
  const two = sessionPair(own, helloOf('beta'))
  const secondAdopted = peer.adopt(two.first, false, own)
  await asked
  assert.equal(found[0]?.session, two.first)
  await peer.close()
  await secondAdopted
})
