import assert from 'node:assert/strict'
import { test } from 'node:test'
import { storeName } from '../stream/entry.ts'
import { decideSubscription, type SubscribeRequest, type UpstreamStand } from './subscribing.ts'

const [one, two] = [storeName('one'), storeName('two')]
const epoch = { number: 2, by: 'a' }
const chain = '00000000000000aa'

const request: SubscribeRequest = {
  peer: 'b',
  epoch,
  stream: 's',
  next: 10,
  chain,
  stores: [
    { store: one, number: 9, quarantined: false },
    { store: two, number: 4, quarantined: false },
  ],
}

const own: UpstreamStand = {
  epoch,
  fenced: false,
  path: ['a'],
  stream: 's',
  first: 5,
  next: 12,
  chain,
  kept: true,
  stores: [
    { store: one, goesOn: true },
    { store: two, goesOn: true },
  ],
}

type Log = 'same' | 'new' | 'other stream' | 'other chain' | 'removed' | 'ahead'
type Subscriber = 'kept' | 'not kept'
type Store = 'in step' | 'owed' | 'unknown number' | 'number of another log' | 'not there'

const logs: Record<Log, readonly [Partial<SubscribeRequest>, Partial<UpstreamStand>]> = {
  same: [{}, {}],
  new: [
    { stream: '', next: 1, chain: '0000000000000000' },
    { first: 1, chain: '0000000000000000' },
  ],
  'other stream': [{ stream: 't' }, {}],
  'other chain': [{}, { chain: '00000000000000bb' }],
  removed: [{ next: 4 }, { chain: undefined }],
  ahead: [{ next: 13 }, { chain: undefined }],
}

const stores: Record<Store, readonly [SubscribeRequest['stores'], boolean]> = {
  'in step': [request.stores, true],
  owed: [request.stores, false],
  'unknown number': [
    [
      { store: one, number: undefined, quarantined: false },
      { store: two, number: 4, quarantined: false },
    ],
    true,
  ],
  'number of another log': [
    [
      { store: one, number: 12, quarantined: false },
      { store: two, number: 4, quarantined: false },
    ],
    true,
  ],
  'not there': [[{ store: two, number: 4, quarantined: false }], true],
}

const on = (sync: readonly string[]) => ({ kind: 'go-on', next: 10, sync })
const anew = (sync: readonly string[]) => ({ kind: 'restart', sync })

const expected: Record<Log, Record<Subscriber, Record<Store, unknown>>> = {
  same: {
    kept: {
      'in step': on([]),
      owed: on([one]),
      'unknown number': on([one]),
      'number of another log': on([one]),
      'not there': on([]),
    },
    'not kept': {
      'in step': on([one, two]),
      owed: on([one, two]),
      'unknown number': on([one, two]),
      'number of another log': on([one, two]),
      'not there': on([two]),
    },
  },
  ...Object.fromEntries(
    (['new', 'other stream', 'other chain', 'removed', 'ahead'] as const).map(log => [
      log,
      Object.fromEntries(
        (['kept', 'not kept'] as const).map(subscriber => [
          subscriber,
          {
            'in step': anew([one, two]),
            owed: anew([one, two]),
            'unknown number': anew([one, two]),
            'number of another log': anew([one, two]),
            'not there': anew([two]),
          } satisfies Record<Store, unknown>,
        ]),
      ),
    ]),
  ),
} as Record<Log, Record<Subscriber, Record<Store, unknown>>>

test('a downstream goes on only where its log is the same, and with the stores that the log goes on with', () => {
  for (const [log, [asks, stands]] of Object.entries(logs))
    for (const kept of ['kept', 'not kept'] as const)
      for (const [store, [numbers, goesOn]] of Object.entries(stores))
        assert.deepEqual(
          decideSubscription(
            { ...request, ...asks, stores: numbers },
            {
              ...own,
              ...stands,
              kept: kept === 'kept',
              stores: [
                { store: one, goesOn },
                { store: two, goesOn: true },
              ],
            },
          ),
          expected[log as Log][kept][store as Store],
          `${log}, ${kept}, ${store}`,
        )
})

test('a downstream of a newer epoch gets nothing, whatever else is the same', () => {
  const newer = { number: 2, by: 'b' }
  assert.deepEqual(decideSubscription({ ...request, epoch: newer }, own), {
    kind: 'outdated',
    code: 'epoch-old',
    epoch: newer,
  })
})

test('a downstream of an older epoch is served: it hears of the newer one by the log', () => {
  assert.deepEqual(decideSubscription({ ...request, epoch: { number: 1, by: 'z' } }, own), on([]))
})

test('a primary that was replaced ships nothing', () => {
  assert.deepEqual(decideSubscription(request, { ...own, fenced: true }), {
    kind: 'outdated',
    code: 'fenced',
    epoch,
  })
})

test('who takes its log, near or far, from the one that asks cannot be its upstream', () => {
  assert.deepEqual(decideSubscription(request, { ...own, path: ['z', 'b', 'a'] }), { kind: 'loop' })
})
