import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Random } from '../os/testing/random.ts'
import { seed } from '../os/testing/seed.ts'
import { archiveFormats, decodeFrame, frameBytes, levels } from './compression.ts'
import { FrameEncoder } from './frame-encoder.ts'

/** What compresses well, badly, and not at all; whole frames and what may be the last. */
function frames(random: Random): Buffer[] {
  return Array.from({ length: 24 }, (_, i) => {
    const bytes = i % 8 === 7 ? 1 + random.below(frameBytes) : frameBytes
    switch (random.below(4)) {
      case 0:
        return random.bytes(bytes)
      case 1:
        return Buffer.alloc(bytes)
      case 2:
        return Buffer.alloc(bytes, random.bytes(1 + random.below(5000)))
      default:
        return Buffer.concat([
          random.bytes(bytes >> 1),
          Buffer.alloc(bytes - (bytes >> 1), 'words and words '),
        ])
    }
  })
}

for (const format of archiveFormats) {
  test(`a frame of a ${format} has the same bytes whatever was compressed before it or beside it (HOTSPARE_SEED=${seed})`, async () => {
    const { usual } = levels[format]
    const given = frames(new Random(seed))
    const encoder = new FrameEncoder(format, usual)
    const encoded = await Promise.all(given.map(frame => encoder.encode(frame)))
    for (const [i, frame] of given.entries()) {
      const alone = new FrameEncoder(format, usual)
      assert.ok((encoded[i] as Buffer).equals(await alone.encode(frame)), `frame ${i}`)
      alone.close()
      assert.ok(decodeFrame(format, encoded[i] as Buffer).equals(frame), `frame ${i}`)
    }
    encoder.close()
  })
}
