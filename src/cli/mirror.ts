import { type Command, Option } from 'commander'
import { applications, describeMode } from '../daemon/applications.ts'
import { type MirrorMode, type MirrorReport, mirror } from '../daemon/mirror.ts'
import type { MirrorEvent } from '../daemon/mirror-events.ts'
import { HotspareError } from '../os/errors.ts'
import { addCommand, type CommandContext, type CommonOptions, given } from './command.ts'
import { formatBytes, formatCount, formatDuration, parseDuration } from './format.ts'
import { LeasePrinter } from './leases.ts'
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

Exit status: 12 enter failed, 13 the mode is off or its state unknown, 14 LEAVE FAILED (says what to
run by hand), 15 --max-hold reached, 16 the source never held still, 17 --inside failed; the others as
ever.

Examples:
  hotspare mirror /srv/board /backup/board --enter 'touch /srv/board/.closed' --leave 'rm -f /srv/board/.closed'
  hotspare mirror /var/www/nextcloud /backup/nextcloud --app nextcloud --app-user www-data
  hotspare mirror /var/moodledata /backup/moodledata --app moodle --app-dir /var/www/moodle --app-user www-data
  hotspare mirror /srv/wiki /backup/wiki --flag-file /srv/wiki/images/lock_yBgMBwiR --archive /backup/wiki.tar.zst
  hotspare mirror /srv/app /backup/app --http-enter http://localhost:8080/readonly/on \\
      --http-leave http://localhost:8080/readonly/off --http-headers /etc/hotspare/app-headers
  hotspare mirror --apps`

interface Options extends CommonOptions {
  readonly apps?: boolean
  readonly app?: string
  readonly appDir?: string
  readonly appUser?: string
  readonly enter?: string
  readonly leave?: string
  readonly verify?: string
  readonly refresh?: string
  readonly refreshEvery?: string
  readonly flagFile?: string
  readonly flagText?: string
  readonly httpEnter?: string
  readonly httpLeave?: string
  readonly httpStatus?: string
  readonly httpHeaders?: string
  readonly inside?: string
  readonly maxHold?: string
  readonly settle?: string
  readonly commandTimeout?: string
  readonly archive?: string
  readonly delete: boolean
  readonly resync?: boolean
  readonly verbose?: boolean
}

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
    .action(async (source: string | undefined, target: string | undefined, options: Options) => {
      const output = new Output(options)
      if (options.apps) {
        listApplications(output)
        return context.done(0)
      }
      if (source === undefined || target === undefined) throw usage('Name SOURCE and TARGET.')
      const printer = new MirrorPrinter(output, options)
      const { archive, inside, resync } = options
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

function modeOf(options: Options): MirrorMode {
  const { app, enter, leave, flagFile, httpEnter, httpLeave } = options
  const commands = enter !== undefined || leave !== undefined
  const http = httpEnter !== undefined || httpLeave !== undefined
  const flag = flagFile !== undefined && app === undefined
  if ([app !== undefined, commands, flag, http].filter(Boolean).length !== 1) {
    throw usage(
      'Say in one way how maintenance mode is switched: --enter and --leave, --app, --flag-file, or --http-enter and --http-leave.',
    )
  }
  refuseStray(options, { app: app !== undefined, commands, file: flagFile !== undefined, http })
  if (app !== undefined) {
    const { appDir, appUser, flagText } = options
    return { kind: 'app', name: app, ...given({ directory: appDir, user: appUser, flagFile, flagText }) }
  }
  if (commands) return commandsOf(options)
  if (flagFile !== undefined) {
    return { kind: 'flag-file', path: flagFile, ...given({ text: options.flagText }) }
  }
  if (httpEnter === undefined || httpLeave === undefined)
    throw usage('--http-enter needs --http-leave, and it that.')
  for (const url of [httpEnter, httpLeave, options.httpStatus]) checkUrl(url)
  const { httpStatus: status, httpHeaders: headersFile } = options
  return { kind: 'http', enter: httpEnter, leave: httpLeave, ...given({ status, headersFile }) }
}

function commandsOf({
  enter,
  leave,
  verify,
  refresh,
  appUser: user,
  appDir: directory,
}: Options): MirrorMode {
  if (enter === undefined || leave === undefined) throw usage('--enter needs --leave, and it that.')
  const as = given({ user, directory })
  return {
    kind: 'commands',
    enter: { run: enter, ...as },
    leave: { run: leave, ...as },
    ...(verify === undefined ? {} : { verify: { run: verify, ...as } }),
    ...(refresh === undefined ? {} : { refresh: { run: refresh, ...as } }),
  }
}

/** An option that would have no effect is a misunderstanding. */
function refuseStray(
  options: Options,
  has: { readonly app: boolean; readonly commands: boolean; readonly file: boolean; readonly http: boolean },
): void {
  const rules: readonly (readonly [name: keyof Options, flag: string, fits: boolean, wants: string])[] = [
    ['verify', '--verify', has.commands, '--enter'],
    ['refresh', '--refresh', has.commands, '--enter'],
    ['appDir', '--app-dir', has.app || has.commands, '--app or --enter'],
    ['appUser', '--app-user', has.app || has.commands, '--app or --enter'],
    ['flagText', '--flag-text', has.app || has.file, '--flag-file'],
    ['httpStatus', '--http-status', has.http, '--http-enter'],
    ['httpHeaders', '--http-headers', has.http, '--http-enter'],
  ]
  for (const [name, flag, fits, wants] of rules) {
    if (options[name] !== undefined && !fits) throw usage(`${flag} goes with ${wants}.`)
  }
}

function checkUrl(text: string | undefined): void {
  if (text === undefined) return
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw usage(`'${text}' is not an http or https address.`)
  }
  if (url.username !== '' || url.password !== '') {
    throw usage(
      'A password does not belong on the command line: put an Authorization header into --http-headers.',
    )
  }
}

function duration(option: string, text: string | undefined, leastMs: number): number | undefined {
  if (text === undefined) return undefined
  const ms = parseDuration(text)
  if (ms !== undefined && ms >= leastMs) return ms
  throw usage(`${option} takes a time such as 500ms, 30s, 5m or 1h; found '${text}'.`)
}

function usage(message: string): HotspareError {
  return new HotspareError('usage', `${message} 'hotspare mirror --help' shows how.`)
}

function listApplications(output: Output): void {
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

class MirrorPrinter {
  readonly #output: Output
  readonly #verbose: boolean
  readonly #leases: LeasePrinter

  constructor(output: Output, options: Options) {
    this.#output = output
    this.#verbose = options.verbose ?? false
    this.#leases = new LeasePrinter(output)
  }

  print(event: MirrorEvent): void {
    this.#output.object(event)
    switch (event.event) {
      case 'started': {
        const by = event.followed ? ', by the follower that runs' : ''
        this.#output.say(`Mirroring ${event.source} into ${event.target}${by}`)
        break
      }
      case 'progress': {
        const { bytes, backlogBytes } = event
        this.#output.progress(bytes, backlogBytes ? bytes + backlogBytes : undefined)
        break
      }
      case 'pass':
        this.#output.say(`before the window: ${moved(event)} in ${formatDuration(event.tookMs)}`)
        break
      case 'already-on':
        this.#output.say('maintenance mode is on already; it will be left on')
        break
      case 'entered':
        this.#output.say(`${styled('yellow', 'maintenance mode is on')}`)
        break
      case 'held':
        this.#output.say(`inside the window: ${moved(event)}`)
        break
      case 'left':
      case 'durable':
        break
      case 'archived':
        this.#output.say(
          `archived: ${event.file}, ${formatBytes(event.bytes)} in ${formatDuration(event.tookMs)}`,
        )
        break
      case 'refreshed':
        break
      case 'refresh-failed':
        this.#output.warn(`the mode could not be refreshed: ${event.message}`)
        break
      case 'leave-retrying':
        this.#output.warn(`${event.message} Trying again in ${formatDuration(event.delayMs)}.`)
        break
      case 'output':
        if (this.#verbose) this.#output.say(event.output.replace(/^/gm, `  ${event.step}: `))
        break
      case 'notice':
      case 'retrying':
        this.#output.warn(`${event.message} (${event.code})`)
        break
      case 'leaving':
      case 'left-late':
      case 'leave-failed':
        this.#leases.print(event)
        break
      default:
        event satisfies never
    }
  }
}

function moved({ bytes, files, removed }: { bytes: number; files: number; removed: number }): string {
  const gone = removed === 0 ? '' : `, ${removed} removed`
  return `${formatCount(files, 'file')}, ${formatBytes(bytes)}${gone}`
}

function conclude(report: MirrorReport, output: Output): void {
  const { changed, changedCount } = report
  if (changedCount > 0) {
    output.warn(
      `written during the window all the same (${formatCount(changedCount, 'path')}): ${changed.join(', ')}${changedCount > changed.length ? ' ...' : ''}`,
    )
  }
  const how = report.entered
    ? `the application was held for ${formatDuration(report.heldMs)}`
    : 'maintenance mode was on before, and still is'
  output.say(`${styled('green', 'done')}: ${report.target} is consistent; ${how}`)
}
