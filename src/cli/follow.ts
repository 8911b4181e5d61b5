import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { FollowEvent, ProgressEvent, RetryingEvent, StoppedEvent } from '../daemon/events.ts'
import { absolutePath } from '../daemon/paths.ts'
import { parseBytes } from '../daemon/units.ts'
import { lookAhead } from '../drivers/directory/look-ahead.ts'
import { systemClock } from '../os/clock.ts'
import { HotspareError } from '../os/errors.ts'
import { addCommand, type CommandContext, type CommonOptions, given } from './command.ts'
import { formatBytes, formatCount, formatDuration } from './format.ts'
import { Output, styled } from './output.ts'

const help = `
SOURCE is the live store: a SQLite database, or a directory of pack files. It is never written to.
TARGET is the copy. For a SQLite database it is a file, or a directory (existing, or ending in '/')
that gets it under its own name. Beside it, TARGET.hotspare/ keeps what hotspare must remember.

The copy opens at any moment once hotspare has said 'live'; open a clone of it ('hotspare clone'),
since a copy that an application writes to is a copy no more. Stop with Ctrl-C or SIGTERM, or kill
it: the next start goes on where the copy stands.

Examples:
  hotspare follow app.db /backup/app.db          follow a SQLite database until stopped
  hotspare follow app.db /backup/ --once         bring the copy up to date, and end (for cron)
  hotspare follow SALES.rdm SALES-COPY.rdm       RDM packs; the names may come without '.rdm'
  hotspare follow /var/lib/redis/appendonlydir /backup/redis-aof
  hotspare follow /srv/log /backup/log --driver packs --profile generic --pattern '*.seg'
  hotspare follow app.db /backup/app.db --resync  after the copy was changed or the source moved:
                                                 compare, and send only what differs
  hotspare follow app.db /backup/app.db --json    one JSON object a line, for a program to read`

interface Options extends CommonOptions {
  readonly driver: string
  readonly profile?: string
  readonly pattern?: string
  readonly wal?: boolean
  readonly walLimit: string
  readonly once?: boolean
  readonly delete: boolean
  readonly resync?: boolean
}

export function registerFollow(program: Command, context: CommandContext): void {
  addCommand(program, 'follow', 'keep a copy of a live store up to date', help)
    .argument('<source>', 'the live store')
    .argument('<target>', 'the copy')
    .option('--driver <name>', 'kind of store: auto, or one of `hotspare drivers`', 'auto')
    .option('--profile <name>', 'which layout of pack files: rdm, redis-aof, prometheus-wal, generic')
    .option('--pattern <glob>', 'which files are packs (profile generic)')
    .option('--wal', 'switch a SQLite database that is not in WAL mode to it')
    .option('--wal-limit <size>', "size at which a live SQLite database's log is restarted", '64MiB')
    .option('--once', 'end when the copy has caught up')
    .option('--no-delete', 'keep at the copy what is deleted at the source')
    .option('--resync', 'take the copy as it is, compare, and send the difference')
    .action(async (source: string, target: string, options: Options) => {
      const { driver, profile, pattern, wal, once, resync } = options
      // the threads begin while the rest is loaded
      if (resync !== true) lookAhead(absolutePath(source), absolutePath(target), systemClock.nowMs())
      const { follow } = await import('../daemon/follow.ts')
      const output = new Output(options)
      const printer = new FollowPrinter(output)
      await follow({
        source,
        target,
        driver,
        noDelete: !options.delete,
        walLimitBytes: walLimitBytes(options.walLimit),
        ...given({ profile, pattern, wal, once, resync }),
        signal: context.signal,
        onEvent: event => printer.print(event),
      }).finally(() => output.end())
      context.done(0)
    })
}

const walLimitBytesMin = 1024 * 1024

function walLimitBytes(text: string): number {
  const bytes = parseBytes(text)
  if (bytes !== undefined && bytes >= walLimitBytesMin) return bytes
  throw new HotspareError(
    'usage',
    `--wal-limit takes a size of 1MiB or more, such as 64MiB; found '${text}'.`,
  )
}

class FollowPrinter {
  readonly #output: Output
  #target = ''

  constructor(output: Output) {
    this.#output = output
  }

  print(event: FollowEvent): void {
    this.#output.object(event)
    switch (event.event) {
      case 'started': {
        this.#target = event.target
        const kind = event.profile === undefined ? event.driver : `${event.driver}, ${event.profile}`
        const verb = event.resumed ? 'Going on to follow' : 'Following'
        this.#output.say(`${verb} ${resolve(event.source)} (${kind}) into ${event.target}`)
        break
      }
      case 'progress':
        this.#progress(event)
        break
      case 'live': {
        const figures = `${formatBytes(event.bytes)} in ${formatDuration(event.elapsedMs)}`
        const more = event.windowed ? 'is kept up to date' : 'opens at any moment'
        const what = `the copy is complete (${figures}), and ${more} from now on`
        this.#output.say(`${styled('green', 'live')}: ${what}`)
        break
      }
      case 'behind': {
        const bytes = event.backlogBytes === undefined ? '' : `, ${formatBytes(event.backlogBytes)}`
        this.#output.say(
          `${styled('yellow', 'behind')}: the copy is ${formatDuration(event.lagMs)}${bytes} behind`,
        )
        break
      }
      case 'caught-up':
        this.#output.say(`${styled('green', 'caught up')}: the copy is up to date again`)
        break
      case 'retrying':
        this.#retrying(event)
        break
      case 'notice':
        this.#output.warn(`${event.message} (${event.code})`)
        break
      case 'stopped': {
        const moved = `${formatBytes(event.bytes)}, ${formatCount(event.transactions, 'transaction')}`
        this.#output.say(`stopped after ${moved}: ${this.#stateOf(event)}`)
        break
      }
      default:
        event satisfies never
    }
  }

  #stateOf({ consistent, complete }: StoppedEvent): string {
    if (!consistent && !complete) return 'the copy is not complete yet; start again to go on where it stopped'
    if (!complete) return `${this.#target} is a valid store`
    const window = consistent ? 'as of the last maintenance window' : "only after 'hotspare mirror'"
    return `${this.#target} is complete, and consistent ${window}`
  }

  #progress(event: ProgressEvent): void {
    const { bytes, backlogBytes, transactions, lagMs, live } = event
    const total = live || !backlogBytes ? undefined : bytes + backlogBytes
    const more = live ? `, ${formatCount(transactions, 'transaction')}, lag ${formatDuration(lagMs)}` : ''
    this.#output.progress(bytes, total, more)
  }

  /** Of a long wait only the first, second, fourth, eighth ... attempt is worth a line. */
  #retrying(event: RetryingEvent): void {
    if ((event.attempt & (event.attempt - 1)) !== 0) return
    this.#output.warn(
      `${event.message} (${event.code}); trying again, attempt ${event.attempt}, in ${formatDuration(event.delayMs)}`,
    )
  }
}
