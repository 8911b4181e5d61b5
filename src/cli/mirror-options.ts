/** From the options of `mirror` to what is meant by them. */
import type { MirrorMode } from '../daemon/mirror-mode.ts'
import { parseDuration } from '../daemon/units.ts'
import { HotspareError } from '../os/errors.ts'
import { type CommonOptions, given } from './command.ts'

export interface MirrorCommandOptions extends CommonOptions {
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

export function modeOf(options: MirrorCommandOptions): MirrorMode {
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
}: MirrorCommandOptions): MirrorMode {
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
  options: MirrorCommandOptions,
  has: { readonly app: boolean; readonly commands: boolean; readonly file: boolean; readonly http: boolean },
): void {
  const rules: readonly (readonly [
    name: keyof MirrorCommandOptions,
    flag: string,
    fits: boolean,
    wants: string,
  ])[] = [
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

export function duration(option: string, text: string | undefined, leastMs: number): number | undefined {
  if (text === undefined) return undefined
  const ms = parseDuration(text)
  if (ms !== undefined && ms >= leastMs) return ms
  throw usage(`${option} takes a time such as 500ms, 30s, 5m or 1h; found '${text}'.`)
}

export function usage(message: string): HotspareError {
  return new HotspareError('usage', `${message} 'hotspare mirror --help' shows how.`)
}
