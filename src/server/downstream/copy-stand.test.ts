import assert from 'node:assert/strict'
import { test } from 'node:test'
import { position } from '../../stream/entry.ts'
import { numberedPosition } from '../../stream/numbered-position.ts'
import { numberOf, throughOf } from './copy-stand.ts'

const base = { position: position('P'), number: 10 }
const log = { durable: 20, epoch: { number: 3 } }
const at = (number: number, epoch = 3, text = 'Q') =>
  numberedPosition({ number, epoch, position: position(text) })

test('a copy stands at a number of the log only when that is proved', () => {
  const table: readonly [
    string,
    Parameters<typeof numberOf>[0],
    Parameters<typeof numberOf>[1],
    number | undefined,
  ][] = [
    ['nothing is there', undefined, base, undefined],
    ['it was never made equal', at(12), undefined, undefined],
    ['where it was made equal', position('P'), base, 10],
    ['in the middle of another synchronisation', position('X'), base, undefined],
    ['it took a transaction since', at(12), base, 12],
    ['it took the last one', at(20), base, 20],
    ['nothing differed when it was made equal', at(7, 2, 'P'), base, 10],
    ['from before it was made equal', at(7), base, undefined],
    ['from before, at the same number', at(10), base, undefined],
    ['beyond the log', at(21), base, undefined],
    ['of an epoch that the log has not seen', at(12, 4), base, undefined],
  ]
  for (const [what, where, from, expected] of table) assert.equal(numberOf(where, from, log), expected, what)
})

test('what a copy needs of the log begins after what is proved, never later', () => {
  const log = { first: 15, durable: 20 }
  const table: readonly [string, Parameters<typeof throughOf>[0], number | undefined][] = [
    ['the log has nothing newer of the store', { number: 5, last: 5, ...log, lastBefore: undefined }, 20],
    ['the log never had anything of it', { number: 5, last: undefined, ...log, lastBefore: undefined }, 20],
    ['made equal beyond the log', { number: 25, last: 5, ...log, lastBefore: undefined }, 25],
    ['the log keeps what it lacks', { number: 16, last: 19, ...log, lastBefore: 9 }, 16],
    ['the log keeps just what it lacks', { number: 14, last: 19, ...log, lastBefore: undefined }, 14],
    [
      'the log may have lost what it lacks',
      { number: 13, last: 19, ...log, lastBefore: undefined },
      undefined,
    ],
    ['the log has lost what it lacks', { number: 8, last: 19, ...log, lastBefore: 9 }, undefined],
    ['what the log has lost was of others', { number: 9, last: 19, ...log, lastBefore: 9 }, 14],
  ]
  for (const [what, given, expected] of table) assert.equal(throughOf(given), expected, what)
})
