import assert from 'node:assert/strict'
import { test } from 'node:test'
import { errorCodes, HotspareError, isTransient } from '../os/errors.ts'
import { retryDelayMs } from './retry.ts'

const fault = (code: keyof typeof errorCodes) => new HotspareError(code, 'test')

test('the delay doubles and stays within the bound of its fault', () => {
  const delays = Array.from({ length: 12 }, (_, n) => retryDelayMs(fault('disk-full'), n + 1, false))
  assert.deepEqual(delays.slice(0, 6), [100, 200, 400, 800, 1_600, 3_200])
  assert.deepEqual([...new Set(delays.slice(6))], [5_000])
})

test('what only its owner can mend is waited for without end', () => {
  for (const code of ['disk-full', 'source-missing', 'source-busy'] as const) {
    assert.ok(retryDelayMs(fault(code), 1_000_000, false)! <= 5_000)
  }
})

test('what may be a broken disk is given up after a bounded number of attempts', () => {
  assert.notEqual(retryDelayMs(fault('io-error'), 20, false), undefined)
  assert.equal(retryDelayMs(fault('io-error'), 21, false), undefined)
})

test('with once, a missing source and a full disk are an answer, not a wait', () => {
  assert.equal(retryDelayMs(fault('source-missing'), 1, true), undefined)
  assert.equal(retryDelayMs(fault('disk-full'), 1, true), undefined)
})

test('a fault that does not pass by itself is never retried', () => {
  for (const code of Object.keys(errorCodes) as (keyof typeof errorCodes)[]) {
    const retried = retryDelayMs(fault(code), 1, false) !== undefined
    assert.equal(retried, isTransient(fault(code)), code)
  }
  assert.equal(retryDelayMs(new Error('a bug'), 1, false), undefined)
})
