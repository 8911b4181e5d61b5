import type { Command } from 'commander'
import { callServer } from '../daemon/server-client.ts'
import { findConfig } from '../daemon/server-command.ts'
import { parseBytes } from '../daemon/units.ts'
import { HotspareError } from '../os/errors.ts'
import type { ProbeReport } from '../server/server.ts'
import type { CommandContext } from './command.ts'
import { formatBytes, formatDuration } from './format.ts'
import { Output } from './output.ts'
import { addServerCommand, type ServerCommandOptions } from './server-command.ts'

const help = `
Sends a record of so many bytes over the link, has it written to the disk of the other server, and
measures how long that takes. Nothing of the stores is touched.

Examples:
  hotspare probe beta
  hotspare probe beta --size 1MiB --json`

const probeBytesMax = 1024 * 1024

export function registerProbe(program: Command, context: CommandContext): void {
  addServerCommand(program, 'probe', 'measure the link to a peer: round trip and throughput', help)
    .argument('<peer>', 'the name of the other server')
    .option('--size <size>', 'bytes of the record', '64KiB')
    .action(async (peer: string, options: ServerCommandOptions & { readonly size: string }) => {
      const bytes = parseBytes(options.size)
      if (bytes === undefined || bytes < 1 || bytes > probeBytesMax)
        throw new HotspareError('usage', `--size is from 1 byte to 1 MiB; found '${options.size}'.`)
      const output = new Output(options)
      const { settings } = await findConfig(options.config)
      const report = await callServer<ProbeReport>(
        settings.stateDirectory,
        { request: 'probe', peer, bytes },
        context.signal,
      )
      output.object(report)
      output.say(
        `${peer}: ${formatBytes(report.bytes)} there, on its disk (${formatDuration(report.durableMs)} of it) and back in ` +
          `${formatDuration(report.roundTripMs)}: ${formatBytes(report.bytesPerSecond)}/s`,
      )
      context.done(0)
    })
}
