import type { Command } from 'commander'
import { callServer } from '../daemon/server-client.ts'
import { findConfig } from '../daemon/server-command.ts'
import type { CommandContext } from './command.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
A transaction that could not be applied stops its store, and only that. It is kept aside in the state
directory, in quarantine/, with a report; 'hotspare queue show --file' shows it. When the cause is gone,
the store goes on from there; or it is compared with the primary's, and gets what differs.

Examples:
  hotspare release app
  hotspare release app --synchronise`

interface ReleaseOptions extends ServerCommandOptions {
  readonly synchronise?: boolean
}

export function registerRelease(program: Command, context: CommandContext): void {
  addServerCommand(program, 'release', 'take up a store that is in quarantine', help)
    .argument('<store>', 'the name of the store')
    .option('--synchronise', 'compare with the primary instead of trying the transaction again')
    .action(async (store: string, options: ReleaseOptions) => {
      const output = new Output(options)
      const { settings } = await findConfig(options.config)
      const how = options.synchronise ? 'synchronise' : 'retry'
      await callServer(settings.stateDirectory, { request: 'release', store, how }, context.signal)
      output.object({ store, how })
      output.say(`store ${store} goes on`)
      context.done(0)
    })
}
