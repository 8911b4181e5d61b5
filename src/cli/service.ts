import { spawnSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import type { Command } from 'commander'
import { localMachine } from '../daemon/machine.ts'
import { findConfig } from '../daemon/server-command.ts'
import { unitName, unitText } from '../daemon/service-unit.ts'
import { describeSystemError, HotspareError } from '../os/errors.ts'
import { writeFileDurably } from '../os/storage.ts'
import type { CommandContext } from './command.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Writes a systemd unit for the server of a configuration, has it started now and after every restart of
the machine. As root a unit of the system, else one of the user (which runs while the user is logged in, or
always after 'loginctl enable-linger').

Examples:
  hotspare service install -c /etc/hotspare/hotspare.yaml
  hotspare service install --print               only show the unit
  hotspare service remove`

interface ServiceOptions extends ServerCommandOptions {
  readonly print?: boolean
  readonly user?: string
}

export function registerService(program: Command, context: CommandContext): void {
  addServerCommand(program, 'service', 'run the server by systemd: install or remove', help)
    .argument('<install|remove>')
    .option('--print', 'print the unit, and install nothing')
    .option('--user <name>', 'the user that it runs as')
    .action(async (action: string, options: ServiceOptions) => {
      if (action !== 'install' && action !== 'remove')
        throw new HotspareError('usage', `Say 'install' or 'remove', not '${action}'.`)
      const output = new Output(options)
      const config = await findConfig(options.config)
      const name = unitName(config)
      const unit = unitText(config, ownCommand(), options.user)
      if (options.print) {
        output.object({ name, unit })
        output.say(unit.trimEnd())
        return context.done(0)
      }
      const root = process.getuid?.() === 0
      const directory = root ? '/etc/systemd/system' : `${homedir()}/.config/systemd/user`
      const path = `${directory}/${name}`
      const systemctl = (...args: string[]) => runSystemctl(root ? args : ['--user', ...args])
      if (action === 'remove') {
        systemctl('disable', '--now', name)
        await rm(path, { force: true })
        systemctl('daemon-reload')
        output.say(`removed ${path}`)
      } else {
        await install(path, unit)
        systemctl('daemon-reload')
        systemctl('enable', '--now', name)
        output.say(
          `${path} is installed, and the server runs: 'systemctl ${root ? '' : '--user '}status ${name}'`,
        )
      }
      output.object({ name, path, action })
      context.done(0)
    })
}

async function install(path: string, unit: string): Promise<void> {
  const { storage } = localMachine
  try {
    await storage.makeDirectory(path.slice(0, path.lastIndexOf('/')), 0o755)
    await writeFileDurably(storage, path, Buffer.from(unit), 0o644)
  } catch (error) {
    throw describeSystemError(error, `Writing ${path}`)
  }
}

function runSystemctl(args: readonly string[]): void {
  const { status, error, stderr } = spawnSync('systemctl', args, { encoding: 'utf8' })
  if (error !== undefined) {
    throw new HotspareError(
      'tool-missing',
      "There is no systemctl on this machine. 'hotspare service install --print' shows what another service manager has to run.",
    )
  }
  if (status !== 0)
    throw new HotspareError('unsupported', `'systemctl ${args.join(' ')}' failed: ${stderr.trim() || status}`)
}

/** How this very hotspare is run. */
function ownCommand(): string[] {
  const [node = '', script = ''] = process.argv
  return [realpathSync(node), realpathSync(script)]
}
