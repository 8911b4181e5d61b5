import assert from 'node:assert/strict'
import test from 'node:test'
import type { ServerParts } from './parts.ts'
import type { Link } from './peer-link.ts'
import { UpstreamTaking } from './taking.ts'
import { ToldOnce } from './told-once.ts'

function world() {
  const done: string[] = []
  const over = Promise.withResolvers<{ error: unknown; refused: boolean }>()
  const peer = {
    current: undefined as Link | undefined,
    poke: () => done.push('called'),
    renew: async (reason: string) => done.push(`renewed: ${reason}`),
    failed: () => {},
  }
  const parts = {
    state: { value: { upstream: 'a' } },
    links: { has: () => true, peer: () => peer },
    downstream: {
      take: () => {
        done.push('taken')
        return { over: over.promise, stop: async () => over.resolve({ error: undefined, refused: false }) }
      },
    },
  } as unknown as ServerParts
  const link = { peer: 'a', control: { watch() {} }, tell() {} } as unknown as Link
  return { done, over, peer, link, taking: new UpstreamTaking(parts, new ToldOnce(() => {})) }
}

test('a session that came while nothing was to be taken is made anew when something is', async () => {
  const { done, peer, link, taking } = world()
  await taking.rest()
  await taking.take(link)
  peer.current = link
  assert.deepEqual(done, [])
  taking.go()
  assert.deepEqual(done, ['renewed: the log is taken again'])
})

test('without a session the upstream is called, and one that is taken from is left alone', async () => {
  const { done, over, peer, link, taking } = world()
  taking.go()
  peer.current = link
  const taken = taking.take(link)
  taking.go()
  assert.deepEqual(done, ['called', 'taken'])
  over.resolve({ error: undefined, refused: false })
  await taken
})

test('what is found again at each session with a peer is told once, until it is something else or has passed', () => {
  const told: string[] = []
  const once = new ToldOnce((level, code, text) => told.push(`${level} ${code} ${text}`))
  const old = { code: 'epoch-old', message: 'epoch 1 is old' } as const
  for (let i = 0; i < 3; i++) once.tell('a', 'warning', old)
  once.tell('b', 'warning', old)
  once.tell('a', 'warning', { ...old, message: 'epoch 2 is old' })
  once.passed('a')
  once.tell('a', 'warning', { ...old, message: 'epoch 2 is old' })
  assert.deepEqual(told, [
    'warning epoch-old epoch 1 is old',
    'warning epoch-old epoch 1 is old',
    'warning epoch-old epoch 2 is old',
    'warning epoch-old epoch 2 is old',
  ])
})
