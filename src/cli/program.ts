import { Command, type CommanderError } from 'commander'
import { packageVersion } from '../os/package-version.ts'
import type { CommandContext } from './command.ts'
import { exitOutputClosed, failureOf, writeFailure } from './failure.ts'
import { Interruption } from './interruption.ts'
import { leaveWhatWasLeft } from './leases.ts'

const help = `
A first look:
  hotspare demo                                 watch it work on live stores, for 20 seconds

Keep a copy of a live database seconds behind, until stopped:
  hotspare follow /srv/app/app.db /backup/app.db
  hotspare status /backup/app.db

Mirror what an application writes, in a maintenance window of milliseconds:
  hotspare mirror /var/www/nextcloud /backup/nextcloud --app nextcloud --app-user www-data

Take a copy of that copy, to open or to carry away, while following goes on:
  hotspare clone /backup/app.db /tmp/app-now.db
  hotspare check /backup/app.db --against /srv/app/app.db
  hotspare archive /backup/app.db /archive/app.tar.zst

Every error has a code and an exit status: see docs/errors.md.`

type Register = (program: Command, context: CommandContext) => void

/** In the order in which the help shows them. */
const registrations = {
  follow: async (): Promise<Register> => (await import('./follow.ts')).registerFollow,
  mirror: async (): Promise<Register> => (await import('./mirror.ts')).registerMirror,
  clone: async (): Promise<Register> => (await import('./clone.ts')).registerClone,
  check: async (): Promise<Register> => (await import('./check.ts')).registerCheck,
  archive: async (): Promise<Register> => (await import('./archive.ts')).registerArchive,
  status: async (): Promise<Register> => (await import('./status.ts')).registerStatus,
  serve: async (): Promise<Register> => (await import('./serve.ts')).registerServe,
  init: async (): Promise<Register> => (await import('./init.ts')).registerInit,
  pair: async (): Promise<Register> => (await import('./pair.ts')).registerPair,
  service: async (): Promise<Register> => (await import('./service.ts')).registerService,
  query: async (): Promise<Register> => (await import('./query.ts')).registerQuery,
  stats: async (): Promise<Register> => (await import('./query.ts')).registerStats,
  enqueue: async (): Promise<Register> => (await import('./switches.ts')).registerEnqueue,
  apply: async (): Promise<Register> => (await import('./switches.ts')).registerApply,
  probe: async (): Promise<Register> => (await import('./probe.ts')).registerProbe,
  wait: async (): Promise<Register> => (await import('./wait.ts')).registerWait,
  promote: async (): Promise<Register> => (await import('./promote.ts')).registerPromote,
  rejoin: async (): Promise<Register> => (await import('./promote.ts')).registerRejoin,
  release: async (): Promise<Register> => (await import('./release.ts')).registerRelease,
  queue: async (): Promise<Register> => (await import('./queue.ts')).registerQueue,
  link: async (): Promise<Register> => (await import('./link-stdio.ts')).registerLink,
  drivers: async (): Promise<Register> => (await import('./drivers.ts')).registerDrivers,
  demo: async (): Promise<Register> => (await import('./demo.ts')).registerDemo,
} as const

type CommandName = keyof typeof registrations

/** A command starts faster without the code of the others; whatever shows or suggests commands needs them all. */
function commandsToLoad(argv: readonly string[]): readonly CommandName[] {
  const all = Object.keys(registrations) as CommandName[]
  const asked = all.find(name => name === argv[2])
  return asked === undefined ? all : [asked]
}

/** Runs the command line, and ends the process with its exit status. */
export async function run(argv: readonly string[]): Promise<never> {
  const json = argv.includes('--json')
  const interruption = new Interruption()
  const crash = (error: unknown): never => {
    const failure = failureOf(error, false)
    writeFailure(failure, json)
    process.exit(failure.exit)
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)
  // a command that waits for what never comes would end as if all were well
  process.on('beforeExit', () =>
    crash(new Error('nothing is left to be done, and the command has not ended')),
  )
  hideExperimentalWarnings()
  let exit = 0
  try {
    const program = await build(argv, {
      signal: interruption.signal,
      done: status => {
        exit = status
      },
    })
    const leaving = leaveWhatWasLeft(argv, interruption.signal)
    // a mirror has to know whether the mode that it finds is somebody's
    if (argv[2] === 'mirror') await leaving
    await program.parseAsync(argv).finally(() => leaving)
  } catch (error) {
    const failure = failureOf(error, interruption.signal.aborted)
    if (!interruption.outputClosed) writeFailure(failure, json)
    exit = failure.exit
  }
  process.exit(interruption.outputClosed ? exitOutputClosed : exit)
}

async function build(argv: readonly string[], context: CommandContext): Promise<Command> {
  const program = new Command('hotspare')
    .description('Keeps live data safe while the application keeps writing: a copy that opens at any moment.')
    .version(packageVersion(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', help)
    .exitOverride((error: CommanderError) => {
      throw error
    })
    // what is wrong is said once, by whoever knows about --json
    .configureOutput({ outputError: () => {} })
    .showSuggestionAfterError()
  for (const name of commandsToLoad(argv)) (await registrations[name]())(program, context)
  return program
}

/** Early releases of Node.js 24 warn of node:sqlite, which means nothing to who reads our output. */
function hideExperimentalWarnings(): void {
  process.removeAllListeners('warning')
  process.on('warning', warning => {
    if (warning.name !== 'ExperimentalWarning')
      process.stderr.write(`hotspare: ${warning.stack ?? warning}\n`)
  })
}
