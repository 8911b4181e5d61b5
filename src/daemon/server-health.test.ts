import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LinkStatus, ServerStatus } from '../server/server.ts'
import { storeName } from '../stream/entry.ts'
import { judgeHealth } from './server-health.ts'

const limits = { warnMs: 10_000, critMs: 60_000 }
const link: LinkStatus = {
  peer: 'beta',
  direction: 'down',
  state: 'idle',
  sinceMs: 0,
  sentBytes: 0,
  receivedBytes: 0,
  lagMs: 500,
}
const healthy: ServerStatus = {
  set: 'shop',
  name: 'alpha',
  pid: 1,
  role: 'primary',
  epoch: { number: 1, by: 'alpha' },
  stream: 's',
  log: {
    first: 1,
    next: 9,
    durable: 8,
    bytes: 4096,
    subscribers: [{ name: 'beta', acknowledged: 8, kept: true }],
  },
  enqueuing: true,
  applying: true,
  stores: [
    {
      store: storeName('app'),
      driver: 'sqlite',
      path: '/srv/app.db',
      state: 'following',
      number: 8,
      consistent: { number: 8, timeMs: 0 },
    },
  ],
  links: [link],
  receivedTransactions: 0,
  shippedTransactions: 8,
}

test('each thing that is wrong has its level, and the worst one counts', () => {
  const [store] = healthy.stores
  assert.ok(store)
  const table: [ServerStatus | undefined, number, RegExp][] = [
    [healthy, 0, /^beta is 500 ms behind$/],
    [undefined, 2, /does not run/],
    [{ ...healthy, links: [{ ...link, lagMs: 10_000 }] }, 1, /^beta is 10 s behind$/],
    [{ ...healthy, links: [{ ...link, lagMs: 60_000 }] }, 2, /^beta is 60 s behind$/],
    [{ ...healthy, links: [{ ...link, state: 'waiting-to-call' }] }, 1, /beta is away/],
    [{ ...healthy, links: [{ ...link, state: 'refused' }] }, 2, /beta is away/],
    [{ ...healthy, fencedBy: { number: 2, by: 'beta' } }, 2, /replaced by beta/],
    [{ ...healthy, enqueuing: false }, 1, /enqueuing is off/],
    [{ ...healthy, role: 'standby', applying: false }, 1, /applying is off/],
    [{ ...healthy, log: { ...healthy.log, fullSinceMs: 1 } }, 2, /log is full/],
    [
      { ...healthy, log: { ...healthy.log, subscribers: [{ name: 'beta', acknowledged: 1, kept: false }] } },
      2,
      /beta was dropped/,
    ],
    [
      {
        ...healthy,
        stores: [{ ...store, state: 'quarantined', message: 'entry-invalid' }],
        enqueuing: false,
      },
      2,
      /^store app is quarantined \(entry-invalid\), enqueuing is off$/,
    ],
    [{ ...healthy, stores: [{ ...store, state: 'synchronising' }] }, 1, /app is synchronising/],
  ]
  for (const [status, exit, text] of table) {
    const health = judgeHealth(status, limits)
    assert.equal(health.exit, exit, String(text))
    assert.match(health.reasons.join(', '), text)
  }
})
