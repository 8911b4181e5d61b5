import type { Command } from 'commander'
import { findConfig, viewServer } from '../daemon/server-command.ts'
import { systemClock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import type { CommandContext } from './command.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'
import { queryRows, rowLine, statsRows } from './server-printer.ts'

const queryHelp = `
Server, role, log, transaction numbers, what is applied, and the state of each link: Wait incoming call,
Wait response to call, Connected, Reading queue, Writing to network, Waiting for ACK, Idle, Stopped.

Examples:
  hotspare query
  hotspare query --json | jq '.log'`

const statsHelp = `
Examples:
  hotspare stats
  hotspare stats --json | jq '.links[] | {peer, lagMs}'`

export function registerQuery(program: Command, context: CommandContext): void {
  addServerCommand(program, 'query', 'everything that a running server says of itself', queryHelp).action(
    async (options: ServerCommandOptions) => {
      const output = new Output(options)
      const view = await viewServer(await findConfig(options.config), 0, context.signal)
      output.object({ running: view.running, ...view.status })
      for (const row of queryRows(view, systemClock.nowMs())) output.say(rowLine(row))
      context.done(0)
    },
  )
}

export function registerStats(program: Command, context: CommandContext): void {
  addServerCommand(program, 'stats', 'what went over the links, and how far each peer is', statsHelp).action(
    async (options: ServerCommandOptions) => {
      const output = new Output(options)
      const config = await findConfig(options.config)
      const { running, status } = await viewServer(config, 0, context.signal)
      if (!running || status === undefined) {
        throw new HotspareError(
          'server-stopped',
          `No server runs with its state in ${config.settings.stateDirectory}. Start it with 'hotspare serve'.`,
        )
      }
      output.object({ links: status.links })
      for (const row of statsRows(status, systemClock.nowMs())) output.say(rowLine(row))
      context.done(0)
    },
  )
}
