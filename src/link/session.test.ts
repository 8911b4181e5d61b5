import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MachineClock, VirtualTime } from '../../test/sim/virtual-time.ts'
import { memoryStreamPair } from '../os/testing/memory-transport.ts'
import { fc } from '../os/testing/properties.ts'
import type { ByteStream } from '../os/transport.ts'
import type { StoreName } from '../stream/entry.ts'
import { encodeFrame } from '../stream/frame.ts'
import type { Compressor } from './compression.ts'
import type { SessionLimits } from './link-session.ts'
import type { LinkMessage } from './messages.ts'
import { openSession } from './open-session.ts'
import type { Session } from './session.ts'
import { arbitraryMessage } from './testing/arbitrary-message.ts'
import { openSessionPair, sessionOptions } from './testing/session-pair.ts'
import { encodeWire } from './wire.ts'

const epoch = { number: 3, by: 'alpha' }

function logMessage(bytes: number, number: number): LinkMessage {
  return {
    type: 'log',
    pieces: [
      { type: 'begin', number, epoch, store: 'db' as StoreName },
      { type: 'entries', data: Buffer.alloc(bytes, number % 251) },
    ],
  }
}

async function all(messages: AsyncIterable<LinkMessage>): Promise<LinkMessage[]> {
  const list: LinkMessage[] = []
  for await (const message of messages) list.push(message)
  return list
}

test('messages of a channel arrive whole and in order, whatever their size', async () => {
  const { caller, called } = await openSessionPair()
  const sizes = [0, 1, 70_000, 1_000_000, 1_400_000, 8 * 2 ** 20 + 16, 5, 300_000]
  const sent = sizes.map((bytes, i) => logMessage(bytes, i + 1))
  const channel = called.channel('log')
  const sending = (async () => {
    for (const message of sent) await channel.send(message)
    channel.close()
  })()
  assert.deepEqual(await all(caller.channel('log').messages()), sent)
  await sending
  await caller.close()
  assert.match(String(await called.over), /'beta' closed the link/)
  assert.equal(await caller.over, undefined)
})

test('a channel that is not read holds up no other, and no more is under way on it than its window', async () => {
  const { caller, called } = await openSessionPair()
  const stuck = called.channel('sync db')
  let taken = 0
  const pushing = (async () => {
    for (let i = 0; ; i++) {
      await stuck.send(logMessage(100_000, i + 1))
      taken += 100_000
    }
  })().catch(error => error as Error)
  const control = called.channel('control')
  const heard = caller.channel('control').messages()[Symbol.asyncIterator]()
  for (let id = 0; id < 200; id++) {
    await control.send({ type: 'sync-flush', id })
    assert.deepEqual((await heard.next()).value, { type: 'sync-flush', id })
  }
  assert.ok(taken > 1_000_000 && taken <= 4 * 2 ** 20, `${taken} bytes under way`)
  await caller.close('enough')
  assert.match(String(await pushing), /closed the link: enough/)
})

test('a channel that is closed may be had again by its name, and what was said on the first stays with the first', async () => {
  const { caller, called } = await openSessionPair()
  for (let round = 0; round < 300; round++) {
    const down = called.channel('sync db')
    const up = caller.channel('sync db')
    await down.send({ type: 'sync-flush', id: round })
    down.close()
    await up.send({ type: 'sync-durable', id: round })
    up.close()
    const [heard, answers] = await Promise.all([all(up.messages()), all(down.messages())])
    assert.deepEqual(heard, [{ type: 'sync-flush', id: round }])
    assert.deepEqual(answers, [{ type: 'sync-durable', id: round }])
  }
  // one side is several ahead of the other
  for (let round = 0; round < 3; round++) {
    const down = called.channel('sync db')
    await down.send({ type: 'sync-flush', id: round })
    down.close()
  }
  for (let round = 0; round < 3; round++) {
    const up = caller.channel('sync db')
    up.close()
    assert.deepEqual(await all(up.messages()), [{ type: 'sync-flush', id: round }])
  }
  await caller.close()
})

test('room that is granted late, for a channel that is over, is not taken for the next of its name', async () => {
  const { caller, called } = await openSessionPair()
  for (let round = 0; round < 40; round++) {
    const up = caller.channel('sync db')
    const down = called.channel('sync db')
    // the reader has closed its own direction already, and takes what comes, while the sender ends and begins again
    up.close()
    const heard = all(up.messages())
    for (let i = 0; i < 3; i++) await down.send(logMessage(1_000_000, i))
    down.close()
    const next = called.channel('sync db')
    await next.send({ type: 'sync-flush', id: round })
    next.close()
    assert.equal((await heard).length, 3)
    const after = caller.channel('sync db')
    assert.deepEqual(await all(after.messages()), [{ type: 'sync-flush', id: round }])
    after.close()
  }
  await caller.close()
})

test('who stops reading a channel and closes it keeps nobody waiting who still sends on it', async () => {
  const { caller, called } = await openSessionPair()
  const up = caller.channel('sync db')
  const down = called.channel('sync db')
  const sending = (async () => {
    for (let i = 0; i < 100; i++) await down.send(logMessage(200_000, i))
    down.close()
  })()
  for await (const message of up.messages()) {
    assert.equal(message.type, 'log')
    break
  }
  up.close()
  await sending
  assert.deepEqual(await all(down.messages()), [])
  await caller.close()
})

test('what was sent before a close arrives before it', async () => {
  const { caller, called } = await openSessionPair()
  const heard: LinkMessage[] = []
  const hearing = (async () => {
    for await (const message of caller.channel('control').messages()) heard.push(message)
  })().catch(error => String(error))
  for (let id = 0; id < 50; id++) await called.channel('control').send({ type: 'sync-flush', id })
  await called.close('a newer epoch')
  assert.match(String(await hearing), /'alpha' closed the link: a newer epoch/)
  assert.equal(heard.length, 50)
})

test('a session whose connection breaks rejects all who wait, on both sides, and says why', async () => {
  const { caller, called, streams } = await openSessionPair()
  const reading = all(caller.channel('log').messages()).catch(error => error)
  const sending = (async () => {
    for (;;) await called.channel('log').send(logMessage(500_000, 1))
  })().catch(error => error)
  streams.break(new Error('cable cut'))
  for (const error of [await reading, await sending, await caller.over, await called.over]) {
    assert.equal(error.code, 'link-broken')
    assert.match(error.message, /cable cut/)
  }
  await assert.rejects(called.channel('log').send(logMessage(1, 1)), { code: 'link-broken' })
  await caller.close()
})

interface Timed {
  readonly time: VirtualTime
  readonly caller: Session
  readonly called: Session
  /** What the caller sends stays where it is. */
  stall(): void
}

/** A pair under virtual time, whose upward way can be made to swallow everything, or to take nothing. */
async function timedPair(limits: Partial<SessionLimits> = {}, taking = true): Promise<Timed> {
  const time = new VirtualTime()
  const clock = new MachineClock(time, 0)
  const pair = memoryStreamPair()
  let stalled = false
  const up: ByteStream = {
    peer: 'alpha',
    read: () => pair.dialled.read(),
    write: data => (!stalled ? pair.dialled.write(data) : taking ? Promise.resolve() : new Promise(() => {})),
    close: () => pair.dialled.close(),
  }
  const [caller, called] = await Promise.all([
    openSession(up, sessionOptions('beta', { clock, limits })),
    openSession(pair.accepted, sessionOptions('alpha', { clock, limits })),
  ])
  return {
    time,
    caller,
    called,
    stall: () => {
      stalled = true
    },
  }
}

test('heartbeats keep a session that has nothing to say, and measure its round trip', async () => {
  const { time, caller, called } = await timedPair()
  let over = false
  caller.over.then(() => {
    over = true
  })
  await time.run(() => over, 3_600_000)
  assert.equal(over, false)
  assert.equal(caller.figures().roundTripMs, 0)
  assert.ok(called.figures().receivedBytes > 360 * 16)
  const closing = caller.close()
  await time.run(() => over, 60_000)
  await closing
})

test('who hears nothing for thirty seconds ends the session', async () => {
  const { time, called, stall } = await timedPair()
  await time.run(() => false, 5_000)
  stall()
  const fromMs = time.nowMs
  let error: Error | undefined
  called.over.then(end => {
    error = end
  })
  await time.run(() => error !== undefined, 120_000)
  assert.match(String(error), /Nothing came from 'beta' for 30 s/)
  assert.ok(time.nowMs - fromMs <= 30_000)
})

test('a write that nobody takes for thirty seconds ends the session', async () => {
  // the other side goes on talking, so that it is not silence that ends it
  const { time, caller, stall } = await timedPair({ silenceMs: 1_000_000 }, false)
  stall()
  const fromMs = time.nowMs
  let error: Error | undefined
  caller.over.then(end => {
    error = end
  })
  caller
    .channel('log')
    .send(logMessage(10, 1))
    .catch(() => {})
  await time.run(() => error !== undefined, 120_000)
  assert.match(String(error), /'alpha' took nothing for 3\d s/)
  assert.ok(time.nowMs - fromMs <= 41_000, `${time.nowMs - fromMs} ms`)
})

test('a bandwidth limit is kept, and a message that takes longer than the silence allowed does not end the session', async () => {
  const limits = { bandwidthBytesPerSecond: 20_000 }
  const { time, caller, called } = await timedPair(limits)
  const startMs = time.nowMs
  let done = false
  const reading = all(called.channel('log').messages()).finally(() => {
    done = true
  })
  const channel = caller.channel('log')
  channel.send(logMessage(1_200_000, 1)).then(() => channel.close())
  await time.run(() => done, 600_000)
  assert.equal((await reading).length, 1)
  const seconds = (time.nowMs - startMs) / 1000
  assert.ok(seconds > 59 && seconds < 63, `${seconds} s`)
  let over = false
  const closing = caller.close().then(() => {
    over = true
  })
  await time.run(() => over, 60_000)
  await closing
})

test('damage on the way ends the session: what came before it is a prefix of what was sent, and nothing else comes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(arbitraryMessage, { minLength: 1, maxLength: 30 }),
      fc.nat(4000),
      fc.integer({ min: 1, max: 255 }),
      async (messages, at, change) => {
        const down = memoryStreamPair()
        const opening = Promise.all([
          openSession(damaging(down.accepted, 400 + at, change), sessionOptions('alpha')),
          openSession(down.dialled, sessionOptions('beta')),
        ])
        const [called, caller] = await opening
        const heard: LinkMessage[] = []
        const hearing = (async () => {
          for await (const message of caller.channel('control').messages()) heard.push(message)
        })().catch(error => error)
        const channel = called.channel('control')
        for (const message of messages) await channel.send(message).catch(() => {})
        await called.close()
        const error = await hearing
        assert.equal(error.code, 'link-broken')
        assert.deepEqual(heard, messages.slice(0, heard.length))
      },
    ),
    { numRuns: 150 },
  )
})

/** One byte after so many is another. */
function damaging(stream: ByteStream, at: number, change: number): ByteStream {
  let offset = 0
  return {
    peer: stream.peer,
    read: () => stream.read(),
    close: () => stream.close(),
    write(data) {
      const bytes = Buffer.from(data)
      if (at >= offset && at < offset + bytes.length)
        bytes[at - offset] = (bytes[at - offset] as number) ^ change
      offset += bytes.length
      return stream.write(bytes)
    },
  }
}

test('whatever a peer sends after it was let in, the session goes on or ends with a reason; memory stays bounded', async () => {
  const frame = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 60 }).map(bytes => encodeFrame(bytes)),
    fc.uint8Array({ minLength: 1, maxLength: 60 }).map(bytes => Buffer.from(bytes)),
    fc.nat(200).map(channel => encodeWire({ kind: 'close', channel })),
    fc
      .tuple(fc.nat(130), fc.string({ maxLength: 100 }))
      .map(([channel, name]) => encodeWire({ kind: 'open', channel, name })),
    fc
      .tuple(fc.nat(3), fc.maxSafeNat())
      .map(([channel, bytes]) => encodeWire({ kind: 'credit', channel, bytes })),
    fc.nat().map(id => encodeWire({ kind: 'pong', id })),
    fc.nat().map(id => encodeWire({ kind: 'ping', id })),
    fc
      .uint8Array({ maxLength: 60 })
      .map(bytes => encodeWire({ kind: 'packed', rawBytes: 100, bytes: Buffer.from(bytes) })),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 20 }), async frames => {
      const { called, streams } = await openSessionPair()
      for (const bytes of frames) await streams.dialled.write(bytes).catch(() => {})
      streams.dialled.close()
      const error = await called.over
      assert.equal((error as { code?: string }).code, 'link-broken', String(error))
    }),
    { numRuns: 300 },
  )
})

test('a peer that sends more than it was allowed is cut off', async () => {
  const { called, streams } = await openSessionPair()
  await streams.dialled.write(encodeWire({ kind: 'open', channel: 0, name: 'log' }))
  // parts without an end
  const part = Buffer.concat([Buffer.from([1, 0, 0, 0, 0]), Buffer.alloc(1024 * 1024)])
  for (let i = 0; i < 12; i++) await streams.dialled.write(encodeFrame(part)).catch(() => {})
  assert.match(String(await called.over), /has no end|more came/)
})

/** Says that everything is the letter x, many times. */
const runLength: Compressor = {
  async compress(bytes) {
    return bytes.every(byte => byte === bytes[0]) ? Buffer.from([bytes[0] as number]) : Buffer.from(bytes)
  },
  async decompress(bytes, rawBytes) {
    if (bytes.length === 1) return Buffer.alloc(rawBytes, bytes[0])
    if (bytes.length !== rawBytes) throw new Error('not what it was')
    return bytes
  },
}

test('packed frames that are not agreed on, or do not hold whole frames, end the session', async () => {
  const packed = encodeWire({ kind: 'packed', rawBytes: 5000, bytes: Buffer.from([7]) })
  const plain = await openSessionPair()
  await plain.streams.dialled.write(packed)
  assert.match(String(await plain.called.over), /not agreed on/)
  const agreed = await openSessionPair({
    caller: { compressor: runLength },
    called: { compressor: runLength },
  })
  await agreed.streams.dialled.write(packed)
  assert.match(String(await agreed.called.over), /whole frames|length/)
  const large = await openSessionPair({
    caller: { compressor: runLength },
    called: { compressor: runLength },
  })
  await large.streams.dialled.write(
    encodeWire({ kind: 'packed', rawBytes: 2 ** 40, bytes: Buffer.from([7]) }),
  )
  assert.match(String(await large.called.over), /is said to have/)
})
