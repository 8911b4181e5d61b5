import type { Command } from 'commander'
import { type DriverInfo, drivers } from '../daemon/drivers.ts'
import type { DriverCapabilities } from '../drivers/driver.ts'
import { errorCodes } from '../os/errors.ts'
import { addCommand, type CommandContext, type CommonOptions } from './command.ts'
import { Output, styled } from './output.ts'

const help = `
With a PATH, also what recognises it; exit status 3 when nothing does.

Examples:
  hotspare drivers
  hotspare drivers /srv/app/app.db`

export function registerDrivers(program: Command, context: CommandContext): void {
  addCommand(program, 'drivers', 'what kinds of store can be followed, and which one a path is', help)
    .argument('[path]', 'a store to recognise')
    .action(async (path: string | undefined, options: CommonOptions) => {
      const output = new Output(options)
      const report = await drivers(path)
      output.object(report)
      if (report.detected === undefined) {
        output.say(report.drivers.map(describe).join('\n\n'))
        context.done(0)
        return
      }
      for (const { driver, profile, confidence, reason } of report.detected) {
        const name = profile === undefined ? driver : `${driver}, profile ${profile}`
        output.say(`${styled('bold', name)} (${Math.round(confidence * 100)} %): ${reason}`)
      }
      const known = report.detected.length > 0
      if (!known) output.say(`No driver recognises ${report.path}.`)
      context.done(known ? 0 : errorCodes['source-unknown'].exit)
    })
}

const capabilityText: Readonly<Record<keyof DriverCapabilities, string>> = {
  singleFile: 'the store is one file',
  appendsOnly: 'follows appends only',
  holdsWriters: 'can hold writers for a cut',
  stateDigest: 'every commit carries a digest of the whole state',
}

function describe(driver: DriverInfo): string {
  const can = Object.entries(capabilityText)
    .filter(([name]) => driver.capabilities[name as keyof DriverCapabilities])
    .map(([, text]) => text)
  return [
    `${styled('bold', driver.name)}: ${driver.summary}`,
    ...(can.length === 0 ? [] : [`  ${can.join('; ')}`]),
    ...driver.profiles.map(({ name, summary }) => `  --profile ${name.padEnd(16)}${summary}`),
    ...driver.tools.map(
      ({ name, purpose, path }) => `  ${name}: ${purpose} (${path ?? 'not installed; optional'})`,
    ),
  ].join('\n')
}
