import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MachineClock, VirtualTime } from '../../test/sim/virtual-time.ts'
import { systemRandom } from '../os/random.ts'
import { MemoryTransport, memoryStreamPair } from '../os/testing/memory-transport.ts'
import { Answerer, handshakesMax } from './answerer.ts'
import { callDelayMs, callDelayMsMax } from './backoff.ts'
import { Caller } from './caller.ts'
import { FrameInput } from './frame-input.ts'
import { refusalOf } from './link-error.ts'
import type { LinkLife } from './link-machine.ts'
import type { Session } from './session.ts'
import { TestTrust, testHello } from './testing/session-pair.ts'

const address = 'memory:alpha'

function world() {
  const time = new VirtualTime()
  const clock = new MachineClock(time, 0)
  const transport = new MemoryTransport()
  const lives: LinkLife[] = []
  const errors: Error[] = []
  const sessions: Session[] = []
  const answered: Session[] = []
  const refused: Error[] = []
  const trust = new TestTrust()
  const call = () =>
    new Caller({
      peer: 'alpha',
      address,
      transport,
      clock,
      random: systemRandom,
      terms: () => ({ hello: testHello('beta'), trust }),
      async onSession(session) {
        sessions.push(session)
        await session.over
      },
      onLife(life, error) {
        lives.push(life)
        if (error !== undefined) errors.push(error)
      },
    })
  const answer = (answererTrust = trust) =>
    Answerer.open({
      address,
      transport,
      clock,
      random: systemRandom,
      terms: () => ({ hello: testHello('alpha'), trust: answererTrust }),
      onSession: session => answered.push(session),
      onRefused: error => refused.push(error),
    })
  const until = async (done: () => boolean, limitMs = 120_000) =>
    assert.ok(await time.run(done, limitMs), 'it did not happen in time')
  /** Ends what is under virtual time. */
  const finish = async (...ending: Promise<unknown>[]) => {
    let over = false
    const all = Promise.all(ending).then(() => {
      over = true
    })
    await until(() => over)
    await all
  }
  return { time, transport, lives, errors, sessions, answered, refused, call, answer, until, finish }
}

test('a caller calls until somebody answers, and again after each break', async () => {
  const { time, transport, errors, sessions, answered, call, answer, until, finish } = world()
  const caller = call()
  await time.run(() => false, 100_000)
  assert.ok(errors.length >= 7 && errors.length <= 20, `${errors.length} calls in 100 s`)
  assert.match(String(errors[0]), /'alpha' cannot be reached at memory:alpha/)
  const answerer = await answer()
  for (let round = 1; round <= 4; round++) {
    await until(() => answered.length === round)
    transport.breakAll()
  }
  assert.equal(sessions.length, 4)
  await finish(caller.stop(), answerer.close())
  assert.equal(caller.life.state, 'stopped')
})

test('sessions that end as soon as they stand are made ever more seldom; after one that stood, at once again', async () => {
  const { time, answered, sessions, call, answer, until, finish } = world()
  const answerer = await answer()
  const caller = call()
  const end = async () => {
    for (const session of sessions) await session.close('refused')
  }
  const endMs = time.nowMs + 100_000
  while (time.nowMs < endMs) {
    await time.run(() => false, 10)
    caller.tell('subscribed')
    await finish(end())
  }
  assert.ok(sessions.length >= 7 && sessions.length <= 20, `${sessions.length} sessions in 100 s`)
  const before = sessions.length
  await until(() => sessions.length === before + 1)
  await time.run(() => false, 2_000)
  const fromMs = time.nowMs
  await finish(end())
  await until(() => sessions.length === before + 2)
  assert.ok(time.nowMs - fromMs < 500, `${time.nowMs - fromMs} ms later`)
  assert.equal(answered.length, sessions.length)
  await finish(caller.stop(), answerer.close())
})

test('a caller that is poked calls at once', async () => {
  const { time, answered, call, answer, until, finish } = world()
  const caller = call()
  await time.run(() => false, 200_000)
  const answerer = await answer()
  const fromMs = time.nowMs
  caller.poke()
  await until(() => answered.length === 1)
  assert.equal(time.nowMs - fromMs, 0)
  await finish(caller.stop(), answerer.close())
})

test('a refusal is told on both sides, and the caller comes back: the other side may be set right meanwhile', async () => {
  const { errors, refused, lives, answered, call, answer, until, finish } = world()
  const wrong = await answer(new TestTrust({ beta: Buffer.alloc(32, 1) }))
  const caller = call()
  await until(() => refused.length >= 3)
  assert.equal(refusalOf(refused[0]), 'proof')
  assert.equal(refusalOf(errors[0]), 'proof')
  assert.ok(lives.some(({ state }) => state === 'refused'))
  await wrong.close()
  const right = await answer()
  await until(() => answered.length === 1)
  await finish(caller.stop(), right.close())
})

test('the delay between calls grows to its bound, and is not the same for all', () => {
  const delays = (failures: number) => Array.from({ length: 50 }, () => callDelayMs(failures, systemRandom))
  assert.ok(Math.max(...delays(1)) <= 100)
  assert.ok(Math.min(...delays(12)) >= callDelayMsMax / 2 && Math.max(...delays(1e9)) <= callDelayMsMax)
  assert.ok(new Set(delays(12)).size > 40)
})

test('of callers who do not say who they are, few are let wait; the next is told so, and a place is free again in time', async () => {
  const { time, refused, answer, finish, answered, call, until } = world()
  const answerer = await answer()
  const strangers = Array.from({ length: handshakesMax }, () => memoryStreamPair())
  for (const { accepted } of strangers) answerer.accept(accepted)
  const next = memoryStreamPair()
  answerer.accept(next.accepted)
  const input = new FrameInput(next.dialled.read(), 16 * 1024, () => {})
  assert.match(String(await input.next()), /busy.*Too many callers/s)
  assert.equal(await input.next(), undefined)
  assert.equal(refusalOf(refused[0]), 'busy')
  await time.run(() => refused.length > handshakesMax, 20_000)
  assert.equal(refusalOf(refused.at(-1)), 'late')
  const caller = call()
  await until(() => answered.length === 1)
  await finish(caller.stop(), answerer.close())
})

test('a stranger who holds every place keeps out only itself: a peer from elsewhere gets one of them', async () => {
  const { refused, answer, finish, answered, call, until } = world()
  const answerer = await answer()
  const stranger = (i: number) => memoryStreamPair({ acceptedPeer: `10.9.9.9:${i + 1}` })
  const oldest = stranger(0)
  const strangers = [oldest, ...Array.from({ length: handshakesMax - 1 }, (_, i) => stranger(i + 1))]
  for (const { accepted } of strangers) answerer.accept(accepted)
  const caller = call()
  await until(() => answered.length === 1)
  const input = new FrameInput(oldest.dialled.read(), 16 * 1024, () => {})
  assert.match(String(await input.next()), /busy.*Too many callers/s)
  assert.equal(refused.length, 1)
  await finish(caller.stop(), answerer.close())
})
