import { setFlagsFromString } from 'node:v8'
import type { Command } from 'commander'
import { serve } from '../daemon/serve.ts'
import { findConfig } from '../daemon/server-command.ts'
import type { CommandContext } from './command.ts'
import { Output, styled } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'
import { messageLine } from './server-printer.ts'

const help = `
Runs the server that the configuration describes: a primary puts what its stores commit into its log and
ships it; a standby receives, keeps its copies seconds behind, and can take over. Both at once in a cascade.
It goes on until stopped (SIGINT, SIGTERM), and where it stood at the next start.

docs/standby.md has it all, from 'hotspare init' to 'hotspare promote'.

Examples:
  hotspare serve
  hotspare serve -c /etc/hotspare/hotspare.yaml --json
  hotspare service install                       have systemd run it`

export function registerServe(program: Command, context: CommandContext): void {
  addServerCommand(program, 'serve', 'run a primary or a standby of a set of stores', help).action(
    async (options: ServerCommandOptions) => {
      const output = new Output(options)
      const config = await findConfig(options.config)
      // what comes over a link is buffers outside a small heap: by default each 20 MB of them cost a collection of all
      setFlagsFromString('--heap-growing-percent=300')
      await serve({
        config,
        signal: context.signal,
        onStarted(status) {
          output.object({ event: 'started', ...status })
          const role = status.upstream === undefined ? status.role : `${status.role} of ${status.upstream}`
          const stores = status.stores.map(({ store }) => store).join(', ')
          output.say(
            `${styled('green', status.name)} runs, ${role}, epoch ${status.epoch.number}, stores ${stores}`,
          )
        },
        onMessage(message) {
          output.object({ event: 'message', ...message })
          if (message.level === 'info') output.say(messageLine(message))
          else output.warn(messageLine(message))
        },
      })
      output.object({ event: 'stopped' })
      output.say('stopped')
      context.done(0)
    },
  )
}
