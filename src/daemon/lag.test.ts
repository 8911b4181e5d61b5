import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LagMeter } from './lag.ts'

const at = (ms: number) => () => ms

/** Live since `ms`, idle. */
function live(ms: number): LagMeter {
  const lag = new LagMeter(5_000)
  lag.moved(at(ms))
  assert.equal(lag.reachedEnd(ms, true), 'live')
  return lag
}

test('live is told once, at the first end with a consistent copy', () => {
  const lag = new LagMeter(5_000)
  assert.equal(lag.reachedEnd(1_000, false), undefined)
  assert.equal(lag.live, false)
  assert.equal(lag.reachedEnd(2_000, true), 'live')
  lag.moved(at(3_000))
  assert.equal(lag.reachedEnd(3_001, true), undefined)
})

test('an idle source makes no lag, nor does the first change after it', () => {
  const lag = live(1_000)
  assert.deepEqual(lag.figures(3_600_000), { lagMs: 0 })
  lag.moved(at(3_600_000))
  assert.deepEqual(lag.figures(3_600_002), { lagMs: 2 })
  assert.equal(lag.judge(3_600_002), undefined)
})

test('what was committed while a look went on is not known to be in the copy', () => {
  const lag = live(0)
  lag.moved(at(1_000))
  lag.moved(at(1_500))
  lag.reachedEnd(2_000, true)
  assert.equal(lag.knownMs, 1_000)
  lag.reachedEnd(7_000, true)
  assert.equal(lag.knownMs, 7_000)
})

test('behind and caught up are told once each, in turn', () => {
  const lag = live(0)
  lag.moved(at(0))
  assert.equal(lag.judge(4_999), undefined)
  assert.equal(lag.judge(5_001), 'behind')
  assert.equal(lag.judge(9_000), undefined)
  assert.equal(lag.reachedEnd(9_001, true), 'caught-up')
  assert.equal(lag.reachedEnd(9_002, true), undefined)
})

test('a look that never ends is not behind while little is left at the pace so far', () => {
  const lag = live(0)
  lag.moved(at(0))
  for (let n = 0; n <= 20; n++) lag.measured(n * 500, n * 500_000, 2_000)
  assert.deepEqual(lag.figures(10_000), { lagMs: 2, backlogBytes: 2_000 })
  assert.equal(lag.judge(10_000), undefined)
})

test('a source that writes faster than it is read makes the copy fall behind', () => {
  const lag = live(0)
  lag.moved(at(0))
  for (let n = 0; n <= 20; n++) lag.measured(n * 500, n * 50_000, n * 100_000)
  assert.equal(lag.figures(10_000).lagMs, 10_000)
  assert.equal(lag.judge(10_000), 'behind')
  for (let n = 20; n <= 40; n++) lag.measured(n * 500, n * 50_000, 1_000)
  assert.equal(lag.judge(20_000), 'caught-up')
})

test('a standstill with something left is lag, and with nothing left is none', () => {
  const lag = live(0)
  lag.moved(at(0))
  for (let n = 0; n <= 20; n++) lag.measured(n * 500, 1_000, 1)
  assert.equal(lag.figures(10_000).lagMs, 10_000)
  lag.measured(10_000, 1_000, 0)
  assert.equal(lag.figures(10_000).lagMs, 0)
})

test('a copy that was live tells that it has caught up after a fault', () => {
  const lag = live(0)
  lag.interrupted()
  assert.equal(lag.caughtUp, false)
  assert.equal(lag.figures(60_000).lagMs, 60_000)
  assert.equal(lag.reachedEnd(60_000, true), 'caught-up')
})

test('nothing is told of a first copy, however long it takes', () => {
  const lag = new LagMeter(5_000)
  lag.moved(at(0))
  assert.equal(lag.judge(3_600_000), undefined)
  assert.equal(lag.knownMs, undefined)
})

test('a follower that starts again is as far behind as the one before has left it', () => {
  const lag = new LagMeter(5_000, 1_000)
  lag.moved(at(61_000))
  assert.equal(lag.figures(61_000).lagMs, 60_000)
})
