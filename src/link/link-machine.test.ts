import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type LinkAct, type LinkEvent, type LinkLife, stepLink } from './link-machine.ts'
import type { LinkState } from './link-state.ts'

/** The next state, and what is to be done; 'same': nothing changes. */
type Expected = 'same' | LinkState | readonly [LinkState, LinkAct]

const up = {
  call: 'same',
  connected: 'same',
  proved: 'same',
  stood: 'same',
  synchronise: 'synchronising',
  refused: ['refused', 'wait'],
  broken: ['waiting-to-call', 'wait'],
  stop: ['stopped', 'close'],
} as const

const resting = {
  proved: 'same',
  stood: 'same',
  subscribed: 'same',
  synchronise: 'same',
  synchronised: 'same',
  more: 'same',
  send: 'same',
  sent: 'same',
  acknowledged: 'same',
} as const

/** Of a link that calls. */
const table: Record<LinkState, Record<LinkEvent, Expected>> = {
  stopped: {
    ...resting,
    call: 'same',
    connected: 'same',
    refused: 'same',
    broken: 'same',
    stop: 'same',
  },
  'waiting-to-call': {
    ...resting,
    call: ['calling', 'dial'],
    connected: 'handshaking',
    refused: 'same',
    broken: 'same',
    stop: 'stopped',
  },
  'waiting-for-call': {
    ...resting,
    call: 'same',
    connected: 'handshaking',
    refused: 'same',
    broken: 'same',
    stop: 'stopped',
  },
  calling: {
    ...resting,
    call: 'same',
    connected: 'handshaking',
    refused: ['refused', 'wait'],
    broken: ['waiting-to-call', 'wait'],
    stop: ['stopped', 'close'],
  },
  refused: {
    ...resting,
    call: ['calling', 'dial'],
    connected: 'handshaking',
    refused: 'same',
    broken: 'same',
    stop: 'stopped',
  },
  handshaking: {
    ...resting,
    call: 'same',
    connected: 'same',
    proved: 'connected',
    refused: ['refused', 'wait'],
    broken: ['waiting-to-call', 'wait'],
    stop: ['stopped', 'close'],
  },
  connected: {
    ...up,
    subscribed: 'idle',
    synchronised: 'same',
    more: 'same',
    send: 'same',
    sent: 'same',
    acknowledged: 'same',
  },
  synchronising: {
    ...up,
    subscribed: 'same',
    synchronise: 'same',
    synchronised: 'idle',
    more: 'same',
    send: 'same',
    sent: 'same',
    acknowledged: 'same',
  },
  idle: {
    ...up,
    subscribed: 'same',
    synchronised: 'same',
    more: 'reading-queue',
    send: 'writing',
    sent: 'same',
    acknowledged: 'same',
  },
  'reading-queue': {
    ...up,
    subscribed: 'same',
    synchronised: 'same',
    more: 'same',
    send: 'writing',
    sent: 'waiting-for-acknowledgement',
    acknowledged: 'same',
  },
  writing: {
    ...up,
    subscribed: 'same',
    synchronised: 'same',
    more: 'same',
    send: 'same',
    sent: 'waiting-for-acknowledgement',
    acknowledged: 'same',
  },
  'waiting-for-acknowledgement': {
    ...up,
    subscribed: 'same',
    synchronised: 'same',
    more: 'reading-queue',
    send: 'writing',
    sent: 'same',
    acknowledged: 'idle',
  },
}

function life(state: LinkState, called: boolean): LinkLife {
  return { state, called, failures: 3 }
}

test('each event in each state of a link that calls leads where the table says, and asks for that act', () => {
  for (const [state, events] of Object.entries(table) as [LinkState, Record<LinkEvent, Expected>][]) {
    if (state === 'waiting-for-call') continue
    for (const [event, expected] of Object.entries(events) as [LinkEvent, Expected][]) {
      const step = stepLink(life(state, false), event)
      const [next, act]: readonly [LinkState, LinkAct | undefined] =
        expected === 'same'
          ? [state, undefined]
          : typeof expected === 'string'
            ? [expected, undefined]
            : expected
      assert.equal(step.life.state, next, `${event} in ${state}`)
      assert.equal(step.act, act, `${event} in ${state}`)
    }
  }
})

test('a link that is called dials nobody, and waits for a call when its connection is over', () => {
  for (const [state, events] of Object.entries(table) as [LinkState, Record<LinkEvent, Expected>][]) {
    if (state === 'waiting-to-call' || state === 'calling') continue
    for (const event of Object.keys(events) as LinkEvent[]) {
      const step = stepLink(life(state, true), event)
      assert.ok(step.act === undefined || step.act === 'close', `${event} in ${state}: ${step.act}`)
      assert.ok(
        step.life.state !== 'calling' && step.life.state !== 'waiting-to-call',
        `${event} in ${state}`,
      )
    }
  }
  assert.equal(stepLink(life('idle', true), 'broken').life.state, 'waiting-for-call')
})

test('failures count until a session has stood: neither a proof nor a subscription ends the delay between calls', () => {
  const failed = stepLink(life('calling', false), 'broken').life
  assert.equal(failed.failures, 4)
  const proved = stepLink(life('handshaking', false), 'proved').life
  assert.equal(proved.failures, 3)
  const subscribed = stepLink(proved, 'subscribed').life
  assert.equal(subscribed.failures, 3)
  assert.equal(stepLink(proved, 'stood').life.failures, 0)
  assert.equal(stepLink(subscribed, 'stood').life.failures, 0)
  assert.equal(stepLink(life('refused', false), 'stood').life.failures, 3)
})
