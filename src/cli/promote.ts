import type { Command } from 'commander'
import { callServer } from '../daemon/server-client.ts'
import { findConfig } from '../daemon/server-command.ts'
import type { PromotionReport, RejoinReport } from '../server/server.ts'
import type { CommandContext } from './command.ts'
import { formatCount, formatDuration, formatTime } from './format.ts'
import { Output, styled } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const promoteHelp = `
Run it on the standby. What has been received is applied to its end, each copy is recovered and checked,
the epoch is raised, which shuts the old primary out for good, and 'on-promote' of the configuration is
run. Then the copies are the live stores. What was lost is said: nothing, or from which moment on. It may
be run again, also after it was interrupted: it goes on where it was.

With --planned the old primary takes part: its 'on-demote' stops the application, all of it is handed
over, and nothing is lost.

Examples:
  hotspare promote --dry-run
  hotspare promote
  hotspare promote --planned`

const rejoinHelp = `
Run it on a server that was the primary until another was promoted. What it had beyond the promotion is
put aside in a file that 'hotspare queue show --file' reads; then it is a standby of the new primary,
and gets what differs. Stop the application on this machine first.

Examples:
  hotspare rejoin beta`

interface PromoteCommandOptions extends ServerCommandOptions {
  readonly planned?: boolean
  readonly dryRun?: boolean
  readonly force?: boolean
}

export function registerPromote(program: Command, context: CommandContext): void {
  addServerCommand(program, 'promote', 'make this standby the primary', promoteHelp)
    .option('--planned', 'the old primary hands over: nothing is lost')
    .option('--force', 'even when a copy is not complete, or not proved valid')
    .option('--dry-run', 'say what would be done, and do nothing')
    .action(async (options: PromoteCommandOptions) => {
      const output = new Output(options)
      const { settings } = await findConfig(options.config)
      const report = await callServer<PromotionReport>(
        settings.stateDirectory,
        {
          request: 'promote',
          planned: options.planned ?? false,
          dryRun: options.dryRun ?? false,
          force: options.force ?? false,
        },
        context.signal,
      )
      output.object(report)
      for (const line of promotionLines(report, options.dryRun ?? false)) output.say(line)
      if (report.stores.some(store => !store.valid))
        output.warn('a store did not pass its check: see above, and do not start its application blindly')
      context.done(0)
    })
}

export function registerRejoin(program: Command, context: CommandContext): void {
  addServerCommand(program, 'rejoin', 'make this old primary a standby of the new one', rejoinHelp)
    .argument('<peer>', 'the name of the new primary')
    .action(async (upstream: string, options: ServerCommandOptions) => {
      const output = new Output(options)
      const { settings } = await findConfig(options.config)
      const report = await callServer<RejoinReport>(
        settings.stateDirectory,
        { request: 'rejoin', upstream },
        context.signal,
      )
      output.object(report)
      if (report.aside !== undefined) {
        const { path, fromNumber, transactions } = report.aside
        output.say(
          `put aside: ${formatCount(transactions, 'transaction')} from number ${fromNumber} on, which ${upstream} never got: ${path}`,
        )
      }
      for (const { store, path } of report.wholes ?? [])
        output.say(
          `put aside as a whole, since it cannot be told what only this server has of it: ${store}, ${path}`,
        )
      output.say(`this server is a standby of ${upstream} now, and gets what differs`)
      context.done(0)
    })
}

function promotionLines(report: PromotionReport, dryRun: boolean): string[] {
  const { lost, stores, steps, epoch, number, timeMs } = report
  const when = timeMs === undefined ? '' : ` of ${formatTime(timeMs)}`
  const title = dryRun
    ? 'This would be done:'
    : report.already
      ? 'This server is the primary already.'
      : styled('green', `This server is the primary now (epoch ${epoch.number}).`)
  return [
    title,
    ...steps.map(({ step, ms }) => (dryRun ? `  ${step}` : `  ${step.padEnd(44)} ${formatDuration(ms)}`)),
    `last transaction  ${number}${when}`,
    `lost              ${lostText(lost)}`,
    ...stores.map(store => {
      const verdict = store.valid ? 'valid' : styled('red', 'NOT VALID')
      return `${store.store.padEnd(16)}  ${store.path}: ${verdict}${store.findings.map(text => `\n  ${text}`).join('')}`
    }),
    ...(report.withoutWriterMs === undefined
      ? []
      : [`without a writer  ${formatDuration(report.withoutWriterMs)}`]),
  ]
}

function lostText(lost: PromotionReport['lost']): string {
  const since =
    lost.kind === 'nothing' || lost.sinceMs === undefined ? '' : `, since ${formatTime(lost.sinceMs)}`
  switch (lost.kind) {
    case 'nothing':
      return 'nothing'
    case 'known':
      return `from transaction ${lost.fromNumber} on${since}`
    case 'unknown':
      return `what the old primary committed after transaction ${lost.afterNumber}${since}, if anything`
    default:
      return lost satisfies never
  }
}
