/** A server's state as people read it. */
import type { ServerView } from '../daemon/server-command.ts'
import type { LinkState, LinkStatus, ServerMessage, ServerStatus, StoreStatus } from '../server/server.ts'
import { formatBytes, formatDuration, formatTime } from './format.ts'
import { styled } from './output.ts'

export const linkStateText: Readonly<Record<LinkState, string>> = {
  stopped: 'Stopped',
  'waiting-for-call': 'Wait incoming call',
  calling: 'Calling',
  'waiting-to-call': 'Wait response to call',
  handshaking: 'Connecting',
  connected: 'Connected',
  synchronising: 'Synchronising',
  'reading-queue': 'Reading queue',
  writing: 'Writing to network',
  'waiting-for-acknowledgement': 'Waiting for ACK',
  idle: 'Idle',
  refused: 'Refused',
}

export type Row = readonly [label: string, text: string]

export function rowLine([label, text]: Row): string {
  return `${styled('dim', label.padEnd(18))}${text}`
}

/** The short form, for `status`. */
export function statusRows(view: ServerView, nowMs: number): Row[] {
  const { status, running } = view
  if (status === undefined) return [['server', 'not running, and never ran']]
  const { log, name, set, epoch } = status
  return [
    ['server', `${name} of the set ${set}, ${running ? `running as process ${status.pid}` : 'not running'}`],
    ['role', roleText(status)],
    ['epoch', `${epoch.number}, begun by ${epoch.by}`],
    [
      'log',
      `transactions ${log.first} to ${log.next - 1}, ${formatBytes(log.bytes)}${fullText(status, nowMs)}`,
    ],
    ...log.subscribers.map(
      (subscriber): Row => [
        `for ${subscriber.name}`,
        subscriber.kept
          ? `acknowledged ${subscriber.acknowledged}`
          : styled('red', 'dropped: it has to synchronise anew'),
      ],
    ),
    ...status.stores.map((store): Row => [`store ${store.store}`, storeText(store)]),
    ...status.links.map((link): Row => [`link to ${link.peer}`, linkText(link, nowMs)]),
  ]
}

/** All fields, for `query`. */
export function queryRows(view: ServerView, nowMs: number): Row[] {
  const { status } = view
  if (status === undefined) return statusRows(view, nowMs)
  return [
    ...statusRows(view, nowMs),
    ['received', `${status.receivedTransactions} transactions since the start`],
    ['shipped', `${status.shippedTransactions} transactions since the start`],
    ['current', String(status.log.next - 1)],
    ['durable', String(status.log.durable)],
    [
      'acknowledged',
      status.log.subscribers.length === 0
        ? 'no subscriber'
        : String(Math.min(...status.log.subscribers.map(subscriber => subscriber.acknowledged))),
    ],
    ['enqueuing', status.enqueuing ? 'on' : 'off'],
    ['applying', status.applying ? 'on' : 'off'],
    ['stream', status.stream],
  ]
}

/** Figures of the links, for `stats`. */
export function statsRows(status: ServerStatus, nowMs: number): Row[] {
  return status.links.flatMap((link): Row[] => [
    [`link to ${link.peer}`, linkText(link, nowMs)],
    ['  sent', formatBytes(link.sentBytes)],
    ['  received', formatBytes(link.receivedBytes)],
    ...(link.roundTripMs === undefined
      ? []
      : [['  round trip', formatDuration(link.roundTripMs)] satisfies Row]),
    ...(link.acknowledged === undefined ? [] : [['  acknowledged', String(link.acknowledged)] satisfies Row]),
    ...(link.applied === undefined ? [] : [['  applied', String(link.applied)] satisfies Row]),
    ...(link.lagMs === undefined ? [] : [['  behind', formatDuration(link.lagMs)] satisfies Row]),
  ])
}

export function messageLine({ timeMs, level, code, message }: ServerMessage): string {
  const line = `${formatTime(timeMs)}  ${message} (${code})`
  return level === 'error' ? styled('red', line) : level === 'warning' ? styled('yellow', line) : line
}

function roleText({ role, upstream, fencedBy }: ServerStatus): string {
  if (fencedBy !== undefined)
    return styled(
      'red',
      `primary, replaced by ${fencedBy.by} (epoch ${fencedBy.number}): ships nothing; 'hotspare rejoin ${fencedBy.by}' makes it a standby`,
    )
  return upstream === undefined ? role : `${role} of ${upstream}`
}

function fullText({ log }: ServerStatus, nowMs: number): string {
  if (log.fullSinceMs === undefined) return ''
  return styled('red', `, FULL for ${formatDuration(nowMs - log.fullSinceMs)}`)
}

function storeText({ state, driver, path, number, lagMs, message }: StoreStatus): string {
  const at = number === undefined ? '' : `, transaction ${number}`
  const lag = lagMs === undefined ? '' : `, ${formatDuration(lagMs)} behind`
  const why = message === undefined ? '' : `: ${message}`
  const bad = state === 'quarantined' || state === 'faulty'
  return `${path} (${driver}): ${bad ? styled('red', state + why) : state + why}${at}${lag}`
}

function linkText(link: LinkStatus, nowMs: number): string {
  const { state, sinceMs, address, lagMs, acknowledged, lastError } = link
  const parts = [
    `${linkStateText[state]} for ${formatDuration(nowMs - sinceMs)}`,
    ...(address === undefined ? [] : [address]),
    ...(acknowledged === undefined ? [] : [`acknowledged ${acknowledged}`]),
    ...(lagMs === undefined ? [] : [`${formatDuration(lagMs)} behind`]),
    ...(lastError === undefined ? [] : [`last error: ${lastError.message} (${lastError.code})`]),
  ]
  return parts.join(', ')
}
