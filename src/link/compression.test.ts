import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { MachineClock, VirtualTime } from '../../test/sim/virtual-time.ts'
import { memoryStreamPair } from '../os/testing/memory-transport.ts'
import type { ByteStream } from '../os/transport.ts'
import { zstdCompressor } from '../os/zstd.ts'
import { CompressionChoice, type Compressor } from './compression.ts'
import { openSession } from './open-session.ts'
import { sessionOptions } from './testing/session-pair.ts'

test('compression goes on only while it saves a tenth, and time as well', () => {
  const batch = 256 * 1024
  const slow = new CompressionChoice()
  // a link of 1 MB/s
  for (let i = 0; i < 100; i++) slow.wrote(batch, batch / 1000)
  assert.ok(slow.wants(batch, 0))
  assert.ok(slow.packed(batch, batch / 2, 1, 0))
  assert.ok(slow.on && slow.wants(batch, 1))
  assert.ok(!slow.packed(batch, batch * 0.95, 1, 1), 'what saves little goes as it is')
  assert.ok(!slow.on && !slow.wants(batch, 2), 'and is not tried each time')
  assert.ok(slow.wants(batch, 6000), 'but again after a while')
  const quick = new CompressionChoice()
  // a link of 1 GB/s, and a compressor of 0.5
  for (let i = 0; i < 100; i++) quick.wrote(batch, batch / 1e6)
  assert.ok(!quick.wants(batch, 0))
  quick.packed(batch, batch / 2, batch / 5e5, 0)
  assert.ok(!quick.on)
})

/** A pair whose upward way carries so many bytes a second. */
async function slowPair(bytesPerMs: number, compressor: Compressor | undefined) {
  const time = new VirtualTime()
  const clock = new MachineClock(time, 0)
  const pair = memoryStreamPair()
  let bytes = 0
  const up: ByteStream = {
    peer: 'alpha',
    read: () => pair.dialled.read(),
    async write(data) {
      bytes += data.length
      await clock.sleep(data.length / bytesPerMs)
      await pair.dialled.write(data)
    },
    close: () => pair.dialled.close(),
  }
  const more = compressor === undefined ? {} : { compressor }
  const [caller, called] = await (async () => {
    let sessions: Awaited<ReturnType<typeof openSession>>[] | undefined
    const opening = Promise.all([
      openSession(up, sessionOptions('beta', { clock, ...more })),
      openSession(pair.accepted, sessionOptions('alpha', { clock, ...more })),
    ]).then(opened => {
      sessions = opened
    })
    await time.run(() => sessions !== undefined, 10_000)
    await opening
    return sessions as NonNullable<typeof sessions>
  })()
  return { time, caller: caller!, called: called!, bytes: () => bytes }
}

async function send(content: Buffer, bytesPerMs: number, compressor: Compressor | undefined) {
  const { time, caller, called, bytes } = await slowPair(bytesPerMs, compressor)
  const up = caller.channel('log')
  const messages = 60
  ;(async () => {
    for (let i = 0; i < messages; i++) await up.send({ type: 'sync-entries', data: content })
    up.close()
  })()
  let received = 0
  let done = false
  ;(async () => {
    for await (const message of called.channel('log').messages()) {
      assert.ok(message.type === 'sync-entries' && message.data.equals(content))
      received++
    }
    done = true
  })()
  await time.run(() => done, 600_000)
  assert.equal(received, messages)
  caller.close()
  await time.run(() => false, 5000)
  return bytes() / (messages * content.length)
}

const text = Buffer.from('a row of a table that says much the same as the row before it; '.repeat(3000))

/** At once, so that no virtual time passes meanwhile. */
const zstdAtOnce: Compressor = {
  compress: async bytes => zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }),
  decompress: async bytes => zstdDecompressSync(bytes),
}

test('what can be compressed goes compressed over a slow link, and arrives as it was', async () => {
  const share = await send(text, 100, zstdAtOnce)
  assert.ok(share < 0.5, `${share} of the bytes were sent`)
})

test('what cannot be compressed, or where one side does not know how, goes as it is', async () => {
  assert.ok((await send(randomBytes(200_000), 1000, zstdAtOnce)) < 1.01)
  assert.ok((await send(text, 1000, undefined)) >= 1)
})

test('what says it is larger than it is, or is damaged, is not unpacked', async () => {
  const packed = await zstdCompressor.compress(text)
  assert.ok((await zstdCompressor.decompress(packed, text.length)).equals(text))
  await assert.rejects(zstdCompressor.decompress(packed, text.length - 1))
  await assert.rejects(zstdCompressor.decompress(packed, text.length + 1))
  await assert.rejects(zstdCompressor.decompress(packed.subarray(0, -3), text.length))
})
