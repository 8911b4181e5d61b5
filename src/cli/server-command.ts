/** What the commands of a set's servers share. */
import type { Command } from 'commander'
import { HotspareError } from '../os/errors.ts'
import { addCommand, type CommonOptions } from './command.ts'

export interface ServerCommandOptions extends CommonOptions {
  readonly config?: string
}

export function addServerCommand(program: Command, name: string, summary: string, help: string): Command {
  return addCommand(program, name, summary, help).option(
    '-c, --config <file>',
    'the configuration; else ./hotspare.yaml, else /etc/hotspare/hotspare.yaml',
  )
}

/** `on` or `off`. */
export function onOrOff(text: string): boolean {
  if (text === 'on') return true
  if (text === 'off') return false
  throw new HotspareError('usage', `Say 'on' or 'off', not '${text}'.`)
}
