import type { Command } from 'commander'
import { callServer } from '../daemon/server-client.ts'
import { findConfig } from '../daemon/server-command.ts'
import { parseDuration } from '../daemon/units.ts'
import { HotspareError } from '../os/errors.ts'
import type { CommandContext } from './command.ts'
import { formatCount } from './format.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Returns when all that the stores had committed when it was called is on the disk of that server: before
a risky deployment, say, or a planned restart.

Examples:
  hotspare wait --for beta
  hotspare wait --for beta --timeout 30s || echo 'beta is behind'`

interface WaitOptions extends ServerCommandOptions {
  readonly for: string
  readonly timeout?: string
}

export function registerWait(program: Command, context: CommandContext): void {
  addServerCommand(program, 'wait', 'return when all committed so far is durable at a standby', help)
    .requiredOption('--for <peer>', 'the name of the standby')
    .option('--timeout <time>', 'give up after so long, with status 20')
    .action(async (options: WaitOptions) => {
      const limitMs = options.timeout === undefined ? undefined : parseDuration(options.timeout)
      if (options.timeout !== undefined && limitMs === undefined)
        throw new HotspareError('usage', `--timeout is a time, as '30s'; found '${options.timeout}'.`)
      const output = new Output(options)
      const { settings } = await findConfig(options.config)
      const limit = limitMs === undefined ? undefined : AbortSignal.timeout(limitMs)
      const signal = limit === undefined ? context.signal : AbortSignal.any([context.signal, limit])
      const number = await callServer<number>(
        settings.stateDirectory,
        { request: 'wait', peer: options.for },
        signal,
      ).catch(error => {
        if (limit?.aborted && !context.signal.aborted) {
          throw new HotspareError(
            'timed-out',
            `After ${options.timeout} not everything was durable at ${options.for}. 'hotspare status' shows how far it is.`,
          )
        }
        throw error
      })
      output.object({ peer: options.for, number })
      output.say(`${options.for} has all up to transaction ${formatCount(number, '', '').trim()}`)
      context.done(0)
    })
}
