import { type Command, Option } from 'commander'
import { addCommand, type CommandContext, given } from './command.ts'
import { duration, type MirrorCommandOptions, modeOf, usage } from './mirror-options.ts'
import { conclude, MirrorPrinter } from './mirror-printer.ts'
import { Output, styled } from './output.ts'

const help = `
SOURCE is a directory that an application writes to; TARGET is the copy. What changed since the last
time is copied first, while the application goes on. Then its maintenance mode is entered, what has
changed meanwhile is copied, and the mode is left: as soon as all is read, not when it is on disk.
With a running 'hotspare follow SOURCE TARGET' the window costs only what changed in it.

The mode is always left: on errors, on Ctrl-C, after --max-hold, and, when hotspare itself is killed,
by the next hotspare command of the same user. A mode that was on already is not left. How the mode
is switched is said by one of
  --enter CMD --leave CMD      run by 'sh -c', with HOTSPARE_SOURCE, HOTSPARE_TARGET and HOTSPARE_WINDOW
                               (before, inside) in the environment; --enter has to end only when
                               nothing writes any more
  --app NAME                   a known application; 'hotspare mirror --apps' lists them
  --flag-file FILE             a file that is there while the mode is on
  --http-enter URL --http-leave URL
What else must be of the same moment, a dump of the application's database say, is made by --inside CMD.
Recipes for known applications: docs/recipes/.

Exit status: 12 enter failed, 13 the mode is off or its state unknown, 14 LEAVE FAILED (says what to
run by hand), 15 --max-hold reached, 16 the source never held still, 17 --inside failed; the others as
ever.

Examples:
  hotspare mirror /srv/board /backup/board --enter 'touch /run/board.closed' --leave 'rm -f /run/board.closed'
  hotspare mirror /var/www/nextcloud /backup/nextcloud --app nextcloud --app-user www-data
  hotspare mirror /var/moodledata /backup/moodledata --app moodle --app-dir /var/www/moodle --app-user www-data
  hotspare mirror /srv/wiki /backup/wiki --flag-file /srv/wiki/images/lock_yBgMBwiR --archive /backup/wiki.tar.zst
  hotspare mirror /srv/app /backup/app --http-enter http://localhost:8080/readonly/on \\
      --http-leave http://localhost:8080/readonly/off --http-headers /etc/hotspare/app-headers
  hotspare mirror --apps`

export function registerMirror(program: Command, context: CommandContext): void {
  addCommand(program, 'mirror', 'a consistent copy of a directory, in a short maintenance window', help)
    .argument('[source]', 'the directory that the application writes to')
    .argument('[target]', 'the copy')
    .option('--enter <command>', 'enters maintenance mode')
    .option('--leave <command>', 'leaves it')
    .option('--verify <command>', 'status 0 while it is on')
    .option('--refresh <command>', 'keeps it on, for modes that end by themselves')
    .option('--refresh-every <time>', 'how often (60s unless the application says otherwise)')
    .option('--app <name>', 'a known application in place of the commands')
    .option('--app-dir <directory>', 'where it is installed, if not in SOURCE')
    .option('--app-user <user>', "the user that its commands run as: the web server's")
    .option('--apps', 'list the known applications, with what each runs')
    .option('--flag-file <file>', 'the mode is on while this file is there')
    .option('--flag-text <text>', 'what to write into it')
    .option('--http-enter <url>', 'POST there enters the mode')
    .option('--http-leave <url>', 'POST there leaves it')
    .option('--http-status <url>', 'GET there is answered with 2xx while the mode is on')
    .option('--http-headers <file>', "lines of 'Name: value', in a file of mode 0600")
    .option(
      '--inside <command>',
      "run while the mode is on, beside the pass: dumps the application's database, say",
    )
    .option('--max-hold <time>', 'how long the mode may be on', '5m')
    .option('--settle <time>', 'how long to wait, when the mode is on, for what had begun before')
    .option('--command-timeout <time>', 'how long each command may take', '60s')
    .option('--archive <file>', 'then archive the copy: .tar, .tar.gz or .tar.zst')
    .option('--no-delete', 'keep at the copy what is deleted at the source')
    .option('--resync', 'take the copy as it is, compare, and send the difference')
    .addOption(new Option('-v, --verbose', 'show what the commands print').conflicts('quiet'))
    .action(async (source: string | undefined, target: string | undefined, options: MirrorCommandOptions) => {
      const output = new Output(options)
      if (options.apps) {
        await listApplications(output)
        return context.done(0)
      }
      if (source === undefined || target === undefined) throw usage('Name SOURCE and TARGET.')
      const printer = new MirrorPrinter(output, options.verbose ?? false)
      const { archive, inside, resync } = options
      const { mirror } = await import('../daemon/mirror.ts')
      const report = await mirror({
        source,
        target,
        mode: modeOf(options),
        noDelete: !options.delete,
        ...given({
          archive,
          inside,
          resync,
          maxHoldMs: duration('--max-hold', options.maxHold, 1),
          settleMs: duration('--settle', options.settle, 0),
          commandTimeoutMs: duration('--command-timeout', options.commandTimeout, 1),
          refreshEveryMs: duration('--refresh-every', options.refreshEvery, 1),
        }),
        signal: context.signal,
        onEvent: event => printer.print(event),
      }).finally(() => output.end())
      output.object({ event: 'result', ...report })
      conclude(report, output)
      context.done(0)
    })
}

async function listApplications(output: Output): Promise<void> {
  const { applications, describeMode } = await import('../daemon/applications.ts')
  const place = { directory: 'DIR' }
  const list = applications.map(application => {
    const { mode, settleMs } = application.mode(place)
    return { name: application.name, title: application.title, note: application.note, settleMs, mode }
  })
  output.object({ applications: list })
  for (const { name, title, note, mode } of list) {
    output.say(`${styled('bold', `--app ${name}`)}  ${title}: ${note}`)
    for (const [step, text] of describeMode(mode)) output.say(`  ${step.padEnd(8)} ${text}`)
    output.say('')
  }
  output.say(
    'DIR is --app-dir (SOURCE unless told otherwise). With --app-user USER the commands run as that user.',
  )
}
