import type { Command } from 'commander'
import { type StatusReport, status } from '../daemon/status.ts'
import { addCommand, type CommandContext, type CommonOptions } from './command.ts'
import { formatBytes, formatCount, formatDuration, formatTime } from './format.ts'
import { Output, styled } from './output.ts'

const help = `
Of a copy: works whether a follower runs or not, and disturbs neither it nor the copy. Without a TARGET: of
the server that the configuration describes, the newest of its messages first; works while it is stopped.
--check answers as Nagios and its like expect it: one line, and status 0 ok, 1 warning, 2 critical, 3 unknown.

Examples:
  hotspare status /backup/app.db
  hotspare status /backup/                       the only copy in a directory
  hotspare status /backup/app.db --json | jq .lagMs
  hotspare status                                the server of ./hotspare.yaml
  hotspare status --check --warn 10s --crit 60s`

interface StatusOptions extends CommonOptions {
  readonly config?: string
  readonly check?: boolean
  readonly warn: string
  readonly crit: string
}

export function registerStatus(program: Command, context: CommandContext): void {
  addCommand(
    program,
    'status',
    'how a copy or a server stands: position, last commit, lag, running or not',
    help,
  )
    .argument('[target]', 'the copy')
    .option('-c, --config <file>', 'of a server: its configuration')
    .option('--check', 'of a server: one line and an exit status for monitoring')
    .option('--warn <time>', 'with --check: further behind is a warning', '10s')
    .option('--crit <time>', 'with --check: further behind is critical', '60s')
    .action(async (target: string | undefined, options: StatusOptions) => {
      const output = new Output(options)
      if (target === undefined) {
        const { serverStatus } = await import('./server-status.ts')
        context.done(await serverStatus(options, output, context.signal))
        return
      }
      const report = await status({ target })
      output.object(report)
      for (const [label, text] of rows(report)) output.say(`${styled('dim', label.padEnd(16))}${text}`)
      context.done(0)
    })
}

const stateText: Readonly<Record<StatusReport['state'], string>> = {
  starting: 'starting',
  copying: 'making the first copy',
  live: 'live',
  behind: 'behind',
  retrying: 'waiting to try again',
  stopped: 'stopped',
  killed: 'not running; the last follower ended without a word (killed?)',
  unknown: 'not running',
}

const noWindow = "none yet: complete, but consistent only after 'hotspare mirror'"

function rows(report: StatusReport): [string, string][] {
  const { profile, consistent, lagMs, lagBytes, lastError, updatedMs } = report
  const running = report.running ? `, running as process ${report.pid ?? 'unknown'}` : ''
  const behind = [
    ...(lagMs === undefined ? [] : [formatDuration(lagMs)]),
    ...(lagBytes === undefined ? [] : [formatBytes(lagBytes)]),
  ]
  return [
    ['copy', report.target],
    ['source', report.source],
    ['driver', profile === undefined ? report.driver : `${report.driver}, profile ${profile}`],
    ['state', stateText[report.state] + running],
    ['position', report.position ?? 'none'],
    report.complete
      ? ['last window', consistent === undefined ? noWindow : formatTime(consistent.timeMs)]
      : ['last commit', consistent === undefined ? 'none: not complete yet' : formatTime(consistent.timeMs)],
    ['behind', behind.length === 0 ? 'unknown' : behindText(lagMs, behind)],
    ...(report.bytes === undefined || report.transactions === undefined
      ? []
      : [moved(report.bytes, report.transactions)]),
    ...(updatedMs === undefined ? [] : [['as of', formatTime(updatedMs)] satisfies [string, string]]),
    ...(lastError === undefined
      ? []
      : [['last error', `${lastError.message} (${lastError.code})`] satisfies [string, string]]),
  ]
}

function moved(bytes: number, transactions: number): [string, string] {
  return ['this run', `${formatBytes(bytes)}, ${formatCount(transactions, 'transaction')}`]
}

function behindText(lagMs: number | undefined, parts: readonly string[]): string {
  return lagMs === 0 ? 'nothing' : `at most ${parts.join(', ')}`
}
