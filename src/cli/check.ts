import type { Command } from 'commander'
import { check } from '../daemon/check.ts'
import { errorCodes } from '../os/errors.ts'
import { addCommand, type CommandContext, type CommonOptions, given } from './command.ts'
import { formatBytes, formatDuration } from './format.ts'
import { Output } from './output.ts'

const help = `
Reads the whole copy, and says what was proved: that it is what was recorded when it was made, and
that the store's own engine finds nothing wrong. With --against also that it equals the live source.
Exit status 0 when all holds, 7 when something does not.

Examples:
  hotspare check /backup/app.db
  hotspare check /backup/app.db --against /srv/app/app.db
  hotspare check SALES-COPY.rdm --json | jq .valid`

interface Options extends CommonOptions {
  readonly against?: string
}

export function registerCheck(program: Command, context: CommandContext): void {
  addCommand(program, 'check', 'prove that a copy is valid', help)
    .argument('<target>', 'the copy')
    .option('--against <source>', 'compare with this live source as well')
    .action(async (target: string, options: Options) => {
      const output = new Output(options)
      const result = await check({
        target,
        ...given({ against: options.against }),
        signal: context.signal,
        onProgress: done => output.progress(done.bytes, done.totalBytes),
        onNotice: notice => output.warn(`${notice.message} (${notice.code})`),
      }).finally(() => output.end())
      output.object(result)
      output.findings(result.findings)
      const figures = `${formatBytes(result.bytes)} in ${formatDuration(result.elapsedMs)}`
      if (result.valid) output.say(`${result.target} is valid (${figures})`)
      else output.warn(`${result.target} did not pass its check (target-invalid)`)
      context.done(result.valid ? 0 : errorCodes['target-invalid'].exit)
    })
}
