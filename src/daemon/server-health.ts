/**
 * How a server stands, in one word and one line, by the conventions of Nagios and what came after it: 0 ok, 1 warning,
 * 2 critical, 3 unknown. Pure.
 */
import type { ServerStatus } from '../server/server.ts'
import { durationText } from './units.ts'

export interface HealthLimits {
  readonly warnMs: number
  readonly critMs: number
}

export interface Health {
  readonly level: 'ok' | 'warning' | 'critical' | 'unknown'
  readonly exit: 0 | 1 | 2 | 3
  /** Each thing that makes it so, the worst first; what is measured when all is well. */
  readonly reasons: readonly string[]
  /** For graphs: `lag=0.5s;10;60`. */
  readonly metrics: readonly string[]
}

const exits = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const
type Level = Health['level']
const order: readonly Level[] = ['critical', 'unknown', 'warning', 'ok']

/** `status` is undefined when no server runs. */
export function judgeHealth(status: ServerStatus | undefined, limits: HealthLimits): Health {
  if (status === undefined) {
    return { level: 'critical', exit: 2, reasons: ['the server does not run'], metrics: [] }
  }
  const found: [Level, string][] = []
  const add = (level: Level, text: string) => found.push([level, text])
  const lagLevel = (ms: number): Level =>
    ms >= limits.critMs ? 'critical' : ms >= limits.warnMs ? 'warning' : 'ok'
  const { log, stores, links } = status
  if (status.fencedBy !== undefined)
    add('critical', `replaced by ${status.fencedBy.by} (epoch ${status.fencedBy.number})`)
  if (log.fullSinceMs !== undefined) add('critical', 'the log is full')
  for (const { name, kept } of log.subscribers)
    if (!kept) add('critical', `${name} was dropped and has to synchronise`)
  for (const { store, state, message } of stores) {
    const text = message === undefined ? '' : ` (${message})`
    if (state === 'quarantined' || state === 'faulty') add('critical', `store ${store} is ${state}${text}`)
    else if (state === 'synchronising' || state === 'waiting')
      add('warning', `store ${store} is ${state}${text}`)
  }
  if (status.role === 'primary' && !status.enqueuing) add('warning', 'enqueuing is off')
  if (status.role === 'standby' && !status.applying) add('warning', 'applying is off')
  const metrics: string[] = []
  for (const link of links) {
    const away = link.lastError === undefined ? '' : `: ${link.lastError.message}`
    if (!isUp(link.state))
      add(link.state === 'refused' ? 'critical' : 'warning', `${link.peer} is away${away}`)
    if (link.lagMs === undefined) continue
    metrics.push(metric(`lag_${link.peer}`, link.lagMs, limits))
    add(lagLevel(link.lagMs), `${link.peer} is ${durationText(link.lagMs)} behind`)
  }
  for (const { store, lagMs } of status.role === 'standby' ? stores : []) {
    if (lagMs === undefined) continue
    metrics.push(metric(`lag_${store}`, lagMs, limits))
    add(lagLevel(lagMs), `store ${store} is ${durationText(lagMs)} behind`)
  }
  metrics.push(`queue=${log.bytes}B`)
  const level = order.find(candidate => found.some(([of]) => of === candidate)) ?? 'ok'
  const shown = level === 'ok' ? found : found.filter(([of]) => of !== 'ok')
  const sorted = [...shown].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]))
  const reasons = sorted.map(([, text]) => text)
  return { level, exit: exits[level], reasons: reasons.length === 0 ? ['running'] : reasons, metrics }
}

export function isUp(state: string): boolean {
  return !['stopped', 'waiting-for-call', 'calling', 'waiting-to-call', 'handshaking', 'refused'].includes(
    state,
  )
}

function metric(label: string, ms: number, { warnMs, critMs }: HealthLimits): string {
  return `${label}=${(ms / 1000).toFixed(3)}s;${warnMs / 1000};${critMs / 1000};0`
}
