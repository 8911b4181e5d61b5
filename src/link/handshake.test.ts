import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MachineClock, VirtualTime } from '../../test/sim/virtual-time.ts'
import { HotspareError } from '../os/errors.ts'
import { systemRandom } from '../os/random.ts'
import { type MemoryPairOptions, memoryStreamPair } from '../os/testing/memory-transport.ts'
import { fc } from '../os/testing/properties.ts'
import type { ByteStream } from '../os/transport.ts'
import { encodeFrame } from '../stream/frame.ts'
import { openSession, type SessionOptions } from './open-session.ts'
import { openSessionPair, sessionOptions, TestTrust, testHello } from './testing/session-pair.ts'

interface Outcome {
  readonly caller: string
  readonly called: string
}

/** What each side makes of the other: the reason of a refusal, and who refused; or 'open'. */
async function outcome(
  caller: Partial<SessionOptions>,
  called: Partial<SessionOptions>,
  streams: MemoryPairOptions = {},
): Promise<Outcome> {
  const pair = memoryStreamPair(streams)
  const [a, b] = await Promise.all([
    judge(openSession(pair.dialled, sessionOptions('beta', caller))),
    judge(openSession(pair.accepted, sessionOptions('alpha', called))),
  ])
  return { caller: a, called: b }
}

async function judge(opening: ReturnType<typeof openSession>): Promise<string> {
  try {
    const session = await opening
    session.close()
    return 'open'
  } catch (error) {
    if (!(error instanceof HotspareError)) throw error
    return error.code === 'link-refused' ? `${error.details.reason} by ${error.details.by}` : error.code
  }
}

const other = Buffer.alloc(32, 9)

test('two servers that know one secret open a session, and each knows what the other says of itself', async () => {
  const { caller, called } = await openSessionPair({
    caller: { hello: testHello('beta', { upstream: 'alpha', path: ['alpha', 'beta'], stream: '' }) },
  })
  assert.deepEqual(called.peer, testHello('beta', { upstream: 'alpha', path: ['alpha', 'beta'], stream: '' }))
  assert.deepEqual(caller.peer, testHello('alpha'))
  await caller.close()
})

const refusals: Record<
  string,
  {
    caller?: Partial<SessionOptions>
    called?: Partial<SessionOptions>
    expected: Outcome
  }
> = {
  'the caller has another secret': {
    caller: { trust: new TestTrust({ alpha: other }) },
    expected: { caller: 'proof by other', called: 'proof by this' },
  },
  'the caller is not known': {
    called: { trust: new TestTrust({ gamma: other }) },
    expected: { caller: 'stranger by other', called: 'stranger by this' },
  },
  'who was called is not known': {
    caller: { trust: new TestTrust({ gamma: other }) },
    expected: { caller: 'stranger by this', called: 'stranger by other' },
  },
  'another set': {
    caller: { hello: testHello('beta', { set: 'library' }) },
    expected: { caller: 'set by other', called: 'set by this' },
  },
  'a newer version': {
    caller: { hello: testHello('beta', { version: 2 }) },
    expected: { caller: 'version by other', called: 'version by this' },
  },
  'an older version at who was called': {
    called: { hello: testHello('alpha', { version: 0 }) },
    expected: { caller: 'version by this', called: 'version by other' },
  },
  'a server called itself': {
    caller: { hello: testHello('alpha') },
    expected: { caller: 'self by other', called: 'self by this' },
  },
  'another server than was called': {
    caller: { expected: 'gamma' },
    expected: { caller: 'name by this', called: 'name by other' },
  },
}

for (const [what, { caller = {}, called = {}, expected }] of Object.entries(refusals)) {
  test(`refused, and both sides know why: ${what}`, async () => {
    assert.deepEqual(await outcome(caller, called), expected)
  })
}

test('somebody who sits between, with a secured channel to each side, is refused by both', async () => {
  const left = memoryStreamPair({ binding: Buffer.alloc(32, 1) })
  const right = memoryStreamPair({ binding: Buffer.alloc(32, 2) })
  pass(left.accepted, right.dialled)
  pass(right.dialled, left.accepted)
  const [caller, called] = await Promise.all([
    judge(openSession(left.dialled, sessionOptions('beta'))),
    judge(openSession(right.accepted, sessionOptions('alpha'))),
  ])
  assert.deepEqual({ caller, called }, { caller: 'proof by other', called: 'proof by this' })
})

async function pass(from: ByteStream, to: ByteStream): Promise<void> {
  for await (const piece of from.read()) await to.write(piece)
  to.close()
}

test('nobody is let in by sending back what was sent to him', async () => {
  const pair = memoryStreamPair()
  pass(pair.accepted, pair.accepted)
  assert.equal(await judge(openSession(pair.dialled, sessionOptions('beta'))), 'self by this')
})

test('a certificate is pinned by the first session, and another is refused from then on, before a word is said', async () => {
  const trust = new TestTrust()
  const streams = { dialledCertificate: 'b1', acceptedCertificate: 'a1' }
  assert.equal((await outcome({}, { trust }, streams)).called, 'open')
  assert.deepEqual([...trust.pinned], [['beta', 'b1']])
  const changed = { ...streams, dialledCertificate: 'b2' }
  assert.deepEqual(await outcome({}, { trust }, changed), {
    caller: 'certificate by other',
    called: 'certificate by this',
  })
  const callerTrust = new TestTrust()
  callerTrust.pinned.set('alpha', 'a0')
  const pair = memoryStreamPair(streams)
  const calling = judge(
    openSession(pair.dialled, sessionOptions('beta', { trust: callerTrust, expected: 'alpha' })),
  )
  const heard: Buffer[] = []
  for await (const piece of pair.accepted.read()) {
    heard.push(piece)
    pair.accepted.close()
  }
  assert.equal(await calling, 'certificate by this')
  // a refusal, which names nobody but who was called
  assert.ok(!Buffer.concat(heard).includes('beta') && !Buffer.concat(heard).includes('shop'))
})

test('who proves nothing pins nothing', async () => {
  const trust = new TestTrust()
  await outcome({ trust: new TestTrust({ alpha: other }) }, { trust }, { dialledCertificate: 'b1' })
  assert.equal(trust.pinned.size, 0)
})

test('who is silent, or slow, is refused after ten seconds', async () => {
  for (const role of ['alpha', 'beta']) {
    const time = new VirtualTime()
    const clock = new MachineClock(time, 0)
    const pair = memoryStreamPair()
    const startMs = clock.nowMs()
    let endedMs = 0
    const end = role === 'alpha' ? pair.accepted : pair.dialled
    const stranger = role === 'alpha' ? pair.dialled : pair.accepted
    const opening = judge(openSession(end, sessionOptions(role, { clock }))).finally(() => {
      endedMs = clock.nowMs()
    })
    // a byte a second of what may become a frame
    const drip = encodeFrame(Buffer.alloc(10_000, 0))
    let at = 0
    const dripping = (async () => {
      for (;;) {
        await clock.sleep(1000)
        await stranger.write(drip.subarray(at, ++at))
      }
    })().catch(() => {})
    await time.run(() => endedMs > 0, 60_000)
    assert.equal(await opening, 'late by this')
    assert.equal(endedMs - startMs, 10_000)
    await time.run(() => false, 2000)
    await dripping
  }
})

test('before the proof nothing is taken but a bounded handshake, whatever comes', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }).map(value => Buffer.from(value)),
    fc.uint8Array({ minLength: 1, maxLength: 3000 }).map(value => encodeFrame(value)),
    fc.constant(Buffer.from('GET / HTTP/1.1\r\nHost: example.org\r\n\r\n')),
    fc.constant(encodeFrame(Buffer.alloc(16 * 1024 + 1, 1))),
    fc.constant(encodeFrame(Buffer.alloc(5 * 1024 * 1024))),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(bytes, { minLength: 1, maxLength: 4 }), async pieces => {
      const pair = memoryStreamPair()
      const opening = judge(openSession(pair.accepted, sessionOptions('alpha')))
      const answer = (async () => {
        const heard: Buffer[] = []
        for await (const piece of pair.dialled.read()) heard.push(piece)
        return Buffer.concat(heard)
      })()
      for (const piece of pieces) await pair.dialled.write(piece).catch(() => {})
      pair.dialled.close()
      assert.match(await opening, /^(protocol by this|link-broken|version by this)$/)
      assert.ok((await answer).length < 1024)
    }),
    { numRuns: 300 },
  )
})

test('what is changed on the way of a handshake opens no session that differs between the two', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(800), fc.integer({ min: 1, max: 255 }), fc.boolean(), async (at, change, up) => {
      const left = memoryStreamPair()
      const right = memoryStreamPair()
      turn(left.accepted, right.dialled, up ? at : -1, change)
      turn(right.dialled, left.accepted, up ? -1 : at, change)
      const ends = { caller: left.dialled, called: right.accepted }
      const sessions = await Promise.allSettled([
        openSession(ends.caller, sessionOptions('beta', { random: systemRandom })),
        openSession(ends.called, sessionOptions('alpha')),
      ])
      const [caller, called] = sessions
      if (caller.status === 'fulfilled') assert.deepEqual(caller.value.peer, testHello('alpha'))
      if (called.status === 'fulfilled') assert.deepEqual(called.value.peer, testHello('beta'))
      for (const session of sessions) if (session.status === 'fulfilled') session.value.close()
      ends.caller.close()
      ends.called.close()
    }),
    { numRuns: 200 },
  )
})

/** Passes on, with one byte changed. */
async function turn(from: ByteStream, to: ByteStream, at: number, change: number): Promise<void> {
  let offset = 0
  try {
    for await (const piece of from.read()) {
      const bytes = Buffer.from(piece)
      if (at >= offset && at < offset + bytes.length)
        bytes[at - offset] = (bytes[at - offset] as number) ^ change
      offset += bytes.length
      await to.write(bytes)
    }
  } catch {
    // the other side has closed
  }
  to.close()
}
