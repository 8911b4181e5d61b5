import type { Command } from 'commander'
import { InvalidArgumentError } from 'commander'
import { addCommand, type CommandContext, type CommonOptions } from './command.ts'
import { Display } from './demo/display.ts'
import { type DemoReport, runDemo } from './demo/run.ts'
import { Output, styled } from './output.ts'

const help = `
Three applications, each in its own process, write into a scratch directory (a gigabyte at most): a
bank (a SQLite database, and uploads that its rows name), a log of pack files, and a message board.
hotspare follows them, is killed with SIGKILL, and started again. Clones of the copies, made when it was
killed and while it runs, are opened with the real engine and proved. The board is mirrored in
maintenance windows of milliseconds. Exit status 0 when everything held, 1 when something did not.

Examples:
  hotspare demo
  hotspare demo --keep          leave the stores and copies there to look at`

interface Options extends CommonOptions {
  readonly keep?: boolean
  readonly seconds: number
}

export function registerDemo(program: Command, context: CommandContext): void {
  addCommand(program, 'demo', 'watch it work on live stores, and prove it', help)
    .option('--keep', 'leave the scratch directory there')
    .option('--seconds <number>', 'how long it takes, about', seconds, 20)
    .action(async (options: Options) => {
      const output = new Output(options)
      let display: Display | undefined
      const report = await runDemo({
        seconds: options.seconds,
        keep: options.keep ?? false,
        signal: context.signal,
        onStores: stores => {
          if (!output.json && !options.quiet) display = new Display(stores)
        },
        onStep: text => {
          display?.say(text)
          output.object({ event: 'step', text })
        },
      }).finally(() => display?.close())
      output.object(report)
      conclude(report, output)
      context.done(report.ok ? 0 : 1)
    })
}

function conclude(report: DemoReport, output: Output): void {
  output.say(`\n${styled('bold', 'What was proved')}`)
  for (const { ok, what } of report.findings) {
    if (ok) output.say(`${styled('green', 'ok')}      ${what}`)
    else output.warn(`FAILED: ${what}`)
  }
  if (report.directory !== undefined) output.say(`\nKept: ${report.directory}`)
  if (report.ok) output.say(`\nFollow your own: ${styled('bold', 'hotspare follow SOURCE TARGET')}`)
}

function seconds(text: string): number {
  const value = Number(text)
  if (!(value >= 5 && value <= 3_600)) throw new InvalidArgumentError('It takes 5 to 3600 seconds.')
  return value
}
