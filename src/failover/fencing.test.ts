import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Epoch } from '../stream/epoch.ts'
import { compareEpochs } from '../stream/epoch.ts'
import { type Meeting, meetEpoch, newestEpoch, nextEpoch, type Reign, type Teller } from './fencing.ts'

const epoch = (number: number, by: string): Epoch => ({ number, by })

type Own = 'primary' | 'fenced' | 'standby'
type Met = 'older' | 'older name' | 'own' | 'between' | 'newest' | 'newer name' | 'newer'

const reigns: Record<Own, Reign> = {
  primary: { role: 'primary', epoch: epoch(5, 'm') },
  fenced: { role: 'primary', epoch: epoch(3, 'm'), fencedBy: epoch(5, 'm') },
  standby: { role: 'standby', epoch: epoch(5, 'm') },
}
const epochs: Record<Met, Epoch> = {
  older: epoch(2, 'z'),
  own: epoch(3, 'm'),
  between: epoch(4, 'z'),
  'older name': epoch(5, 'a'),
  newest: epoch(5, 'm'),
  'newer name': epoch(5, 'z'),
  newer: epoch(6, 'a'),
}

const table: Record<Own, Record<Met, Record<Teller, Meeting['kind']>>> = {
  primary: {
    older: { upstream: 'older', other: 'older' },
    own: { upstream: 'older', other: 'older' },
    between: { upstream: 'older', other: 'older' },
    'older name': { upstream: 'older', other: 'older' },
    newest: { upstream: 'same', other: 'same' },
    'newer name': { upstream: 'fenced', other: 'fenced' },
    newer: { upstream: 'fenced', other: 'fenced' },
  },
  fenced: {
    older: { upstream: 'older', other: 'older' },
    own: { upstream: 'older', other: 'older' },
    between: { upstream: 'older', other: 'older' },
    'older name': { upstream: 'older', other: 'older' },
    newest: { upstream: 'fenced', other: 'fenced' },
    'newer name': { upstream: 'fenced', other: 'fenced' },
    newer: { upstream: 'fenced', other: 'fenced' },
  },
  standby: {
    older: { upstream: 'older', other: 'older' },
    own: { upstream: 'older', other: 'older' },
    between: { upstream: 'older', other: 'older' },
    'older name': { upstream: 'older', other: 'older' },
    newest: { upstream: 'same', other: 'same' },
    'newer name': { upstream: 'follows', other: 'leaves-upstream' },
    newer: { upstream: 'follows', other: 'leaves-upstream' },
  },
}

for (const own of Object.keys(table) as Own[]) {
  for (const met of Object.keys(table[own]) as Met[]) {
    for (const from of ['upstream', 'other'] as Teller[]) {
      const expected = table[own][met][from]
      test(`a ${own} server that learns of a ${met} epoch from its ${from}: ${expected}`, () => {
        assert.equal(meetEpoch(reigns[own], epochs[met], from).kind, expected)
      })
    }
  }
}

test('of two primaries that meet exactly one is fenced, whatever their epochs', () => {
  const all = Object.values(epochs)
  for (const a of all) {
    for (const b of all) {
      if (compareEpochs(a, b) === 0) continue
      const kinds = [
        meetEpoch({ role: 'primary', epoch: a }, b, 'other').kind,
        meetEpoch({ role: 'primary', epoch: b }, a, 'other').kind,
      ]
      assert.deepEqual(kinds.sort(), ['fenced', 'older'])
    }
  }
})

test('a promotion begins an epoch that fences all that were known, and names who began it', () => {
  for (const reign of Object.values(reigns)) {
    const next = nextEpoch(reign, 'a')
    assert.ok(compareEpochs(next, newestEpoch(reign)) > 0)
    assert.equal(next.by, 'a')
  }
})
