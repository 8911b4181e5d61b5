/** `hotspare status` without a copy: of the server of a configuration. */
import { findConfig, type ServerView, viewServer } from '../daemon/server-command.ts'
import { judgeHealth } from '../daemon/server-health.ts'
import { parseDuration } from '../daemon/units.ts'
import { systemClock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { Output } from './output.ts'
import { messageLine, rowLine, statusRows } from './server-printer.ts'

const messagesShown = 20

export interface ServerStatusOptions {
  readonly config?: string
  readonly check?: boolean
  readonly warn: string
  readonly crit: string
}

/** Gives the exit status. */
export async function serverStatus(
  options: ServerStatusOptions,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  if (options.check) return checkServer(options, output, signal)
  const view = await viewServer(await findConfig(options.config), messagesShown, signal)
  output.object({ running: view.running, ...view.status, messages: view.messages })
  for (const message of view.messages) output.say(messageLine(message))
  if (view.messages.length > 0) output.say('')
  for (const row of statusRows(view, systemClock.nowMs())) output.say(rowLine(row))
  return 0
}

async function checkServer(
  options: ServerStatusOptions,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const limits = { warnMs: timeOf('--warn', options.warn), critMs: timeOf('--crit', options.crit) }
  let view: ServerView
  try {
    view = await viewServer(await findConfig(options.config), 0, signal)
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    output.object({ level: 'unknown', exit: 3, reasons: [text], metrics: [] })
    output.say(`HOTSPARE UNKNOWN - ${text}`)
    return 3
  }
  const health = judgeHealth(view.running ? view.status : undefined, limits)
  output.object(health)
  const graphs = health.metrics.length === 0 ? '' : ` | ${health.metrics.join(' ')}`
  output.say(`HOTSPARE ${health.level.toUpperCase()} - ${health.reasons.join('; ')}${graphs}`)
  return health.exit
}

function timeOf(option: string, text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined) throw new HotspareError('usage', `${option} is a time, as '10s'; found '${text}'.`)
  return ms
}
