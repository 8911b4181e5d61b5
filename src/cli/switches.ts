import type { Command } from 'commander'
import { callServer } from '../daemon/server-client.ts'
import { findConfig } from '../daemon/server-command.ts'
import type { CommandContext } from './command.ts'
import { Output } from './output.ts'
import { addServerCommand, onOrOff, type ServerCommandOptions } from './server-command.ts'

const enqueueHelp = `
Off: what the application commits is no longer put into the log. It is not lost: with 'on' all of it
follows (where the store has not kept it, by comparing). Outlives a restart of the server.

Examples:
  hotspare enqueue off
  hotspare enqueue on`

const applyHelp = `
Off: the copies stay at a consistent commit, and can be cloned, archived or opened read-only, while the
standby goes on receiving into its log (within the log's limit). On: what has come meanwhile is applied.
Outlives a restart of the server.

Examples:
  hotspare apply off && hotspare clone /standby/app.db /tmp/evening.db && hotspare apply on`

export function registerEnqueue(program: Command, context: CommandContext): void {
  addServerCommand(program, 'enqueue', 'primary: put what is committed into the log, or not', enqueueHelp)
    .argument('<on|off>')
    .action(async (state: string, options: ServerCommandOptions) => {
      await act('enqueue', state, options, context)
    })
}

export function registerApply(program: Command, context: CommandContext): void {
  addServerCommand(program, 'apply', 'standby: apply what is received, or keep the copies still', applyHelp)
    .argument('<on|off>')
    .action(async (state: string, options: ServerCommandOptions) => {
      await act('apply', state, options, context)
    })
}

async function act(
  request: 'enqueue' | 'apply',
  state: string,
  options: ServerCommandOptions,
  context: CommandContext,
): Promise<void> {
  const on = onOrOff(state)
  const output = new Output(options)
  const { settings } = await findConfig(options.config)
  await callServer(settings.stateDirectory, { request, on }, context.signal)
  output.object({ [request]: on })
  output.say(`${request === 'enqueue' ? 'enqueuing' : 'applying'} is ${on ? 'on' : 'off'}`)
  context.done(0)
}
