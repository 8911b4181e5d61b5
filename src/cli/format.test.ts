import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseBytes } from '../daemon/units.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from './format.ts'
import { RateMeter } from './progress-line.ts'

test('bytes are shown in the largest unit that keeps them above one', () => {
  const table: [number, string][] = [
    [0, '0 bytes'],
    [1, '1 byte'],
    [1_023, '1023 bytes'],
    [1_024, '1.0 KiB'],
    [150 * 1_024, '150 KiB'],
    [2 ** 31, '2.0 GiB'],
  ]
  for (const [bytes, text] of table) assert.equal(formatBytes(bytes), text)
})

test('sizes are read as people write them, and nothing else is', () => {
  const table: [string, number | undefined][] = [
    ['4096', 4096],
    ['64MiB', 64 * 2 ** 20],
    ['1.5 gb', 1.5 * 2 ** 30],
    ['500k', 500 * 1024],
    ['3x', undefined],
    ['-1k', undefined],
    ['', undefined],
  ]
  for (const [text, bytes] of table) assert.equal(parseBytes(text), bytes)
})

test('durations are shown in a unit that fits', () => {
  const table: [number, string][] = [
    [0.4, '0 ms'],
    [999, '999 ms'],
    [1_500, '1.5 s'],
    [42_000, '42 s'],
    [240_000, '4 min'],
    [7_200_000, '2 h'],
    [864_000_000, '10 days'],
  ]
  for (const [ms, text] of table) assert.equal(formatDuration(ms), text)
})

test('counts agree with their noun, and times name their zone', () => {
  assert.equal(formatCount(1, 'transaction'), '1 transaction')
  assert.equal(formatCount(12_345, 'transaction'), '12,345 transactions')
  assert.equal(formatTime(0), '1970-01-01 00:00:00 UTC')
})

test('a progress line has the share, the rate and the time left when the total is known', () => {
  const meter = new RateMeter()
  meter.line(0, 0, 1_024 ** 3)
  assert.equal(
    meter.line(1_000, 256 * 1_024 ** 2, 1_024 ** 3),
    '256 MiB of 1.0 GiB (25 %), 256 MiB/s, 3.0 s left',
  )
  assert.equal(new RateMeter().line(0, 1_024, undefined), '1.0 KiB')
})
