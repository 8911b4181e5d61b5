/**
 * The life of the link to one peer, as a pure machine: what happened, in, and where the link stands and what is to be
 * done about it, out. Who runs it (caller.ts, a server's links) does what it says.
 *
 *     called:   waiting-for-call -> handshaking -> connected ...
 *     calling:  calling -> handshaking -> connected ... -> waiting-to-call -> calling
 *
 * A session that stands goes from `connected` through `synchronising`, `reading-queue`, `writing` and
 * `waiting-for-acknowledgement` to `idle`, and back as there is something to send. An event that means nothing in a state
 * (it comes late, of a connection that is over) changes nothing.
 */
import type { LinkState } from './link-state.ts'

export type LinkEvent =
  /** Call now: at the start, when the delay is over, or when somebody cannot wait. */
  | 'call'
  /** There is a byte stream, called or accepted. */
  | 'connected'
  /** The two have proved to each other who they are. */
  | 'proved'
  /** The downstream has said where it stands, and the upstream from where it goes on. */
  | 'subscribed'
  /** It has stood for a while: so it was of use. */
  | 'stood'
  /** Stores are compared, beside the log. */
  | 'synchronise'
  | 'synchronised'
  /** There is more in the log than was sent. */
  | 'more'
  /** A message is being written. */
  | 'send'
  /** All that there is was sent. */
  | 'sent'
  /** All that was sent is durable at the other side. */
  | 'acknowledged'
  /** The two do not accept each other. */
  | 'refused'
  /** The connection ended, or could not be made. */
  | 'broken'
  | 'stop'

export type LinkAct =
  /** Make a connection. */
  | 'dial'
  /** Wait for a while that grows with `failures`, then `call`. */
  | 'wait'
  /** End the connection. */
  | 'close'

export interface LinkLife {
  readonly state: LinkState
  /** Connections that failed, one after another, since one was of use. */
  readonly failures: number
  /** It is called by the peer, and calls nobody. */
  readonly called: boolean
}

export interface LinkStep {
  readonly life: LinkLife
  readonly act?: LinkAct
}

const inSession: readonly LinkState[] = [
  'connected',
  'synchronising',
  'reading-queue',
  'writing',
  'waiting-for-acknowledgement',
  'idle',
]

export function newLink(called: boolean): LinkLife {
  return { state: called ? 'waiting-for-call' : 'waiting-to-call', failures: 0, called }
}

export function stepLink(life: LinkLife, event: LinkEvent): LinkStep {
  const { state } = life
  if (state === 'stopped') return { life }
  const isUp = inSession.includes(state)
  switch (event) {
    case 'call':
      if (life.called || (state !== 'waiting-to-call' && state !== 'refused')) return { life }
      return { life: { ...life, state: 'calling' }, act: 'dial' }
    case 'connected':
      // who calls us is let in at any time: which of two connections stays is decided when both have proved who they are
      if (state === 'handshaking' || isUp) return { life }
      return { life: { ...life, state: 'handshaking' } }
    case 'proved':
      return state === 'handshaking' ? { life: { ...life, state: 'connected' } } : { life }
    case 'subscribed':
      return state === 'connected' ? { life: { ...life, state: 'idle' } } : { life }
    case 'stood':
      return isUp ? { life: { ...life, failures: 0 } } : { life }
    case 'synchronise':
      return isUp ? { life: { ...life, state: 'synchronising' } } : { life }
    case 'synchronised':
      return state === 'synchronising' ? { life: { ...life, state: 'idle' } } : { life }
    case 'more':
      return state === 'idle' || state === 'waiting-for-acknowledgement'
        ? { life: { ...life, state: 'reading-queue' } }
        : { life }
    case 'send':
      return isUp && state !== 'connected' && state !== 'synchronising'
        ? { life: { ...life, state: 'writing' } }
        : { life }
    case 'sent':
      return state === 'writing' || state === 'reading-queue'
        ? { life: { ...life, state: 'waiting-for-acknowledgement' } }
        : { life }
    case 'acknowledged':
      return state === 'waiting-for-acknowledgement' ? { life: { ...life, state: 'idle' } } : { life }
    case 'refused':
      if (state !== 'calling' && state !== 'handshaking' && !isUp) return { life }
      return failed(life, 'refused')
    case 'broken':
      if (state !== 'calling' && state !== 'handshaking' && !isUp) return { life }
      return failed(life, life.called ? 'waiting-for-call' : 'waiting-to-call')
    case 'stop':
      return {
        life: { ...life, state: 'stopped' },
        ...((state === 'calling' || state === 'handshaking' || isUp) && { act: 'close' as const }),
      }
    default:
      return event satisfies never
  }
}

/** One that calls tries again, a refusal too: the other side may be set right meanwhile. */
function failed(life: LinkLife, state: LinkState): LinkStep {
  return {
    life: { ...life, state, failures: life.failures + 1 },
    ...(!life.called && { act: 'wait' as const }),
  }
}
