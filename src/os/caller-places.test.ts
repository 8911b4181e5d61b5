import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CallerPlaces, networkOf } from './caller-places.ts'

test('whoever calls most gives way to others, its oldest first, and keeps out only itself', () => {
  const places = new CallerPlaces(4)
  const gone: string[] = []
  const take = (from: string, name: string) => places.take(from, () => gone.push(name))
  const held = ['1', '2', '3', '4'].map(name => take(`10.0.0.1:${name}`, name))
  assert.ok(held.every(leave => leave !== undefined))
  assert.equal(take('10.0.0.1:5', '5'), undefined)
  const peer = take('10.0.0.2:1', 'peer')
  assert.ok(peer)
  assert.deepEqual(gone, ['1'])
  assert.ok(take('10.0.0.2:2', 'peer too'))
  assert.deepEqual(gone, ['1', '2'])
  // both hold two: nobody gives way to one that would hold more than it
  assert.equal(take('10.0.0.1:6', '6'), undefined)
  assert.equal(take('10.0.0.2:3', 'peer again'), undefined)
  assert.ok(take('10.0.0.3:1', 'third'))
  assert.equal(gone.length, 3)
})

test('a place that was given back is free, once, also by one that had to give way', () => {
  const places = new CallerPlaces(2)
  const first = places.take('a', () => {})
  places.take('a', () => {})
  assert.ok(places.take('b', () => {}))
  first?.()
  assert.equal(
    places.take('a', () => {}),
    undefined,
  )
  const places1 = new CallerPlaces(1)
  const only = places1.take('a', () => {})
  only?.()
  only?.()
  assert.ok(places1.take('a', () => {}))
  assert.equal(
    places1.take('a', () => {}),
    undefined,
  )
})

test('an IPv6 caller is known by its network, all others by their address', () => {
  const expected: Readonly<Record<string, string>> = {
    '127.0.0.1:2000': '127.0.0.1',
    '::ffff:127.0.0.1:2000': '127.0.0.1',
    '2001:db8:0:7:1:2:3:4:2000': '2001:db8:0:7',
    '2001:db8:0:7::4:2000': '2001:db8:0:7',
    '[2001:0db8::7]:2000': '2001:db8:0:0',
    '::1:2000': '0:0:0:0',
    'fe80::1%eth0:2000': 'fe80:0:0:0',
    'memory:dialled': 'memory:dialled',
    'ssh backup@host': 'ssh backup@host',
  }
  for (const [address, network] of Object.entries(expected)) assert.equal(networkOf(address), network)
})
