/**
 * Maintenance modes of known applications: what `--app` stands for.
 *
 * Sources: Nextcloud core/Command/Maintenance/Mode.php; drush.org maint:set and maint:status (11.5 and later); WordPress
 * wp-cli/maintenance-mode-command and wp_is_maintenance_mode() (10 minutes); MediaWiki Manual:$wgReadOnlyFile; Moodle
 * admin/cli/maintenance.php; phpBB console commands config:set and config:get; Discourse lib/discourse.rb.
 */
import { HotspareError } from '../os/errors.ts'
import { commandText } from '../os/run-command.ts'
import type { Mode, ModeCommand, Verification } from './mode.ts'

export interface ApplicationPlace {
  /** Where the application is installed. Absolute. */
  readonly directory: string
  /** As whom its commands run: its web server's user. */
  readonly user?: string
  /** In place of the application's own, for modes that are a file. Absolute. */
  readonly flagFile?: string
  readonly flagText?: string
}

export interface ApplicationMode {
  readonly mode: Mode
  /** For requests that had begun before the mode was on: the application does not wait for them by itself. */
  readonly settleMs: number
  /** The mode ends by itself after this. */
  readonly expiresMs?: number
  readonly refreshEveryMs?: number
}

export interface Application {
  readonly name: string
  readonly title: string
  /** What has to be known, or done once. */
  readonly note: string
  mode(place: ApplicationPlace): ApplicationMode
}

/** Web applications finish a request within this, but for uploads; those are seen as writes during the window. */
const requestMs = 500
const minuteMs = 60_000

export const flagTextDefault = 'A backup is being made. Please try again in a moment.'

export const applications: readonly Application[] = [
  {
    name: 'nextcloud',
    title: 'Nextcloud',
    note: 'readers are locked out too; give --app-user (www-data)',
    mode: place => {
      const occ = at(place, 'php', 'occ', 'maintenance:mode')
      return commands({
        enter: occ('--on'),
        leave: occ('--off'),
        verify: { ...occ(), on: { prints: 'currently enabled' }, off: { prints: 'currently disabled' } },
      })
    },
  },
  {
    name: 'drupal',
    title: 'Drupal',
    note: 'needs drush 11.5 or later, on the PATH or in vendor/bin; administrators can still write',
    mode: place => {
      const drush = (words: string): ModeCommand =>
        shellAt(place, `PATH="vendor/bin:../vendor/bin:$PATH" exec drush --no-interaction ${words}`)
      return commands({
        enter: drush('maint:set 1'),
        leave: drush('maint:set 0'),
        verify: { ...drush('maint:status'), on: { exit: 3 }, off: { exit: 0 } },
      })
    },
  },
  {
    name: 'wordpress',
    title: 'WordPress',
    note: 'needs wp-cli; the mode ends by itself after 10 minutes and is refreshed; wp-cron by the command line can still write',
    mode: place => {
      const wp = at(place, 'wp', '--no-color', 'maintenance-mode')
      return {
        ...commands({
          enter: wp('activate', '--force'),
          leave: wp('deactivate'),
          // wp's own is-active says yes of a file that is too old to count
          verify: shellAt(place, 'test -n "$(find .maintenance -mmin -10 2>/dev/null)"'),
          refresh: wp('activate', '--force'),
        }),
        refreshEveryMs: 2 * minuteMs,
        expiresMs: 9 * minuteMs,
      }
    },
  },
  {
    name: 'mediawiki',
    title: 'MediaWiki',
    note: 'the file that $wgReadOnlyFile names: images/lock_yBgMBwiR unless --flag-file says otherwise',
    mode: place => flag(place, `${place.directory}/images/lock_yBgMBwiR`, requestMs),
  },
  {
    name: 'moodle',
    title: 'Moodle',
    note: 'readers are locked out too; SOURCE is usually moodledata, so give --app-dir and --app-user (www-data)',
    mode: place => {
      const maintenance = at(place, 'php', 'admin/cli/maintenance.php')
      // what the script prints of its state is in the site's language
      const state =
        'define("CLI_SCRIPT", true); require "./config.php"; exit(!empty($CFG->maintenance_enabled) || file_exists("$CFG->dataroot/climaintenance.html") ? 0 : 3);'
      return commands({
        enter: maintenance('--enable'),
        leave: maintenance('--disable'),
        verify: { ...at(place, 'php', '-r', state)(), on: { exit: 0 }, off: { exit: 3 } },
      })
    },
  },
  {
    name: 'phpbb',
    title: 'phpBB',
    note: 'administrators and moderators can still write; give --app-user (www-data)',
    mode: place => {
      const config = at(place, 'php', 'bin/phpbbcli.php', '--no-ansi')
      return commands({
        enter: config('config:set', 'board_disable', '1'),
        leave: config('config:set', 'board_disable', '0'),
        verify: {
          ...config('config:get', 'board_disable'),
          on: { prints: '^1\\s*$' },
          off: { prints: '^0?\\s*$' },
        },
      })
    },
  },
  {
    name: 'discourse',
    title: 'Discourse',
    note: 'run inside its container (./launcher enter app) with --app-dir /var/www/discourse; each step starts Rails, which takes seconds',
    mode: place => {
      const runner = (ruby: string): ModeCommand =>
        at(place, 'env', 'RAILS_ENV=production', 'bundle', 'exec', 'rails', 'runner')(ruby)
      const key = 'Discourse::USER_READONLY_MODE_KEY'
      return commands({
        enter: runner(`Discourse.enable_readonly_mode(${key})`),
        leave: runner(`Discourse.disable_readonly_mode(${key})`),
        verify: {
          ...runner(`exit(Discourse.redis.get(${key}) ? 0 : 3)`),
          on: { exit: 0 },
          off: { exit: 3 },
        },
      })
    },
  },
  {
    name: 'discus',
    title: 'A board of the Discus kind',
    note: 'a flag file, maintenance.lock in --app-dir unless --flag-file says otherwise; the administrator can still write',
    mode: place => flag(place, `${place.directory}/maintenance.lock`, requestMs),
  },
  {
    name: 'dokuwiki',
    title: 'DokuWiki',
    note: 'has no mode of its own: first install the gate of docs/recipes/dokuwiki.md; requests wait at it, and none is refused',
    mode: () => {
      const gate = '/run/dokuwiki'
      const waited = `flock -w 30 ${gate}/requests true`
      return {
        ...commands({
          enter: { run: `touch ${gate}/maintenance && ${waited}` },
          leave: { run: `rm -f ${gate}/maintenance` },
          verify: { run: `test -e ${gate}/maintenance` },
        }),
        settleMs: 0,
      }
    },
  },
]

export function applicationNamed(name: string): Application {
  const found = applications.find(application => application.name === name)
  if (found !== undefined) return found
  const known = applications.map(application => application.name).join(', ')
  throw new HotspareError('usage', `There is no application '${name}'. There are: ${known}.`)
}

/** What a mode runs, as a person would write it. */
export function describeMode(mode: Mode): readonly (readonly [step: string, text: string])[] {
  switch (mode.kind) {
    case 'flag-file':
      return [['file', mode.path]]
    case 'http':
      return [
        ['enter', `POST ${mode.enter}`],
        ['leave', `POST ${mode.leave}`],
      ]
    case 'commands': {
      const steps = [
        ['enter', mode.enter],
        ['verify', mode.verify],
        ['refresh', mode.refresh],
        ['leave', mode.leave],
      ] as const
      return steps.flatMap(([step, command]) =>
        command === undefined ? [] : [[step, commandText(command)] as const],
      )
    }
  }
}

function commands(steps: {
  readonly enter: ModeCommand
  readonly leave: ModeCommand
  readonly verify: Verification
  readonly refresh?: ModeCommand
}): ApplicationMode {
  return { mode: { kind: 'commands', ...steps }, settleMs: requestMs }
}

function flag(place: ApplicationPlace, path: string, settleMs: number): ApplicationMode {
  const text = place.flagText ?? flagTextDefault
  return { mode: { kind: 'flag-file', path: place.flagFile ?? path, text }, settleMs }
}

function at(place: ApplicationPlace, ...program: string[]): (...words: string[]) => ModeCommand {
  return (...words) => ({ run: [...program, ...words], ...located(place) })
}

function shellAt(place: ApplicationPlace, text: string): ModeCommand {
  return { run: text, ...located(place) }
}

function located({ directory, user }: ApplicationPlace): Pick<ModeCommand, 'directory' | 'user'> {
  return { directory, ...(user === undefined ? {} : { user }) }
}
