import type { Command } from 'commander'
import { packageVersion } from '../os/package-version.ts'
import type { OutputOptions } from './output.ts'

/** What every command gets. Gives its exit status. */
export interface CommandContext {
  /** Aborts on SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  /** To be called with the exit status of a command that has ended. */
  done(exit: number): void
}

/** Adds a command with the options that all have, and examples under its help. */
export function addCommand(program: Command, name: string, summary: string, help: string): Command {
  return program
    .command(name)
    .summary(summary)
    .description(summary)
    .option('-q, --quiet', 'print nothing but warnings and errors')
    .option('--json', 'print JSON: one object, or one line an event')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', `\n${help.trim()}`)
}

export type CommonOptions = OutputOptions

/** Leaves out what was not given, for options that must not be undefined. */
export function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
